"""The benchmark runs, and notices what would make its figures worthless. No speed is asserted."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from app.receive.payload import parse_event
from app.receive.signature import Signed
from scripts.benchmark.accepting import accept
from scripts.benchmark.against import NotComparable, Rounds, checkout, compare_libraries
from scripts.benchmark.against import rows as compared
from scripts.benchmark.beside import (
    LOSSES,
    Heard,
    Ours,
    Result,
    every,
    lost_to_kill,
    lost_to_refusal,
    measure,
    rows,
    settle,
)
from scripts.benchmark.built import Procrastinate
from scripts.benchmark.changes import bodies, request, signed_requests
from scripts.benchmark.listeners import by_team
from scripts.benchmark.load import Answer, walk
from scripts.benchmark.machine import others
from scripts.benchmark.pace import pace
from scripts.benchmark.peers import missing
from scripts.benchmark.processes import Running, lives
from scripts.benchmark.report import fill, write
from scripts.benchmark.slack import stand_in
from scripts.benchmark.table import Figure, lines, reasons
from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[1]
OK = Answer(200, "ok")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


@needs_wrk
@pytest.mark.acceptance
def test_the_quick_run_prints_the_ratios() -> None:
    """`scripts/bench --quick` ends well, and says what is accepted beside the bare route, and where."""
    command = [
        sys.executable,
        "-m",
        "scripts.benchmark",
        "--quick",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, bare, h11, where = done.stdout.splitlines()
    assert ours.startswith("the listener")
    assert bare.startswith("a bare FastAPI route")
    assert "the listener: 0." in bare
    assert h11.startswith("a bare FastAPI route on h11")
    assert re.match(r"Measured on Python 3.*, while other programs took \d+% of the machine", where)


@pytest.mark.acceptance
def test_a_soak_accounts_for_every_change() -> None:
    """Ten phases in three seconds: all that was answered 202 ran a job, and stands in a channel."""
    command = [sys.executable, "-m", "scripts.benchmark", "soak", "--minutes", "0.05"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    accepted, jobs = re.findall(r"([\d,]+) changes accepted; ([\d,]+) jobs", done.stdout)[0]
    assert accepted == jobs != "0"


@needs_wrk
def test_the_load_sends_each_request_once() -> None:
    """Whatever the number of connections, each request goes out once, and its answer is waited for."""
    with stand_in() as server:
        assert walk(server.port, (request("/", b"%d" % one) for one in range(500)), OK) > 0
        assert sorted(int(body) for _, body in server.received) == list(range(500))


@needs_wrk
@pytest.mark.parametrize("answer", [Answer(202, "ok"), Answer(200, "stored")])
def test_the_load_takes_no_other_answer(answer: Answer) -> None:
    """A round with one wrong answer is no round."""
    with stand_in() as server, pytest.raises(RuntimeError, match="invalid"):
        walk(server.port, [request("/", b"1")], answer)


@needs_wrk
def test_what_is_answered_must_be_stored() -> None:
    """Whoever answers without storing has no figure."""

    class Liar:
        name, answer, warm_up = "a liar", OK, 10

        def start(self, folder: Path) -> AbstractContextManager[Running]:
            raise NotImplementedError

        def requests(self, number: int) -> Iterator[bytes]:
            return signed_requests(number)

        def taken(self, running: Running) -> tuple[int, ...]:
            return (running.port,)

    class Runs(Running):
        def cpu_seconds(self) -> float:
            return 0.0

    with stand_in() as server, pytest.raises(RuntimeError, match="a liar: 20 were answered"):
        accept(Liar(), Runs(None, server.port, ROOT, 0.0), 0.0)


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each says what is not there, and how to have it."""
    monkeypatch.setenv("PATH", "")
    sentences = [missing(peer) for peer in every("", tmp_path)]
    assert sentences[0] is None  # the listener
    for sentence, words in zip(
        sentences[1:],
        (
            "apt install redis-server",
            f"{tmp_path}/venv/bin/pip install -r",
            f"{tmp_path}/venv/bin/pip install -r",
            "apt install redis-server",
            f"npm install --prefix {tmp_path}/node-red",
            "apt install webhook",
            "apt install prometheus-alertmanager",
        ),
        strict=True,
    ):
        assert sentence is not None
        assert " is NOT measured: " in sentence
        assert words in sentence


