"""The addresses on which the service listens, and the environment in which it starts."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from app.cli.serve import bind
from app.errors import ListenerError
from tests.acceptance.process import ROOT, SERVE, free_port
from tests.conftest import NO_TLS, SECRET
from tests.waiting import until

COUNTED = "port_listener_changes_total"


def taken() -> socket.socket:
    """Return a socket that listens somewhere on loopback."""
    return socket.create_server(("127.0.0.1", 0))


def test_a_busy_port() -> None:
    """It is one sentence that names the port; a name is fine, and both addresses of `localhost`."""
    with taken() as other, pytest.raises(ListenerError) as refused:
        bind("127.0.0.1", other.getsockname()[1])
    assert str(refused.value).startswith("Cannot start:\nport ")
    assert " is in use: another program listens there" in str(refused.value)
    for listening in bind("localhost", 0):
        listening.close()


@pytest.mark.parametrize("host", ["nobody.invalid", "192.0.2.1", "::zz"])
def test_an_address_that_is_not_here(host: str) -> None:
    """It is one sentence that names the address."""
    with pytest.raises(
        ListenerError, match=f"\\ACannot start:\ncannot listen on {host}, port 0: "
    ) as refused:
        bind(host, 0)
    assert "--host" in str(refused.value)


def test_every_address() -> None:
    """`::` takes connections of IPv4 too, and the port on both."""
    (listening,) = bind("::", 0)
    with listening:
        listening.listen()
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, listening.getsockname()[1])).close()


@pytest.mark.acceptance
async def test_an_unusual_environment(tmp_path: Path) -> None:
    """An empty PROMETHEUS_MULTIPROC_DIR, `::`, and a .env of PowerShell's."""
    (tmp_path / ".env").write_bytes(f'PORT_CLIENT_SECRET="{SECRET}"\r\n'.encode("utf-16"))
    port = free_port()
    names = {name: value for name, value in os.environ.items() if not name.startswith(("PORT_", "SLACK_"))}
    more = {"PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": "", "METRICS_PUBLIC": "true"}
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            (*SERVE, "--host", "::", "--port", str(port)),
            cwd=tmp_path,
            env=names | more,
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:

            async def ready() -> bool:
                assert process.poll() is None, (tmp_path / "log.txt").read_text()
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready)
            assert COUNTED in (await client.get(f"http://[::1]:{port}/metrics")).text
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 20)
    # And no file of an odd name: the numbers of one process stay in it.
    assert not {
        file for file in await asyncio.to_thread(os.listdir, tmp_path) if "gauge" in file or "counter" in file
    }
