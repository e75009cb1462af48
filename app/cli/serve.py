"""The commands that run the service. They import no more than that needs, so that it is soon ready."""

from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from app.main import load_app
from app.settings import load_settings

GRACEFUL_SECONDS = 4  # for open requests; the deliveries in flight have their own time after it


Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=0, max=65535)]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    no_dispatch: Annotated[
        bool, typer.Option("--no-dispatch", help="Only listen: `dispatch` delivers, elsewhere.")
    ] = False,
) -> None:
    """Listen for changes, and deliver alerts."""
    _run(load_app(dispatch=not no_dispatch), host, port)


def dispatch(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Deliver what `serve --no-dispatch` has stored; answer /healthz and /readyz, and take no changes."""
    _run(load_app(receive=False), host, port)


def _run(app: FastAPI, host: str, port: int) -> None:
    settings = load_settings()
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
