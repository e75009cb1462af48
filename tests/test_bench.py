"""The benchmark runs, and notices what would make its figures worthless. No speed is asserted."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.receive.payload import parse_event
from app.receive.signature import Signed
from scripts.benchmark.accepting import accept
from scripts.benchmark.changes import bodies, request, signed_requests
from scripts.benchmark.load import Answer, walk
from scripts.benchmark.pace import pace
from scripts.benchmark.peers import Bare, Tutorial
from scripts.benchmark.processes import Running
from scripts.benchmark.report import write
from scripts.benchmark.slack import stand_in
from scripts.benchmark.table import Figure, lines, reasons
from scripts.benchmark.whole import peers

ROOT = Path(__file__).parents[1]
OK = Answer(200, "ok")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


@needs_wrk
@pytest.mark.acceptance
def test_the_quick_run_prints_the_ratios() -> None:
    """`scripts/bench --quick` ends well, and says what the listener accepts beside the bare route."""
    command = [
        sys.executable,
        "-m",
        "scripts.benchmark",
        "--quick",
        "--ours",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, bare = done.stdout.splitlines()
    assert ours.startswith("the listener")
    assert bare.startswith("a bare FastAPI route")
    assert "the listener: 0." in bare


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


def test_a_peer_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left out, and said."""
    monkeypatch.setenv("PATH", "")
    assert [one.name for one in peers("http://127.0.0.1:1/")] == [Bare.name, Tutorial.name]
    said = capsys.readouterr().err
    assert "Alertmanager is NOT measured: prometheus-alertmanager is not installed" in said
    assert "adnanh/webhook is NOT measured: webhook is not installed" in said


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


def test_the_page_has_the_table_the_machine_and_the_commands(tmp_path: Path) -> None:
    """Of several runs too; it says what is not met, and why."""
    slow = Figure("slow", "%", [0.5, 0.6, 0.7], least=0.75, why="it is old.")
    printed = write(tmp_path / "bench.md", [[slow]] * 3, jobs=4000)
    page = (tmp_path / "bench.md").read_text()
    assert printed.strip() in page
    for part in (
        "in 3 runs",
        "| run 3 |",
        "- slow: it is old.",
        "Python 3.",
        "4,000 jobs",
        "scripts/bench --quick",
    ):
        assert part in page
    assert "{" not in page
