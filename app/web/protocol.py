"""HTTP/1.1 with limits: who has not sent a whole request gets little memory and little time.

uvicorn's own classes set none to the number of headers and to how long a request may take, and the quicker of
the two none to their size.
"""

import asyncio
from contextvars import Context
from http import HTTPStatus
from typing import Any

import httptools
import structlog
from typing_extensions import override
from uvicorn.protocols.http import httptools_impl

from app.receive.pieces import MAX_READ_BYTES, InPieces
from app.receive.unproven import Heads
from app.receive.whole import PATH, TAKE, Take, WholeChange, may_wait

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""As much may come without a whole head, or without a byte of the body: endless headers, chunk extensions."""
MOST_FRAMING = 16
"""So many bytes may come for one of a body: of chunks of one byte each has six."""
MAX_HEADERS = 100
"""So many headers a request may have, trailers included."""
MAX_PIPELINED = 10
"""So many requests may wait for the answer to the one before."""
MAX_REST_BYTES = 64 * 1024
"""As much of a body may come after the answer."""
MAX_PARTED = 1_000
"""So many changes may wait for the rest of a small body before the application sees them."""

HEADS = Heads()


class LimitedProtocol(httptools_impl.HttpToolsProtocol):
    """One connection, read by httptools. What breaks a limit is answered 4xx or not at all, and closed.

    No websocket is spoken, nor HTTP/2: a request that asks for them is answered in HTTP/1.1, as it may be.
    """

    head_seconds = 10.0
    """So long a head may take, and a new connection be silent."""
    body_seconds = 20.0
    """So long a body may take: longer than the webhook waits for it, which answers 408."""
    unread_seconds = 30.0
    """So long a client may read nothing of an answer that waits for it."""
    parted_seconds = 0.5
    """So long a small body may wait for its rest; then it is a request as any other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ws_protocol_class = None
        self._unread = 0  # bytes since the last that meant something
        self._head = 0  # bytes of the last request's; what is pipelined behind it fits a read
        self._trailers = self._rest = 0
        self._in_head, self._in_request = True, False
        # Under a path of the server's own, or with its limit of requests, the application must see each.
        direct = not self.root_path and self.limit_concurrency is None
        self._take: Take | None = self.app_state.get(TAKE) if direct else None
        self._whole: list[bytes] | None = None  # the pieces of a change's body, of which the rest may be here
        self._refusal = HTTPStatus.BAD_REQUEST
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._parted: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_protocol(InPieces(self))
        self._deadline = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        self._unset_keepalive_if_required()
        self._begin()  # the application counts who hangs up
        super().connection_lost(exc)
        self.resume_writing()
        self.pipeline.clear()
        self._forget()  # it refers to this: what its request holds would stay until garbage is collected

    @override
    def eof_received(self) -> bool:  # type: ignore[override]
        if self._answered() or self.cycle.more_body or self.cycle.response_started or self.scheme == "https":
            return False
        self.cycle.keep_alive = False  # who sends no more may still wait for the answer
        return True

    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unread += len(data)
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = self._without_upgrade(data[stopped.args[0] :])
            except httptools.HttpParserError:
                self._begin()
                self._refuse(self._refusal)
                return
            else:
                break
        if self._whole is not None:
            if self._parted is None and len(_PARTED) < MAX_PARTED and may_wait(self.headers, MAX_READ_BYTES):
                _PARTED.add(self)
                self._parted = self.loop.call_later(self.parted_seconds, self._after_read)
            if self._parted is not None:
                return
        self._after_read()

    def _after_read(self) -> None:
        """Begin a request that is not all here, and set what it may still take."""
        self._begin()
        if self._unread > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._in_request or (self._answered() and self.timeout_keep_alive_task is None):
            in_body = self._in_request and not self._in_head
            if in_body and self.cycle.body and not self._answered():
                self.flow.pause_reading()  # until the application asks for more: it counts what it holds
            if self._deadline is None:
                seconds = self.body_seconds if in_body else self.head_seconds
                self._deadline = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
            if not HEADS.hold(self, self._head + self._unread):
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        elif self._deadline is not None:
            self._end_deadline()

    @override
    def on_message_begin(self) -> None:
        self._in_head = self._in_request = True
        self._trailers = self._rest = 0
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)
        else:  # of a trailer: nobody reads it, and among the headers it could pass for one
            self._trailers += 1
        if len(self.headers) + self._trailers > MAX_HEADERS:
            self._break(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    @override
    def on_headers_complete(self) -> None:
        head = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if head > MAX_HEAD_BYTES:
            self._break(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(self.pipeline) >= MAX_PIPELINED or self.parser.get_method() == b"CONNECT":
            self._break(HTTPStatus.BAD_REQUEST)
        if self.parser.should_upgrade():
            return
        self._unread, self._head = 0, head
        if not HEADS.hold(self, head):
            self._break(HTTPStatus.SERVICE_UNAVAILABLE)
        self._in_head = False
        self._end_deadline()
        alone = self._take is not None and self._answered()
        if alone and self.url == PATH and self.parser.get_method() == b"POST":
            self._whole = []
        else:
            super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._unread = max(0, self._unread - MOST_FRAMING * len(body))
        if self._whole is not None:
            self._whole.append(body)
            return
        if self.cycle.response_complete:  # nobody wants the rest: a little may be on its way
            self._rest += len(body)
            if self._rest > MAX_REST_BYTES:
                self._break(HTTPStatus.BAD_REQUEST)
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_request = False
        self._unread = 0
        if self._take is not None and self._whole is not None:
            self.cycle = WholeChange(self, self._take, b"".join(self._whole))
            self._end_parted()
            self._start_asgi_task(self.cycle, self.app)
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # it was answered before all of it had come
            self._forget()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    @override
    def on_response_complete(self) -> None:
        # In the task of this request: its log lines name a change that the next request is not about.
        begin = Context().run if self.pipeline else lambda what: what()
        begin(super().on_response_complete)
        if self._answered() and not self._in_request:
            self._forget()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.unread_seconds, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    @override
    def shutdown(self) -> None:
        self._begin()
        super().shutdown()

    @override
    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # closing would wait until that is read
            self.transport.abort()
        else:
            self.transport.close()

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Give a request that asks for another protocol without that, and what came behind its head.

        Java's client asks with each POST; httptools takes the body for the other protocol's.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the class above has it
        return b"\r\n".join([*lines, b"", rest])

    def _begin(self) -> None:
        """Begin a request of which more is to come as any other."""
        if self._whole is not None:
            pieces = self._whole
            self._end_parted()
            super().on_headers_complete()
            for piece in pieces:
                super().on_body(piece)

    def _end_parted(self) -> None:
        self._whole = None
        if self._parted is not None:
            self._parted.cancel()
            self._parted = None
            _PARTED.discard(self)

    def _forget(self) -> None:
        """Hold nothing of the last request: a connection may be idle for minutes."""
        self.cycle = self.scope = None  # type: ignore[assignment]
        self.headers, self.url, self._head = [], b"", 0
        HEADS.release(self)

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _break(self, status: HTTPStatus) -> None:
        """End the parsing: `data_received` answers."""
        self._refusal = status
        raise ValueError(status.phrase)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer a request that is refused while it is read, and close."""
        log.warning("request_malformed", status=status.value, address=self.client[0] if self.client else "")
        if not self._answered() and not self.cycle.more_body:
            # What is wrong came after a whole request: that is answered first.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        of_another = self._answered() and (self._in_head or not self._in_request)
        if of_another or not (self._answered() or self.pipeline or self.cycle.response_started):
            text = status.phrase.encode()
            headers = b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close" % len(text)
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n%b" % (status, text, headers, text))
        if not self._answered():  # for the application the client has gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._end_deadline()
        self.transport.close()


_PARTED = set[LimitedProtocol]()
"""The connections on which the rest of a small change is awaited: together they hold little."""
