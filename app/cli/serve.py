"""The commands that run the service. They import only what it needs, for a short start."""

from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from app.main import load_app
from app.settings import load_settings

GRACEFUL_SECONDS = 4  # for open requests; the sends in progress have their own time after it


Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    no_dispatch: Annotated[
        bool, typer.Option("--no-dispatch", help="Only receive; another process runs `dispatch`.")
    ] = False,
) -> None:
    """Receive changes and deliver alerts."""
    _run(load_app(dispatch=not no_dispatch), host, port)


def dispatch(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Deliver what `serve --no-dispatch` has stored; receive no changes, answer only the health checks."""
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
