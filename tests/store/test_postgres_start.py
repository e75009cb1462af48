"""A start while PostgreSQL is away, or in trouble, ends in one sentence each time."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from app.errors import StoreUnavailable
from app.main import create_app
from app.settings import Settings
from app.store.opening import prepare_store
from tests.conftest import SECRET

Answer = Callable[[bytes], bytes]
TLS = 80877103
"""The code of a request for TLS: https://www.postgresql.org/docs/current/protocol-message-formats.html"""


def message(kind: bytes, content: bytes) -> bytes:
    """Make a message of PostgreSQL's protocol."""
    return kind + struct.pack(">I", len(content) + 4) + content


def error(code: str, text: str = "the server is in trouble") -> bytes:
    """Make an error message that ends the connection."""
    return message(b"E", b"SFATAL\0C" + code.encode() + b"\0M" + text.encode() + b"\0\0")


LET_IN = message(b"R", bytes(4))
PARAMETERS = {"server_version": "16.1", "client_encoding": "UTF8", "integer_datetimes": "on"}
GREETING = b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in PARAMETERS.items())
READY = message(b"Z", b"I")


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[str]:
    """Serve connections that get one answer to each thing they send, and are closed then; yields the URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for answer in answers:
                got = await reader.read(10_000)
                if got[4:8] == struct.pack(">I", TLS) and answer not in (b"", b"S junk"):
                    writer.write(b"N")
                    await reader.read(10_000)
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"postgresql://user:word@127.0.0.1:{server.sockets[0].getsockname()[1]}/listener"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((b"",), "connection"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "connection"),
        ((b"S junk",), "rejected SSL upgrade|connection"),
        ((error("57P03", "the database system is starting up"),), "the database system is starting up"),
        ((error("53300", "sorry, too many clients already"),), "sorry, too many clients already"),
        ((error("28P01", "password authentication failed"),), "password authentication failed"),
        ((error("3D000"),), "the server is in trouble"),
        ((LET_IN,), "connection"),
        ((LET_IN + READY,), "connection"),
        ((LET_IN + GREETING + READY,), "connection"),
        ((LET_IN + GREETING + READY, error("57P01", "terminating connection")), "terminating connection"),
        ((LET_IN + GREETING + READY, b"\xff" * 100), "connection"),
    ],
)
async def test_trouble(answers: tuple[bytes, ...], said: str) -> None:
    """However far it comes, and whatever answers there."""
    async with answering(*answers) as url:
        with pytest.raises(StoreUnavailable, match=said) as refused:
            await asyncio.to_thread(prepare_store, url)
    assert "\n" not in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid", "a" * 70, "127.0.0.1:1,[::1]:1"])
async def test_nobody_there(host: str) -> None:
    """Nobody listens, or the name does not exist."""
    with pytest.raises(StoreUnavailable, match=r"no connection to the database|DATABASE_URL cannot be used"):
        await asyncio.to_thread(prepare_store, f"postgresql://user:word@{host}/listener")


async def test_it_goes_away_between_the_look_and_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """The server that runs the application says the sentence, too, and no traceback."""
    settings = Settings(
        _env_file=None,
        port_client_secret=SECRET,
        slack_webhook_url="http://127.0.0.1:1/",
        database_url="postgresql://user:word@127.0.0.1:1/listener",
    )
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    with pytest.raises(SystemExit):
        await server.serve()
    assert "Cannot start:\nno connection to the database" in caplog.text
    assert "Traceback" not in caplog.text
