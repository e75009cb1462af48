"""Sends requests to Port's API: one token for all, waits and second tries, and errors that say what to do.

Rules: https://docs.port.io/api-reference/port-api
"""

import asyncio
import re
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

import httpx

from app.errors import PortError, SettingsError
from app.model.notification import one_line
from app.model.times import clock_ahead
from app.network import DIRECT, Network
from app.port.refusal import (
    MAX_REFUSAL_CHARS,
    advice,
    asked_wait,
    caused_by,
    message,
    rate_limit_wait,
    why_unreached,
)
from app.port.region import Region
from app.port.token import SharedToken, read_token
from app.receive.event import Json

CALL_SECONDS = 30.0  # in which something must come
MAX_CALL_SECONDS = 60.0
"""So long a call may take, its whole answer included."""
MAX_CONTENT_BYTES = 32 * 1024 * 1024
"""So large an answer may be, unpacked: a page of entities takes a hundredth."""
GZIP = 16 + zlib.MAX_WBITS
PAUSES_SECONDS = (1.0, 3.0)  # between the tries of a call that Port or the network failed
MAX_RATE_LIMIT_WAITS = 5
LOG_IN = "/v1/auth/access_token"


OF_THE_CONTENT = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request to Port's API.

    Attributes:
        method: ``GET``, ``POST`` …
        path: With ``/v1``, each identifier quoted.
        query: The query parameters.
        body: The JSON body, if it has one.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class _Sending:
    """Sees whether any of a request has left: a proxy's refusal looks like one of the host.

    Source: https://www.encode.io/httpcore/extensions/#trace
    """

    begun = False

    async def trace(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started") and details["request"].method != b"CONNECT":
            self.begun = True


class Transport:
    """A way to Port's API, for one organization. Use it as an async context manager, or `close` it.

    It fetches a token, which all calls share, waits when Port limits the rate, and tries again what failed
    for no fault of ours. When that does not help, `call` raises `PortError`.

    Args:
        base_url: Where the API is; a ``/v1`` or a ``/`` at its end does no harm.
        client_id: The organization's client id.
        client_secret: Its client secret. It appears in no error.
        clock: Gives the time, UTC.
        sleep: Waits for so many seconds.
        progress: Called with a line that says why a call takes longer.
        network: The way to it.
        dry_run: Send only what reads (GET), and put everything else into `planned`.
        patient: Wait and try again. Where a queue of the outbox waits instead, and a call has some seconds
            only, give False: what Port or the network failed, 429 too, is an error at once.

    Attributes:
        ahead: By how much the clock is ahead of Port's, by the last answer.

    Raises:
        SettingsError: `base_url` is not a URL, or the environment's proxy or certificates cannot be used.
    """

    ahead = timedelta(0)

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        progress: Callable[[str], None] = lambda _: None,
        network: Network = DIRECT,
        dry_run: bool = False,
        patient: bool = True,
    ) -> None:
        self.base_url = re.sub(r"/*(/v1)?/*$", "", base_url)
        if not re.match(r"https?://[^\s/]+", self.base_url):
            raise SettingsError(f"PORT_API_URL must be a URL such as {Region.EU.api_url}")
        self.dry_run = dry_run
        self.planned: list[Request] = []
        self.sleep = sleep
        self.progress = progress
        self._patient = patient
        self._credentials = {"clientId": client_id, "clientSecret": client_secret}
        self._clock = clock
        self._token = SharedToken(self._log_in, clock)
        self._http = httpx.AsyncClient(
            timeout=CALL_SECONDS, headers={"Accept-Encoding": "gzip"}, **network.httpx(self.base_url)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, request: Request, *, repeatable: bool | None = None) -> Json:
        """Send a request with a token, and return the answer's object; `repeatable`: twice does no harm."""
        if self.dry_run and request.method != "GET":
            self.planned.append(request)
            return {}
        # A POST may have been done although its answer was lost.
        may_repeat = request.method != "POST" if repeatable is None else repeatable
        token = await self._token.get()
        answer = await self._send(request, may_repeat, token)
        # Once: the token may have been revoked before its end. A second 401 is about the credentials.
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            token = await self._token.get(refused=token)
            answer = await self._send(request, may_repeat, token)
        return self._read(request, answer)

    async def _log_in(self) -> tuple[str, timedelta | None]:
        request = Request("POST", LOG_IN, body=self._credentials)
        token = read_token(self._read(request, await self._send(request, repeatable=True)))
        if token is None:
            raise self.no_port(request)
        return token

    async def _send(self, request: Request, repeatable: bool, token: str = "") -> httpx.Response:
        waits, pauses = (0, iter(PAUSES_SECONDS)) if self._patient else (MAX_RATE_LIMIT_WAITS, iter(()))
        while True:
            sending = _Sending()
            try:
                answer = await self._ask(request, token, sending)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # Without a connection nothing can have been done, so that even a POST may be repeated.
                harmless = repeatable or not sending.begun
                pause = next(pauses, None) if harmless else None
                if pause is None:
                    raise self._unreachable(request, error, harmless) from None
                reason = "Port cannot be reached"
            else:
                if answer.status_code == httpx.codes.TOO_MANY_REQUESTS and waits < MAX_RATE_LIMIT_WAITS:
                    waits += 1
                    pause = rate_limit_wait(answer.headers, self._clock())
                    reason = f"Port limits the rate ({waits} of {MAX_RATE_LIMIT_WAITS})"
                elif answer.status_code >= 500 and repeatable and (next_pause := next(pauses, None)):
                    pause, reason = next_pause, f"Port answered {answer.status_code}"
                else:
                    return answer
            self.progress(f"{reason}: waiting {pause:.0f} s, then {request} again")
            await self.sleep(pause)

    async def _ask(self, request: Request, token: str, sending: _Sending) -> httpx.Response:
        asked = self._http.stream(
            request.method,
            self.base_url + request.path,
            params=dict(request.query),
            json=request.body,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            extensions={"trace": sending.trace},
        )
        try:
            async with asyncio.timeout(MAX_CALL_SECONDS), asked as answer:
                body = await _content(answer)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer in {MAX_CALL_SECONDS:.0f} s") from None
        if body is None:
            raise self.no_port(request, answer.status_code)
        self.ahead = clock_ahead(answer.headers.get("date"), self._clock())
        headers = [header for header in answer.headers.raw if header[0].lower() not in OF_THE_CONTENT]
        return httpx.Response(answer.status_code, headers=headers, content=body)

    def _read(self, request: Request, answer: httpx.Response) -> Json:
        try:
            body = answer.json() if answer.content else {}
        except (ValueError, RecursionError):  # of one that is nested endlessly
            body = None
        if answer.is_success and isinstance(body, dict) and body.get("ok") is not False:
            return body
        # Port answers JSON and never redirects: this is a proxy's page, or another product.
        if answer.is_success or answer.is_redirect:
            raise self.no_port(request, answer.status_code)
        raise PortError(
            str(request),
            one_line(self._hide(message(body, answer)), MAX_REFUSAL_CHARS),
            advice(answer.status_code, self.base_url, logging_in=request.path == LOG_IN),
            status=answer.status_code,
            trace_id=one_line(self._hide(answer.headers.get("x-trace-id", "")), 100),
            retry_after=asked_wait(answer.status_code, answer.headers, self._clock()),
        )

    def no_port(self, request: Request, status: int = httpx.codes.OK) -> PortError:
        """Make the error of an answer, by its status a success or a redirect, that is not from Port's API."""
        reason = "that is not an answer of Port's API"
        return PortError(str(request), reason, f"Is PORT_API_URL right? It is {self.base_url}", status=status)

    def _unreachable(self, request: Request, error: Exception, harmless: bool) -> PortError:
        reason = one_line(self._hide(why_unreached(error)), MAX_REFUSAL_CHARS)
        reason = f"cannot reach {self.base_url}: {reason}" + ("" if harmless else "; it may have arrived")
        remedy = "Check the network, the proxy settings (HTTPS_PROXY) and PORT_API_URL"
        lasting = caused_by(error, ssl.SSLCertVerificationError)
        return PortError(str(request), reason, remedy, lasting=lasting, unsure=not harmless)

    def _hide(self, text: str) -> str:
        # An answer may repeat what was sent, and its text goes into errors and the log.
        for secret in (self._credentials["clientSecret"], self._token.text):
            text = text.replace(secret, "[hidden]") if secret else text
        return text


async def _content(answer: httpx.Response) -> bytes | None:
    """Read an answer's content, unpacked; None: it is larger than any of Port's, or packed otherwise."""
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        return None
    # httpx would unpack whatever comes: a small piece may become gigabytes.
    unpack = zlib.decompressobj(GZIP) if encoding == "gzip" else None
    content = bytearray()
    async for piece in answer.aiter_raw():
        try:
            content += unpack.decompress(piece, MAX_CONTENT_BYTES + 1 - len(content)) if unpack else piece
        except zlib.error:
            return None
        if len(content) > MAX_CONTENT_BYTES:
            return None
    return bytes(content)