@needs_wrk
@pytest.mark.acceptance
@pytest.mark.parametrize(("measured", "options"), [(lost_to_kill, {}), (lost_to_refusal, {"seconds": 0.1})])
def test_the_listener_loses_nothing(measured: Callable[..., int], options: dict[str, float]) -> None:
    """Neither to a kill while Slack refuses, nor to Slack's refusals: each change comes in the end."""
    with stand_in() as slack:
        assert measured(Ours(slack.url, rules=by_team(slack.url, 20)), slack, 20, **options) == 0


def test_a_killed_database_starts_again(tmp_path: Path) -> None:
    """PostgreSQL's processes are dead when they are killed, and its locks do not keep it from its start."""
    peer, server = Procrastinate(""), PostgresServer()
    peer.servers[tmp_path] = server, ""
    server.make()
    try:
        postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        family = (postmaster, *postmaster.children())
        Running(postmaster, 0, tmp_path, 0.0).kill()
        assert not any(map(lives, family))
        with peer.database(tmp_path) as database:
            assert all(map(lives, database.processes))
    finally:
        peer.remove()


def test_a_peer_that_fails_is_left_out(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The others are measured; its failure is said."""
    assert measure(["Node-RED"], tmp_path, 0, 0.0) == {}
    assert "Node-RED is NOT measured: lost to 3 s of 429 failed: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([], ""),
        ([0.0, 0.02, 0.5], ", while other programs took 2% of the machine (from 0% to 50%)"),
        (
            [0.2, 0.3],
            ", while other programs took 25% of the machine (from 20% to 30%); **to be measured again**",
        ),
    ],
)
def test_how_busy_others_were(shares: list[float], text: str) -> None:
    """The page says it, and above a tenth that the figures are not to be believed."""
    assert others(shares) == text


def test_what_never_came_is_counted() -> None:
    """Whoever answers and sends nothing has lost all; the wait for it ends."""
    with stand_in() as slack:
        heard = Heard(slack)
        settle(slack, 0.1, lambda: heard.count() >= 1)
        assert heard.count() == 0
        walk(slack.port, signed_requests(3, entities=3), OK)
        walk(slack.port, signed_requests(2, entities=1), OK)
        assert heard.count() == 4


def test_a_peer_s_row_says_what_it_lost(tmp_path: Path) -> None:
    """The table has the listener first, and each ratio is of the same round."""
    ours = Result([1000.0, 2000.0], [400.0], [80_000_000], [0.5], dict.fromkeys(LOSSES, 0))
    lost = dict(zip(LOSSES, (920, None, 7), strict=True))
    other = Result([500.0, 600.0], [900.0], [120_000_000], [1.5], lost)
    lines = list(rows({"the listener": ours, "Node-RED": other}, tmp_path))
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells == [
        "Node-RED",
        "550 (500, 600)",
        "40%",
        "900 µs",
        "no: memory",
        "920",
        "-",
        "7",
        "120 MB",
        "1.5 s",
    ]


@pytest.mark.parametrize(
    ("lock", "absent", "different"),
    [
        (f"pydantic=={version('pydantic')} \\\n    --hash=sha256:0a\n", [], []),
        ("pydantic==1.0\n", [], [f"pydantic==1.0 (here {version('pydantic')})"]),
        ("no-such-library[fast]==1.0\n", ["no-such-library==1.0"], []),
        ("no-such-library==1.0 ; sys_platform == 'nowhere'\n", [], []),
    ],
)
def test_what_another_commit_needs(lock: str, absent: list[str], different: list[str]) -> None:
    """A library that is not here is named, and another version; what is for other systems is left out."""
    assert compare_libraries(lock) == (absent, different)


def test_another_commit_s_files_are_its_own() -> None:
    """They are there for as long as they are compared; a commit that does not exist is named."""
    with checkout("HEAD") as head:
        assert (head.root / "app" / "main.py").is_file()
    assert not head.root.exists()
    with pytest.raises(NotComparable, match="no-such-commit cannot be had"), checkout("no-such-commit"):
        pass


def test_the_comparison_shows_ratio_and_spread() -> None:
    """The ratio of each round counts, not that of the medians."""
    here = Rounds([200.0, 300.0, 90.0], *[[1.0] * 3] * 4)
    there = Rounds([100.0, 100.0, 100.0], *[[2.0] * 3] * 4)
    lines = list(compared(here, there, "abc"))
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("accepted", "100 a second", "200 a second", *(f"{ratio} ×" for ratio in ("2.00", "0.90", "3.00"))),  # noqa: RUF001
    ]


def test_the_paced_sender_counts_from_when_it_was_to_send() -> None:
    """Answers that take 50 ms take at least so long, each request is sent once, and in time."""
    with stand_in(delay=0.05) as server:
        took = pace(server.port, [request("/", b"%d" % one) for one in range(100)], 200, OK)
        assert sorted(int(body) for _, body in server.received) == list(range(100))
    assert min(one.milliseconds for one in took) >= 50
    assert took[-1].due - took[0].due == pytest.approx(99 / 200)


def test_the_paced_sender_takes_no_other_answer() -> None:
    """One wrong answer spoils all."""
    with stand_in() as server, pytest.raises(RuntimeError, match="invalid"):
        pace(server.port, [request("/", b"1")], 200, Answer(202))


def test_every_change_is_another() -> None:
    """No two have the same key, in one round or in two; each is of 1.5 kB, and changes healthStatus."""
    now = datetime.now(UTC)
    changes = [parse_event(Signed(body, now)) for _ in range(2) for body in bodies(300, entities=100)]
    assert len({one.key for one in changes}) == 600
    assert len({one.entity for one in changes}) == 200
    for one in changes:
        assert one.before is not None
        assert one.after is not None
        assert one.before.properties["healthStatus"] != one.after.properties["healthStatus"]
    assert {len(body) // 100 for body in bodies(300)} == {15}


def test_the_table_says_what_is_met() -> None:
    """Of several runs the median of their medians counts; what is not met has its reason below."""
    fast = Figure("fast", "ms", [1.0, 2.0, 9.0], below=3)
    slow = Figure("slow", "%", [0.5, 0.6, 0.7], least=0.75, why="it is old.")
    bare = Figure("bare", "a second", [4000.0])
    (head, _, *rows) = lines([[fast, slow, bare], [fast, slow, bare]])
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert cells[0] == ["what", "run 1", "run 2", "rounds, from", "to", "goal", "met"]
    assert cells[1] == ["fast", "2.0 ms", "2.0 ms", "1.0 ms", "9.0 ms", "under 3.0 ms", "yes"]
    assert cells[2] == ["slow", "60%", "60%", "50%", "70%", "at least 75%", "**no**"]
    assert cells[3] == ["bare", *["4,000 a second"] * 4, "", ""]
    assert list(reasons([[fast, slow, bare]])) == ["slow: it is old."]


def test_the_page_gets_its_tables(tmp_path: Path) -> None:
    """What is measured again replaces what stood between the marks, and nothing else."""
    slow = Figure("slow", "%", [0.5, 0.6, 0.7], least=0.75, why="it is old.")
    page = tmp_path / "bench.md"
    page.write_text((ROOT / "docs/bench.md").read_text())
    fill(page, "goals", "an old table")
    fill(page, "goals", write([[slow]] * 3))
    text = page.read_text()
    assert "an old table" not in text
    assert "| run 3 |" in text
    assert "- slow: it is old." in text
    assert "<!-- peers -->" in text
    assert text.endswith((ROOT / "docs/bench.md").read_text().partition("<!-- end of goals -->")[2])
    with pytest.raises(ValueError, match="no '<!-- others -->'"):
        fill(page, "others", "")
