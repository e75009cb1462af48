"""A change that is small, or came in one piece, as nearly all do: it is answered without the framework.

What the server and the framework do around a route takes longer than reading the change, and has no use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.receive.event import WEBHOOK_PATH
from app.receive.signature import SIGNATURE_HEADER

TAKE = "take_whole_change"
"""Where a server's state has a `Take`, if changes may be answered so."""
FAILURE = "app.failure"
"""Where a request's scope has the error by which a `Take` has ended."""
PATH = WEBHOOK_PATH.encode()
SIGNATURE = SIGNATURE_HEADER.encode()

RawHeaders = Sequence[tuple[bytes, bytes]]
"""A request's headers, whose names are in lower case."""
Take = Callable[[RawHeaders, bytes], Awaitable[bytes]]
"""Stores the change of a request, given its headers and its body; gives the receipt, as JSON."""

_ACCEPTED = STATUS_LINE[202] + (
    b"%bcontent-type: application/json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"content-length: %d\r\n%b\r\n%b"
)


def may_wait(headers: RawHeaders, most_bytes: int) -> bool:
    """Whether a request of which the body is not all here is small and, by its headers, a change of Port."""
    values = dict(headers)
    small = int(values.get(b"content-length", most_bytes + 1)) <= most_bytes
    return small and SIGNATURE in values and b"expect" not in values


class WholeChange(RequestResponseCycle):
    """The request and its answer, for uvicorn. An error is answered by the application, as it always is.

    Args:
        protocol: The connection.
        take: Stores the change.
        body: The request's body.
    """

    def __init__(self, protocol: HttpToolsProtocol, take: Take, body: bytes) -> None:
        super().__init__(
            protocol.scope,
            protocol.transport,
            protocol.flow,
            protocol.logger,
            protocol.access_logger,
            protocol.access_log,
            protocol.server_state.default_headers,
            asyncio.Event(),
            False,
            protocol.parser.get_http_version() != "1.0" and protocol.parser.should_keep_alive(),
            protocol.on_response_complete,
        )
        self._take, self._whole = take, body
        self.more_body = False
        self.message_event.set()

    @override
    async def run_asgi(self, app: Any) -> None:
        scope = cast("dict[str, Any]", self.scope)
        try:
            receipt = await self._take(scope["headers"], self._whole)
        except Exception as error:  # noqa: BLE001 - the application answers it, and logs what is our fault
            scope |= {"method": "POST", "path": WEBHOOK_PATH, "raw_path": PATH, "query_string": b""}
            scope[FAILURE] = error
            await super().run_asgi(app)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        headers = b"".join([b"%b: %b\r\n" % header for header in self.default_headers])
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self.transport.write(_ACCEPTED % (headers, len(receipt), close, receipt))
        self.response_started = self.response_complete = True
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
