"""The one table of failure: what each answer does to an alert and its queue, whatever the destination."""

import asyncio
import gzip
import itertools
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.demo.run import serving
from app.model.delivery import Outcome, State
from app.network import DIRECT, Network
from app.store import queries
from app.store.rows import Attempt
from app.store.sqlite.database import open_sqlite
from tests.conftest import NOW
from tests.notifier.receiver import (
    KINDS,
    MADE_BY_CHANGE,
    TOKEN_BY_CHANGE,
    Answer,
    Deliveries,
    Receiver,
    make,
    port_client,
)
from tests.private_ca import private_tls
from tests.store.helpers import incoming

RETRY, HELD, DEAD, SENT = Outcome.RETRY, Outcome.ON_HOLD, Outcome.DEAD, Outcome.DELIVERED
SOON = {"Retry-After": "3000"}
AT = {"Retry-After": "Tue, 09 Jun 2026 13:18:20 GMT"}  # 50 minutes after NOW
JSON = json.dumps({"success": True})
SLACKS = "slack bot"

Expected = tuple[Outcome, ...] | dict[str, tuple[Outcome, ...]]


def _but(usual: tuple[Outcome, ...], **others: tuple[Outcome, ...]) -> dict[str, tuple[Outcome, ...]]:
    names: dict[str, tuple[str, ...]] = {
        "bot": (SLACKS,),
        "path": (MADE_BY_CHANGE,),
        "token": (TOKEN_BY_CHANGE,),
        "http": ("http",),
    }
    names["made"] = (MADE_BY_CHANGE, TOKEN_BY_CHANGE)
    return dict.fromkeys(KINDS, usual) | {
        kind: outcomes for name, outcomes in others.items() for kind in names[name]
    }


TABLE: list[tuple[Answer, Expected]] = [
    *((Answer(status, "no"), (RETRY, RETRY)) for status in (407, 408, 425, 429, 500, 502, 503)),
    *(
        (Answer(status, "no", headers), (RETRY,))
        for status in (400, 401, 403, 404, 503)
        for headers in (SOON, AT)
    ),
    # Who calls is the same for all, though the path is not.
    *((Answer(status, "no"), _but((HELD, HELD), token=(DEAD,))) for status in (401, 402)),
    *((Answer(status, "no"), _but((HELD, HELD), made=(DEAD,))) for status in (403, 404, 405, 410)),
    # The bot's refusals come with 200 and a word; another status with none is not Slack's.
    *((Answer(status, "no"), _but((DEAD,), bot=(RETRY, HELD))) for status in (400, 413, 422)),
    (Answer(302, "", {"Location": "/elsewhere"}), _but((RETRY, HELD, HELD), made=(RETRY, RETRY, RETRY))),
    (Answer(200, JSON), _but((RETRY, HELD, HELD), http=(SENT,), made=(SENT,))),
    (Answer(200, "<html>Log in</html>"), _but((RETRY, HELD, HELD), http=(SENT,), made=(SENT,))),
]


async def _tries(
    kind: str, url: str, database: Path, number: int, network: Network = DIRECT
) -> list[Attempt]:
    """Deliver one alert by a kind of destination at an address, and return the attempts."""
    store = open_sqlite(database)
    deliveries = Deliveries(store)
    async with port_client(url, deliveries.clock, network) as client:
        notifier = make(kind, url, deliveries.clock, client, network)
        attempts = await deliveries.tries(notifier, number)
        await notifier.close()
    await store.close()
    return attempts


@pytest.mark.parametrize("kind", KINDS)
async def test_the_table(tmp_path: Path, kind: str) -> None:
    """What the receiver says decides, and not who it is; an answer that says when to come back is heard."""
    receiver, wanted, seen = Receiver(), [], []
    async with serving(receiver.app) as url:
        for number, (answer, expected) in enumerate(TABLE):
            outcomes = expected[kind] if isinstance(expected, dict) else expected
            receiver.answer = answer
            attempts = await _tries(kind, url, tmp_path / f"{number}.db", len(outcomes))
            wanted.append((answer, outcomes))
            seen.append((answer, tuple(attempt.outcome for attempt in attempts)))
            if answer.headers in (SOON, AT):
                assert attempts[0].next_at - attempts[0].ended_at == timedelta(minutes=50)
    assert seen == wanted


