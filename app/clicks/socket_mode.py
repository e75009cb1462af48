"""Slack's Socket Mode: clicks come over a WebSocket that this process opens, so it needs no public address.

A small client of our own behind a watchdog. slack_sdk's asks once a second for ever with a revoked token, and
does not always notice that a connection is dead.

Rules: https://docs.slack.dev/apis/events-api/using-socket-mode,
https://docs.slack.dev/reference/methods/apps.connections.open
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from app.clicks.app_token import LINK_DISABLED, advised, ask_for_socket
from app.errors import DeliveryFailed, Scope, SettingsError, StoreUnavailable
from app.network import DIRECT, Network
from app.notifier.slack.session import SlackSession, asking_slack
from app.notifier.slack.web_api import ApiAnswer, SlackApi

log = structlog.get_logger(__name__)

CLICK_SECONDS = 2.5
"""Slack tells the person after 3 s that the click failed."""
MAX_AT_ONCE = 32
MAX_FRAME_BYTES = 4 * 1024 * 1024
HANDSHAKE_SECONDS = 1.0  # Slack does not end the TCP connection after the closing handshake
PLANNED = frozenset({"warning", "refresh_requested"})
"""Reasons for which Slack asks for a new connection, and still uses the old one for some seconds."""
Take = Callable[[Mapping[str, Any], str], Awaitable[Mapping[str, Any] | None]]
"""Does what a payload asks for, by an envelope of this id; what it gives is Slack's answer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a socket is, in seconds.

    Attributes:
        pong: So long nothing may come before the connection counts as dead.
        first: The first pause before a new connection; it doubles.
        longest: The longest pause, and the one after a token was refused.
        steady: A connection that lasted so long was a good one: the next is opened at once.
        linger: So long an old connection is read after Slack has asked for a new one.
    """

    pong: float = 30.0
    first: float = 1.0
    longest: float = 300.0
    steady: float = 10.0
    linger: float = 30.0


@dataclass(slots=True, eq=False)
class _Connection:
    session: aiohttp.ClientSession
    ws: aiohttp.ClientWebSocketResponse
    over: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = "closed"
    greeted: bool = False


class SlackSocket:
    """Keeps one connection to Slack open, and answers each envelope that comes over it.

    Args:
        token: The app-level token: a secret.
        api_url: The address of Slack's Web API.
        take: Does what an envelope asks for.
        clock: Gives the time, UTC.
        jitter: Gives random numbers from -1 to 1.
        network: The way to Slack.
        pace: How patient it is.

    Attributes:
        trouble: Why there is no connection; empty: there is one; None: that is not known yet.
        changed: Set when that has changed.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        token: str,
        api_url: str,
        take: Take,
        *,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        network: Network = DIRECT,
        pace: Pace = Pace(),
    ) -> None:
        self._session = SlackSession("slack_sdk.web", api_url, clock, network, answer=ApiAnswer)
        self._api = SlackApi(token, api_url, self._session)
        self._secure = urlsplit(api_url).scheme == "https"
        self._take, self._jitter = take, jitter
        self._network, self._pace = network, pace
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self.trouble: str | None = None
        self.changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether Slack has greeted a connection that is open."""
        return any(connection.greeted for connection in self._connections)

    async def run(self) -> None:
        """Stay connected until this is cancelled."""
        failures = 0
        try:
            while True:
                began, wait = asyncio.get_running_loop().time(), 0.0
                try:
                    connection = await self._open()
                except DeliveryFailed as failed:
                    reason, refused = failed.reason, failed.scope is Scope.DESTINATION
                    wait = failed.retry_after.total_seconds() if failed.retry_after else 0.0
                else:
                    await connection.over.wait()
                    reason, refused = connection.reason, connection.reason == LINK_DISABLED
                lasted = asyncio.get_running_loop().time() - began
                failures = 0 if lasted >= self._pace.steady else failures + 1
                planned = reason in PLANNED and failures <= 1
                if not planned:
                    self._lost(reason, refused=refused)
                    wait = max(wait, self._pause(failures, refused=refused))
                await asyncio.sleep(wait)
        finally:
            await self._close()

    def _pause(self, failures: int, *, refused: bool) -> float:
        if refused:
            return self._pace.longest
        doubled = self._pace.first * 2 ** min(failures - 1, 20) if failures else 0.0
        return min(self._pace.longest, doubled) * (1 + 0.2 * self._jitter())

    def _lost(self, reason: str, *, refused: bool) -> None:
        if self.connected:
            return
        trouble = advised(reason) if refused else reason
        if trouble != self.trouble:  # said once: it may be so for hours
            if refused:
                log.error("slack_socket_refused", reason=trouble)
            else:
                log.warning("slack_socket_lost", reason=trouble)
        self._is_now(trouble)

    def _is_now(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self.changed.set()

    async def _open(self) -> _Connection:
        url = await ask_for_socket(self._api, secure=self._secure)
        # To a proxy and to NO_PROXY it is an address like any other.
        plain = f"http{url.removeprefix('ws')}"
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._pace.pong))
        try:
            with asking_slack(urlsplit(url).hostname or "", sends=False):
                ws = await session.ws_connect(
                    plain,
                    proxy=self._network.proxy(plain),
                    ssl=self._network.tls_for(plain),
                    # aiohttp waits half as long again for the pong.
                    heartbeat=self._pace.pong * 2 / 3,
                    timeout=aiohttp.ClientWSTimeout(ws_close=HANDSHAKE_SECONDS),
                    max_msg_size=MAX_FRAME_BYTES,
                )
        except SettingsError as error:
            await session.close()
            raise DeliveryFailed(str(error), Scope.TRANSIENT) from None
        except BaseException:
            await session.close()
            raise
        connection = _Connection(session, ws)
        self._connections.add(connection)
        self._spawn(self._read(connection), self._tasks)
        return connection

    async def _read(self, connection: _Connection) -> None:
        """Take what comes over a connection until it is closed."""
        try:
            async for message in connection.ws:
                if message.type is aiohttp.WSMsgType.ERROR:
                    break
                try:
                    envelope = message.json()
                except (ValueError, RecursionError):
                    continue
                if isinstance(envelope, dict):
                    self._heed(connection, envelope)
            if isinstance(connection.ws.exception(), aiohttp.ServerTimeoutError):
                connection.reason = f"no pong for {self._pace.pong:g} s"
        finally:
            connection.over.set()
            self._connections.discard(connection)
            try:
                with suppress(Exception):
                    await connection.ws.close()
            finally:  # also where a stop does not wait for Slack's answer
                await connection.session.close()

    def _heed(self, connection: _Connection, envelope: Mapping[str, Any]) -> None:
        match envelope.get("type"):
            case "hello":
                connection.greeted = True
                self._is_now("")
                log.info("slack_socket_connected")
            case "disconnect":
                connection.reason = str(envelope.get("reason"))[:100]
                connection.over.set()
                # From here on Slack sends to the next connection; what is under way comes over this one.
                connection.greeted = connection.reason in PLANNED
                self._spawn(self._end(connection), self._tasks)
            case _:
                if isinstance(envelope.get("envelope_id"), str):
                    self._spawn(self._answer(connection, envelope), self._answers)

    async def _end(self, connection: _Connection) -> None:
        await asyncio.sleep(self._pace.linger if connection.reason in PLANNED else 0)
        await connection.ws.close()

    async def _answer(self, connection: _Connection, envelope: Mapping[str, Any]) -> None:
        """Do what an envelope asks for, and acknowledge it; not if it could not be done: Slack says so."""
        answer: Mapping[str, Any] | None = None
        envelope_id: str = envelope["envelope_id"]
        if envelope.get("type") == "interactive":
            try:
                async with self._at_once, asyncio.timeout(CLICK_SECONDS):
                    answer = await self._take(envelope.get("payload") or {}, envelope_id)
            except (StoreUnavailable, TimeoutError) as error:
                log.warning("click_not_stored", reason=str(error) or "it takes too long")
                return
            except ValueError:
                log.warning("click_unreadable")
            except Exception:  # whatever it is, the next click must be taken
                log.exception("click_fault")
                return
        with suppress(ConnectionError, aiohttp.ClientError):  # it comes again over the next connection
            await connection.ws.send_json(
                {"envelope_id": envelope_id, **({"payload": answer} if answer else {})}
            )

    @staticmethod
    def _spawn(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(tasks.discard)

    async def _close(self) -> None:
        # What was clicked is done and answered; everything else ends at once.
        answers, self._answers = self._answers, set()
        await asyncio.gather(*answers, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
