"""The command that runs the service. It imports no more than that needs, so that it is soon ready."""

from typing import Annotated

import typer
import uvicorn

from app.main import load_app
from app.settings import load_settings

GRACEFUL_SECONDS = 4  # for open requests; the deliveries in flight have their own time after it


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
) -> None:
    """Listen for changes, and deliver alerts."""
    uvicorn.run(
        load_app(),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=load_settings().forwarded_allow_ips,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