@pytest.mark.parametrize("status", [403, 404])
async def test_a_token_that_has_expired_for_all(tmp_path: Path, status: int) -> None:
    """What the caller may not call is the alert's own fault, unless it is so for three entities in a row."""
    receiver = Receiver()
    async with serving(receiver.app) as url:
        store = open_sqlite(tmp_path / "1.db")
        deliveries, notifier = Deliveries(store), make(MADE_BY_CHANGE, url, lambda: NOW)
        receiver.answer = Answer(status, "no")
        await store.accept([incoming(entity="one"), incoming("Degraded", "Crashed", entity="one", second=1)])
        await store.accept([incoming(entity="two"), incoming(entity="three")])
        deliveries.now += timedelta(seconds=1)
        refused = [attempt.outcome for attempt in await deliveries.tries(notifier, 5)]
        states = await store.read(queries.counts.by_state)
        await notifier.close()
        await store.close()
    assert refused == ([DEAD, DEAD, DEAD, HELD, HELD] if status == 403 else [DEAD] * 5)
    assert states[State.ON_HOLD if status == 403 else State.DEAD] == 5


FIXED = tuple(kind for kind in KINDS if kind not in {MADE_BY_CHANGE, TOKEN_BY_CHANGE})


@pytest.mark.parametrize("kind", FIXED)
async def test_what_is_wrong_on_the_way_has_a_name(tmp_path: Path, kind: str) -> None:
    """Nobody listens, or the name is unknown: it may pass, and nothing has left. A bad certificate holds."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (nobody,) = await _tries(kind, f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path / "1.db", 1)
    (unknown,) = await _tries(kind, "http://no-such-name.invalid", tmp_path / "2.db", 1)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=private_tls(tmp_path))
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        (untrusted,) = await _tries(kind, url, tmp_path / "3.db", 1)
    assert [attempt.outcome for attempt in (nobody, unknown, untrusted)] == [RETRY, RETRY, HELD]
    assert "may have arrived" not in nobody.detail + unknown.detail
    assert not nobody.unsure
    assert "cannot be looked up" in unknown.detail
    assert "certificate" in untrusted.detail
    assert "SSL_CERT_FILE" in untrusted.detail


@pytest.mark.parametrize("kind", ["slack webhook", "slack bot", "teams", "pagerduty", "port_action"])
@pytest.mark.parametrize("status", [407, 502, 403])
async def test_a_proxy_that_does_not_connect(tmp_path: Path, kind: str, status: int) -> None:
    """Nothing has left, the destination is not at fault, and the reason names the proxy."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT api.invalid:443")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        network = Network({"HTTPS_PROXY": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        (attempt,) = await _tries(kind, "https://api.invalid", tmp_path / "1.db", 1, network)
    assert (attempt.outcome, attempt.unsure) == (RETRY, False)
    assert "may have arrived" not in attempt.detail
    assert "proxy" in attempt.detail
    assert "HTTPS_PROXY" in attempt.detail
    assert str(status) in attempt.detail


@pytest.mark.parametrize("kind", ["slack webhook", "slack bot", "port_action"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_proxy_that_hangs_up(tmp_path: Path, kind: str, answer: bytes) -> None:
    """Before there is a way to the host, nothing of the message can have left."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        network = Network({"HTTPS_PROXY": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        (attempt,) = await _tries(kind, "https://api.invalid", tmp_path / "1.db", 1, network)
    assert (attempt.outcome, attempt.unsure) == (RETRY, False)
    assert "may have arrived" not in attempt.detail


@pytest.mark.parametrize("word", ["missing_argument", "a_word_of_tomorrow"])
async def test_asking_is_a_help_only(tmp_path: Path, word: str) -> None:
    """A message may have arrived, and Slack will not say where it would be: then it is sent."""
    receiver = Receiver()
    receiver.answer = Answer(503)
    receiver.asked = {"ok": False, "error": word}
    async with serving(receiver.app) as url:
        store = open_sqlite(tmp_path / "1.db")
        deliveries, notifier = Deliveries(store), make(SLACKS, url, lambda: NOW)
        (first,) = await deliveries.tries(notifier, 1)
        receiver.answer = Answer(200, json.dumps({"ok": True, "channel": "C1", "ts": "1.1"}))
        (second, *_) = await deliveries.tries(notifier, 1)
        await notifier.close()
        await store.close()
    assert (first.outcome, first.unsure, second.outcome) == (RETRY, True, SENT)


GZIP_OF_ZEROS = gzip.compress(bytes(200_000_000), 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True], ids=["endless", "a gzip bomb"])
async def test_an_answer_without_end(tmp_path: Path, kind: str, packed: bool) -> None:
    """Of an answer no more is read than the receiver's own would take."""
    receiver, sent = Receiver(), 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for piece in itertools.repeat(GZIP_OF_ZEROS if packed else bytes(100_000)):
            sent += len(piece)
            yield piece
            await asyncio.sleep(0)

    receiver.stream = stream
    receiver.answer = Answer(503, headers={"Content-Encoding": "gzip"} if packed else {})
    async with serving(receiver.app) as url:
        tracemalloc.start()
        (attempt,) = await _tries(kind, url, tmp_path / "listener.db", 1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert attempt.outcome is RETRY
    assert sent < 100_000_000
    assert peak < 120_000_000
