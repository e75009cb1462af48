"""What webhook and bot token share: how they compose, the HTTP session, and what a failed request means."""

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from app.errors import DeliveryFailed, Scope
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.network import DIRECT, Network
from app.notifier.base import SEND_TIMEOUT, Notifier, Parcel
from app.notifier.slack.compose import Composed, compose, recompose

_Client = TypeVar("_Client", AsyncWebClient, AsyncWebhookClient)

MANY_ALERTS = 50  # from here on composing takes milliseconds, in which Port would wait for its answer
KEEPALIVE_SECONDS = 3.0  # a server that closes an idle connection just as we use it would cost the attempt


class SlackSession:
    """An aiohttp session that opens when it is first needed, and again after it was closed.

    Args:
        logger: The name of slack_sdk's logger.
        url: The address that is called.
        network: The way to it.
        answer_within: How long an answer may take.

    Attributes:
        log: The logger that slack_sdk is to use.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """

    def __init__(
        self, logger: str, url: str, network: Network = DIRECT, answer_within: timedelta = SEND_TIMEOUT
    ) -> None:
        # slack_sdk logs addresses, tokens and messages as soon as its logger lets DEBUG through.
        self.log = logging.getLogger(logger)
        self.log.setLevel(logging.INFO)
        self._proxy, self._tls = network.proxy(url), network.tls_for(url)
        self._timeout = aiohttp.ClientTimeout(total=answer_within.total_seconds())
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> aiohttp.ClientSession:
        """Open the session, which follows no redirect, unless it is open."""
        if self._session is None or self._session.closed:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            connector = aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, trace_configs=[trace]
            )
        return self._session

    def route(self, client: _Client) -> _Client:
        """Give one of slack_sdk's clients the way to its address, and return it."""
        # Not by its arguments: without one, it would take a proxy of the environment, and knows no NO_PROXY.
        client.proxy, client.ssl = self._proxy, self._tls
        return client

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            # aiohttp closes connections in the background: see its "Graceful shutdown".
            await asyncio.sleep(0)


class SlackNotifier(Notifier):
    """A notifier for one channel.

    Args:
        session: The connections.
        app_url: The address of Port's app, for the links to the entities.
        pause: How long to rest after each message; Slack takes one a second in each channel.
        group_by: What the lines under one heading of a digest have in common.
        digest_after: How many alerts may wait before they go out as one message.
        page_url: The address of the page that lists what a digest has no room for; None: there is none.
    """

    batch_limit = 1000

    def __init__(
        self,
        session: SlackSession,
        app_url: str,
        *,
        pause: timedelta = timedelta(seconds=1),
        group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
        digest_after: int = 1,
        page_url: str | None = None,
    ) -> None:
        self.pause = pause
        self._session = session
        self._compose_here = partial(
            compose, app_url=app_url, group_by=group_by, digest_after=digest_after, page_url=page_url
        )
        self._recompose = partial(recompose, app_url=app_url, group_by=group_by)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _compose(self, parcel: Parcel) -> Composed:
        # Many alerts in a thread: meanwhile the event loop has to answer Port.
        many = len(parcel.items) > MANY_ALERTS
        return await asyncio.to_thread(self._compose_here, parcel) if many else self._compose_here(parcel)


async def _refuse_redirect(*_: object) -> None:
    # slack_sdk would follow it, and somebody else's "ok" would count as Slack's.
    raise DeliveryFailed("a redirect: not an answer from Slack", Scope.TRANSIENT)


@contextmanager
def asking_slack(*, sends: bool = True) -> Iterator[None]:
    """Turn the errors of a request into `DeliveryFailed`.

    Args:
        sends: Whether the request posts a message, which may have arrived though the answer did not.

    Raises:
        DeliveryFailed: There was no answer that can be read.
    """
    # Never the error's own text: the address may stand in it, and in a webhook's address a secret.
    arrived = "; it may have arrived" if sends else ""
    try:
        yield
    except TimeoutError:
        raise DeliveryFailed(f"no answer in time{arrived}", Scope.TRANSIENT, unsure=sends) from None
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
        raise DeliveryFailed(f"no connection ({type(error).__name__})", Scope.TRANSIENT) from None
    except (aiohttp.ClientError, OSError) as error:
        reason = f"the connection ended before the answer ({type(error).__name__}){arrived}"
        raise DeliveryFailed(reason, Scope.TRANSIENT, unsure=sends) from None
    except (UnicodeDecodeError, LookupError):
        raise DeliveryFailed("an answer that is no text", Scope.TRANSIENT, unsure=sends) from None


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Parse the ``Retry-After`` header, in seconds; None: there is none, or it is not a usable number."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(text)
    except ValueError:
        return None
    return timedelta(seconds=seconds) if math.isfinite(seconds) and 0 <= seconds < 1e9 else None
