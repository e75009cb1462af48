"""What became of a request of aiohttp's: its answer's start, or why there is no answer."""

import asyncio
import contextlib
import socket
import ssl

import aiohttp
from typing_extensions import override

from app.errors import CERTIFICATE_ADVICE, DeliveryFailed, Scope
from app.model.notification import one_line
from app.notifier.failure import PROXY_REFUSES
from app.notifier.http.guard import AddressRefused

MAX_ANSWER_BYTES = 64_000
MAX_SHOWN_HOST_CHARS = 100


def failure_of_error(
    error: Exception, host: str, *, fixed: bool = True, sends: bool = True
) -> DeliveryFailed:
    """Make the failure of a request that has no answer, by the error that aiohttp raised.

    The error's own text may hold the whole address, which may be a secret, so that it is not repeated.

    Args:
        error: An aiohttp.ClientError, OSError (TimeoutError too) or ValueError.
        host: The host that was called.
        fixed: Whether the host is the same for every message, and was not made of a change.
        sends: Whether the request does something, which may have been done though the answer did not come.
    """
    host = one_line(host, MAX_SHOWN_HOST_CHARS)
    if lasting := _lasting(error, host):
        return DeliveryFailed(lasting, Scope.DESTINATION if fixed else Scope.MESSAGE)
    if nothing_sent := _before_sending(error, host):
        return DeliveryFailed(nothing_sent, Scope.TRANSIENT)
    came = "no answer of {} in time" if isinstance(error, TimeoutError) else "no whole answer of {} ({})"
    arrived = "; it may have arrived" if sends else ""
    return DeliveryFailed(came.format(host, type(error).__name__) + arrived, Scope.TRANSIENT, unsure=sends)


def _lasting(error: Exception, host: str) -> str:
    """Say why a host cannot be called until somebody fixes it; empty: that is not so."""
    refused = getattr(error, "os_error", error)
    if isinstance(refused, AddressRefused):
        return (
            f"{host} is refused: {refused} is not a public address, and the destination does not say"
            " allow_private"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = getattr(error, "certificate_error", error)
        why = one_line(getattr(cause, "verify_message", ""), 100) or "it is refused"
        return f"the certificate of {host} is not valid: {why}; {CERTIFICATE_ADVICE}"
    if isinstance(error, ValueError):  # 2130706433 for an address, a label of 70 letters …
        return f"{host} cannot be called as the URL says"
    return ""


def _before_sending(error: Exception, host: str) -> str:
    """Say what went wrong before anything was sent; empty: something may have been."""
    match error:
        case aiohttp.ClientHttpProxyError(status=407):
            return PROXY_REFUSES
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy (HTTPS_PROXY) answers {status}, and does not connect to {host}"
        case aiohttp.ClientProxyConnectionError(host=proxy, port=port):
            shown = one_line(str(proxy), MAX_SHOWN_HOST_CHARS)
            return f"no connection to the proxy {shown}:{port} (HTTPS_PROXY or HTTP_PROXY)"
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return f"the name {host} cannot be looked up"
        case aiohttp.ClientConnectorError():
            return f"no connection to {host} ({type(error).__name__})"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection to {host} in time"
        case _:
            return ""


async def read_start(answer: aiohttp.ClientResponse, seconds: float) -> str:
    """Read the first `MAX_ANSWER_BYTES` of an answer, or those that came within some seconds; close it."""
    # The status has decided already; the text is for people, and must not undo a success by coming late.
    start = bytearray()
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            await _read(answer, start, MAX_ANSWER_BYTES)
    answer.close()
    return start.decode(errors="replace")


class ShortAnswer(aiohttp.ClientResponse):
    """An answer of which no more than `most_bytes` are read; a longer one is empty: it is somebody else's."""

    most_bytes = MAX_ANSWER_BYTES

    @override
    async def read(self) -> bytes:
        if self._body is None:
            start = bytearray()
            try:
                await _read(self, start, self.most_bytes + 1)
            except BaseException:
                self.close()
                raise
            if len(start) > self.most_bytes:
                self.close()
                start.clear()
            self._body = bytes(start)
        return self._body


async def _read(answer: aiohttp.ClientResponse, start: bytearray, most: int) -> None:
    # aiohttp unpacks no more at a time than is asked for.
    while len(start) < most and (piece := await answer.content.read(most - len(start))):
        start += piece
