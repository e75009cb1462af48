"""What webhook and bot token share: how they compose, the HTTP session, and what a failed request means."""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.model.times import parse_retry_after
from app.network import DIRECT, Network
from app.notifier.base import SEND_TIMEOUT, Notifier, Parcel, Tried
from app.notifier.http.answer import ShortAnswer, failure_of_error
from app.notifier.http.guard import Connector
from app.notifier.slack.compose import Composed, compose, named_only, recompose

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient
    from slack_sdk.webhook.async_client import AsyncWebhookClient

    from app.notifier.slack.people import People

_Client = TypeVar("_Client", "AsyncWebClient", "AsyncWebhookClient")
_T = TypeVar("_T")

NO_TOKEN = "without SLACK_BOT_TOKEN people of the catalog are only named, and not called"  # noqa: S105
MANY_ALERTS = 50  # from here on composing takes milliseconds, in which Port would wait for its answer
USUAL_TURN_SECONDS, SHORT_TURN_SECONDS = sys.getswitchinterval(), 0.0002
"""How long a thread keeps Python's lock from the others."""
CONNECTING_SHARE = 0.4  # of the time for an answer
KEEPALIVE_SECONDS = 3.0  # a server that closes an idle connection just as we use it would cost the attempt


class SlackSession:
    """An aiohttp session that opens when it is first needed, and again after it was closed.

    Args:
        logger: The name of slack_sdk's logger.
        url: The address that is called.
        network: The way to it.
        answer_within: How long an answer may take.
        answer: How much of one is read.

    Attributes:
        log: The logger that slack_sdk is to use.
        clock: Gives the time, UTC, to which a date in an answer is compared.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        logger: str,
        url: str,
        clock: Callable[[], datetime],
        network: Network = DIRECT,
        answer_within: timedelta = SEND_TIMEOUT,
        answer: type[ShortAnswer] = ShortAnswer,
    ) -> None:
        self._answer = answer
        self.clock = clock
        # slack_sdk logs addresses, tokens and messages as soon as its logger lets DEBUG through.
        self.log = logging.getLogger(logger)
        self.log.setLevel(logging.INFO)
        self._proxy, self._tls = network.proxy(url), network.tls_for(url)
        # A time for the connection alone: when that is over, it is known that nothing was sent.
        total = answer_within.total_seconds()
        self._timeout = aiohttp.ClientTimeout(total=total, connect=total * CONNECTING_SHARE)
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> aiohttp.ClientSession:
        """Open the session, which follows no redirect, unless it is open."""
        if self._session is None or self._session.closed:
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            connector = Connector(keepalive_timeout=KEEPALIVE_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trace_configs=[trace],
                response_class=self._answer,
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
        page_url: The address of this listener's own page; None: there is none.
        people: Finds whom alerts call; None: nobody can be asked, so they are named.
        calls_people: Whether rules call people whom the catalog names.
        closable: The rules whose incidents a person may end by a button; None: no message has buttons,
            because no click would arrive.
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
        people: "People | None" = None,
        calls_people: bool = False,
        closable: frozenset[str] | None = None,
    ) -> None:
        self._calls_people = calls_people
        self.pause = pause
        self._people = people
        self._session = session
        self._compose_here = partial(
            compose,
            app_url=app_url,
            group_by=group_by,
            digest_after=digest_after,
            page_url=page_url,
            closable=closable,
        )
        self._recompose = partial(
            recompose, app_url=app_url, group_by=group_by, page_url=page_url, closable=closable
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        if self._people is not None:
            await self._people.close()

    async def _with_people(self, tried: Tried) -> Tried:
        """Add what keeps alerts from calling people whom the catalog names."""
        if not self._calls_people:
            return tried
        note = await self._people.note() if self._people is not None else NO_TOKEN
        return replace(tried, note="; ".join(filter(None, (tried.note, note))))

    async def _compose(self, parcel: Parcel) -> Composed:
        parcel = await self._people.call(parcel) if self._people is not None else named_only(parcel)
        # Many alerts in a thread: meanwhile the event loop has to answer Port.
        many = len(parcel.items) > MANY_ALERTS
        return await asyncio.to_thread(self._compose_aside, parcel) if many else self._compose_here(parcel)

    def _compose_aside(self, parcel: Parcel) -> Composed:
        # A transaction gives the lock away at each of its statements: it would take ten times as long.
        sys.setswitchinterval(SHORT_TURN_SECONDS)
        try:
            return self._compose_here(parcel)
        finally:
            sys.setswitchinterval(USUAL_TURN_SECONDS)


async def in_simpler_forms(
    forms: Iterable[tuple[str, dict[str, Any]]],
    post: Callable[[dict[str, Any]], Awaitable[_T]],
    besides: Collection[str] = (),
) -> tuple[str, _T]:
    """Post a message; while Slack refuses it for what it is, try the next form.

    Args:
        forms: The message's forms, each with words for what it lacks, as `app.notifier.slack.compose.forms`
            yields them.
        post: Posts one.
        besides: Slack's words for what no form changes.

    Returns:
        ``ok``, with how it went where that was not the first form, for a person; and what `post` returned.

    Raises:
        DeliveryFailed: Slack refused the last form, or something else went wrong before.
    """
    first, left = "", deque(forms)
    while True:
        how, form = left.popleft()
        try:
            answer = await post(form)
        except DeliveryFailed as failed:
            # A word of Slack's that nobody knows may be about the form; a proxy's page is about nothing.
            unknown = failed.scope is Scope.STRANGE and failed.reason.isidentifier()
            of_form = (failed.scope is Scope.MESSAGE or unknown) and failed.reason not in besides
            if "metadata" in failed.reason and "metadata" in form:  # nobody sees it
                left.appendleft(("without metadata", form))
                left = deque((how, {k: v for k, v in form.items() if k != "metadata"}) for how, form in left)
            if not of_form or not left or isinstance(failed, MessageGone):
                raise
            first = first or failed.reason
        else:
            return (f"ok, {how}, because Slack answered {first}" if first else "ok"), answer


async def _refuse_redirect(*_: object) -> None:
    # slack_sdk would follow it, and somebody else's "ok" would count as Slack's.
    raise DeliveryFailed("a redirect: not an answer from Slack", Scope.STRANGE)


@contextmanager
def asking_slack(host: str, *, sends: bool = True) -> Iterator[None]:
    """Turn the errors of a request into `DeliveryFailed`.

    Args:
        host: The host that is called.
        sends: Whether the request posts a message, which may have arrived though the answer did not.

    Raises:
        DeliveryFailed: There was no answer that can be read.
    """
    try:
        yield
    except (UnicodeDecodeError, LookupError):
        raise DeliveryFailed("an answer that is no text", Scope.STRANGE, unsure=sends) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise failure_of_error(error, host, sends=sends) from None


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Parse an answer's ``Retry-After``, whatever the case of its name; None: there is none to be read."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return parse_retry_after(text, now)
