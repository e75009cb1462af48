"""The HTTP session that webhook and Web API share, and what it means when a request fails."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import aiohttp

from app.errors import DeliveryFailed, Scope
from app.notifier.base import SEND_TIMEOUT, Parcel

_T = TypeVar("_T")

MANY_ALERTS = 50  # from here on composing takes milliseconds, in which Port would wait for its answer
KEEPALIVE_SECONDS = 3.0  # a server that closes an idle connection just as we use it would cost the attempt


class SlackSession:
    """An aiohttp session that opens when it is first needed, and again after it was closed.

    Args:
        logger: The name of the logger that slack_sdk is to use.
        answer_within: How long a request may take.

    Attributes:
        log: That logger.
    """

    def __init__(self, logger: str, answer_within: timedelta = SEND_TIMEOUT) -> None:
        # slack_sdk logs addresses, tokens and messages as soon as its logger lets DEBUG through.
        self.log = logging.getLogger(logger)
        self.log.setLevel(logging.INFO)
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

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            # aiohttp closes connections in the background: see its "Graceful shutdown".
            await asyncio.sleep(0)


async def compose_apart(compose: Callable[[Parcel], _T], parcel: Parcel) -> _T:
    """Compose a message; one of many alerts in a thread: meanwhile the event loop has to answer Port."""
    return await asyncio.to_thread(compose, parcel) if len(parcel.items) > MANY_ALERTS else compose(parcel)


async def _refuse_redirect(*_: object) -> None:
    # slack_sdk would follow it, and somebody else's "ok" would count as Slack's.
    raise DeliveryFailed("a redirect: not an answer of Slack's", Scope.TRANSIENT)


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
