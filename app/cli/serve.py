"""The commands that run the service. They import only what it needs, for a short start."""

import errno
import socket
from contextlib import suppress
from enum import Enum
from typing import Annotated

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE

from app.errors import ListenerError
from app.main import load_app
from app.runtime.process import cores
from app.settings import load_settings
from app.web.protocol import LimitedProtocol

log = structlog.get_logger(__name__)

GRACEFUL_SECONDS = 4  # for open requests; the sends in progress have their own time after it


Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all, :: for IPv6 too.")]


class Where(Enum):
    """Where alerts are delivered from."""

    APART = "apart"
    HERE = "here"


Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    dispatch: Annotated[
        Where | None,
        typer.Option(
            help="Where alerts are delivered from: here, in this process, or apart, in one of its own, which"
            " takes 70 MB more and keeps Port's answers quick. Not given: apart, where there are two cores."
        ),
    ] = None,
    no_dispatch: Annotated[
        bool, typer.Option("--no-dispatch", help="Only receive; another process runs `dispatch`.")
    ] = False,
) -> None:
    """Receive changes and deliver alerts."""
    if dispatch and no_dispatch:
        raise typer.BadParameter("give either --dispatch or --no-dispatch")
    apart = dispatch is Where.APART if dispatch else not no_dispatch and cores() > 1
    sockets = bind(host, port)
    _run(load_app(dispatch=not no_dispatch, apart=apart), sockets)


def dispatch(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Deliver what `serve --no-dispatch` has stored; receive no changes, answer only the health checks."""
    sockets = bind(host, port)
    _run(load_app(receive=False), sockets)


class _Server(uvicorn.Server):
    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # another program has begun to listen since we took the port
            await self.lifespan.shutdown()
            host, port, *_ = sockets[0].getsockname() if sockets else ("", 0)
            raise _refused(host, port, error) from None
        if self.started:  # uvicorn says it only of sockets that it has made itself
            log.info("listening", addresses=[_shown(listening) for listening in sockets or ()])


def _run(app: FastAPI, sockets: list[socket.socket]) -> None:
    settings = load_settings()
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = _Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        raise SystemExit(STARTUP_FAILURE)


def bind(host: str, port: int) -> list[socket.socket]:
    """Take a port at each address of a host, before anything else is opened.

    Args:
        host: An address or a name; ``::`` is every address, of IPv4 too.
        port: The port; 0: any free one.

    Raises:
        ListenerError: It cannot be had; the text says why.
    """
    sockets: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(places):
            # With the protocol, or asyncio leaves Nagle's delay of 40 ms on.
            listening = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                both = address[0] == "::" and socket.has_dualstack_ipv6()
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            listening.bind(address)
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise _refused(host, port, error) from None
    return sockets


def _refused(host: str, port: int, error: OSError) -> ListenerError:
    match error.errno:
        case errno.EADDRINUSE:
            reason = (
                f"port {port} is in use: another program listens there. Stop it, or choose another: --port"
            )
        case errno.EACCES:
            reason = f"port {port} may not be used by this user: choose one from 1024 on (--port)"
        case _:
            reason = f"cannot listen on {host}, port {port}: {error.strerror}. Is --host one of this machine?"
    return ListenerError(f"Cannot start:\n{reason}")


def _shown(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
