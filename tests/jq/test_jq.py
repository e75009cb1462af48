"""jq programs in a worker process: what they come to, and that none does harm."""

import asyncio
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeliveryFailed, JqUnavailable, Scope
from app.jq.runner import COSTLY_FAILURES, Jq, checking
from app.jq.worker import MAX_ERROR_CHARS
from app.rules.condition import JqError
from tests.waiting import until

LOOP = "def f: f; f"
TOO_LONG = "took longer than 100 ms"
EVENT: dict[str, Any] = {
    "action": "UPDATE",
    "context": {"entityIdentifier": "payments-db"},
    "diff": {
        "before": {"properties": {"tier": "gold", "cpuUtil": 70}},
        "after": {"properties": {"tier": "silver", "cpuUtil": 85.0, "tags": ["a"], "name": "café"}},
    },
}


@pytest.fixture(scope="module")
def patient() -> Iterator[Jq]:
    """A worker for all the tests whose programs end in good time."""
    runner = Jq(limit=5)
    yield runner
    asyncio.run(runner.close())


@pytest.fixture
async def evaluator() -> AsyncIterator[Jq]:
    """A worker with a small time limit."""
    runner = Jq(limit=0.1)
    yield runner
    await runner.close()


async def results(evaluator: Jq, *programs: str, event: Any = EVENT) -> list[Any]:
    """Return the programs' values, or the texts of their errors in a tuple."""
    answers = await evaluator.run(programs, event)
    assert list(answers) == list(dict.fromkeys(programs))
    values = [answers[program] for program in programs]
    return [(value.text,) if isinstance(value, JqError) else value for value in values]


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be buried does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def test_programs_come_to_their_first_output(patient: Jq) -> None:
    """In the order asked for, with the same twice too; no output is null."""
    condition = ".diff.before.properties.tier != .diff.after.properties.tier"
    assert await results(
        patient,
        condition,
        ".diff.after.properties.cpuUtil",
        "1, 2",
        "empty",
        condition,
        ".diff.after.properties | {tags, name}",
    ) == [True, 85, 1, None, True, {"tags": ["a"], "name": "café"}]


async def test_a_path_of_names_needs_no_worker(evaluator: Jq) -> None:
    """Nearly all templates are paths, and cost microseconds."""
    assert await results(evaluator, " .context.entityIdentifier ", ".nothing.here", ".") == [
        "payments-db",
        None,
        EVENT,
    ]
    assert evaluator.pid is None


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (".action.name", 'Cannot index string with string ("name")'),
        (".diff.after.properties.cpuUtil.x", 'Cannot index number with string ("x")'),
        (".diff.after.properties.tags.x", 'Cannot index array with string ("x")'),
        ('error("two\nlines")', "two lines"),
        ("error(null)", "null"),
        (".diff | map(", "syntax error, unexpected end of file at <top-level>, line 1, column 12"),
        ("nonsense", "nonsense/0 is not defined at <top-level>, line 1, column 1"),
        ("[range(200000)] | tojson", "the result is larger than 1 MB"),
        ("reduce range(9000) as $i (1; [.])", "the result is nested too deep"),
    ],
)
async def test_errors_are_values_of_one_line(patient: Jq, program: str, text: str) -> None:
    """What jq says, without the drawing of the place."""
    assert await results(patient, program, "1 + 1") == [(text,), 2]


async def test_an_errors_text_is_bounded(patient: Jq) -> None:
    """A program may make its error as long as it likes."""
    ((text,),) = await results(patient, 'error("x" * 10000)')
    assert text == "x" * MAX_ERROR_CHARS


@pytest.mark.parametrize("program", [LOOP, "[range(1e12)]", 'last(range(1e12)) | "x"', "def f: [f]; f"])
async def test_a_program_that_takes_too_long_is_ended(evaluator: Jq, program: str) -> None:
    """Only it has the error, and the ones beside it have their values."""
    assert await results(evaluator, "1 + 1", program, "2 + 2") == [2, (TOO_LONG,), 4]


@pytest.mark.parametrize("program", ['"x" * 1e9', '. as $n | "xxxxxxxxxx" * (1e8 + ($n | length))'])
async def test_a_program_that_takes_too_much_memory_is_ended(evaluator: Jq, program: str) -> None:
    """Also one that does so while it is compiled."""
    text = "needed more than 256 MB of memory"
    assert await results(evaluator, "1 + 1", program, "2 + 2") == [2, (text,), 4]


async def test_a_large_event_is_no_programs_fault(evaluator: Jq) -> None:
    """The largest body that is accepted can be evaluated, and comes back whole."""
    event = {"diff": [{"name": "é" * 100, "n": n} for n in range(20_000)]}
    assert len(json.dumps(event, ensure_ascii=False).encode()) > 4 * 2**20
    assert await results(evaluator, ".", ".diff | length", event=event) == [event, 20_000]


async def test_the_event_loop_goes_on(evaluator: Jq) -> None:
    """Others work while a program is run until its limit."""
    running = asyncio.create_task(results(evaluator, LOOP))
    turns = 0
    while not running.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert await running == [(TOO_LONG,)]
    assert turns >= 5


async def test_a_killed_worker_costs_nothing(evaluator: Jq) -> None:
    """Whoever kills it, between two calls or within one, the values come."""
    assert await results(evaluator, "1 + 1") == [2]
    assert evaluator.pid is not None
    os.kill(evaluator.pid, signal.SIGKILL)
    assert await results(evaluator, "2 + 2") == [4]
    running = asyncio.create_task(results(evaluator, LOOP, "3 + 3"))
    await asyncio.sleep(0.03)
    os.kill(evaluator.pid, signal.SIGKILL)
    assert await running == [(TOO_LONG,), 6]


async def test_a_worker_that_dies_again_is_said() -> None:
    """A worker that is killed each time is no loop, and no program's fault."""
    runner = Jq(limit=-5)  # so that its time is over before it begins
    answers = await runner.run(["1 + 1", "2 + 2"], EVENT)
    assert [answer.ours for answer in answers.values()] == [True, True]
    with pytest.raises(JqUnavailable, match="jq cannot be run: the jq process died: SIGKILL"):
        await runner.evaluate([".action", "1 + 1"], EVENT)
    # What is to be sent waits: it is not the template's fault.
    with pytest.raises(DeliveryFailed) as failed:
        await runner.render("{{ 1 + 1 }}", EVENT)
    assert failed.value.scope is Scope.TRANSIENT
    await runner.close()


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no file beside those that are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_worker_that_cannot_start_is_no_programs_fault() -> None:
    """Neither of a rule that is in force nor of one that is checked."""
    runner = Jq()
    with no_more_files(), pytest.raises(JqUnavailable, match="cannot start"):
        await runner.evaluate(["1 + 1"], EVENT)
    await runner.close()
    with checking() as problem, no_more_files(), pytest.raises(JqUnavailable, match="cannot start"):
        problem("1 + 1")


async def test_a_stopped_worker_is_replaced(evaluator: Jq) -> None:
    """A worker that answers nothing any more is ended, also when it does not even read the event."""
    large = EVENT | {"text": "x" * 2**17}
    assert await results(evaluator, "1 + 1") == [2]
    assert evaluator.pid is not None
    os.kill(evaluator.pid, signal.SIGSTOP)
    assert await results(evaluator, "2 + 2", event=large) == [4]


async def test_a_program_that_is_always_slow_rests(evaluator: Jq) -> None:
    """After a few failures it is not run for a while, and nobody waits for it."""
    for _ in range(COSTLY_FAILURES):
        assert await results(evaluator, LOOP, "1 + 1") == [(TOO_LONG,), 2]
    (text,), value = await results(evaluator, LOOP, "1 + 1")
    assert (text, value) == ("took too long 3 times, and rests for 60 s", 2)
    assert await results(evaluator, "3 + 3") == [6]


async def test_a_hundred_at_once(patient: Jq) -> None:
    """Each caller gets its own values."""
    programs = [[f'.n + {n % 7} | tostring | "{n}:" + .'] for n in range(100)]
    answers = await asyncio.gather(*(patient.evaluate(one, {"n": n}) for n, one in enumerate(programs)))
    assert answers == [{one[0]: f"{n}:{n + n % 7}"} for n, one in enumerate(programs)]


async def test_a_caller_that_goes_away_disturbs_nobody(evaluator: Jq) -> None:
    """A cancelled call's answers are not taken for the next one's."""
    leaving = asyncio.create_task(results(evaluator, LOOP, "1 + 1"))
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert await results(evaluator, "2 + 2") == [4]


@pytest.mark.parametrize("program", ["env", "$ENV", "env.PORT_CLIENT_SECRET", "$ENV.PORT_CLIENT_SECRET"])
async def test_the_environment_is_empty(program: str, evaluator: Jq, monkeypatch: pytest.MonkeyPatch) -> None:
    """No template can tell a secret."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "very-secret")
    assert await results(evaluator, program) in ([{}], [None])


@pytest.mark.parametrize(
    "program", ['import "secret" as $x {search: "DIR"}; $x', 'include "code" {search: "DIR"}; f']
)
async def test_no_file_can_be_read(program: str, patient: Jq, tmp_path: Path) -> None:
    """Neither data nor code comes in, not even what lies there, and the check does not look either."""
    (tmp_path / "secret.json").write_text('"very-secret"')
    (tmp_path / "code.jq").write_text('def f: "very-secret";')
    program = program.replace("DIR", str(tmp_path))
    ((text,),) = await results(patient, program)
    assert "very-secret" not in text
    with checking() as problem:
        assert problem(program) is not None


async def test_there_is_no_other_input(patient: Jq) -> None:
    """`input` does not eat the protocol, and `debug` and `halt_error` do not write into it."""
    assert await results(patient, "[inputs]", "debug | 1", "stderr | 2", "halt_error", "1 + 1") == [
        [],
        1,
        2,
        None,
        2,
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\ud800b", "a\N{REPLACEMENT CHARACTER}b"),
        ("\udc00\ud83d\ude00", "\N{REPLACEMENT CHARACTER}\N{GRINNING FACE}"),
        ("line\u2028\n\x00end", "line\u2028\n\x00end"),
        (math.nan, None),
        (math.inf, sys.float_info.max),
        (2**53 + 1, 2**53),
        (10**30, int(1e30)),
        (10**400, sys.float_info.max),
    ],
    ids=["lone", "pair", "control", "nan", "infinite", "odd", "big", "huge"],
)
async def test_odd_values_pass(patient: Jq, value: Any, expected: Any) -> None:
    """As jq has them: doubles and Unicode."""
    assert await results(patient, ".value", ".value | .", event={"value": value}) == [expected] * 2


@pytest.mark.parametrize("value", [object(), 10**5000, {1j: 1}], ids=["object", "huge", "key"])
async def test_what_is_no_json_is_an_error(patient: Jq, value: Any) -> None:
    """Nothing is raised."""
    text = "the event is not JSON that jq can read"
    assert await results(patient, ".value | .", event={"value": value}) == [(text,)]


async def test_what_is_nested_deeply_is_left_to_jq(patient: Jq) -> None:
    """It has few values, and more levels than Python has on its stack: nothing is raised."""
    value: Any = json.loads("[" * 490 + "]" * 490)
    (answer,) = await results(patient, ".value", event={"value": value})
    assert answer == value or isinstance(answer, tuple)


async def test_odd_programs_pass(patient: Jq) -> None:
    """Text that is no Unicode, a line end in a program, none at all."""
    answers = await results(patient, '"\ud800"', "1 +\n1", "# nothing", "")
    assert isinstance(answers[0], tuple)
    assert answers[1:] == [2, *[('Top-level program not given (try ".")',)] * 2]
    assert await patient.evaluate([], EVENT) == {}


def test_check_says_what_is_wrong() -> None:
    """Compiling is all it does, and it is done where it does no harm."""
    programs = [".a.b", ".a | foo", '"x" * 1e9', LOOP, ".a | .b"]
    with checking() as problem:
        found = [problem(program) for program in programs]
    assert found == [
        None,
        "foo/0 is not defined at <top-level>, line 1, column 6",
        "needed more than 256 MB of memory",
        None,
        None,
    ]


async def test_close_ends_the_worker() -> None:
    """Also twice, and if it never started."""
    runner = Jq()
    await runner.evaluate(["1 + 1"], EVENT)
    pid = runner.pid
    assert pid is not None
    await runner.close()
    await runner.close()
    assert not alive(pid)
    await Jq().close()


@pytest.mark.parametrize("last", ["2 + 2", LOOP])
async def test_the_worker_never_outlives_its_parent(last: str) -> None:
    """Not even one that is killed, idle or in the middle of a program."""
    script = (
        "import asyncio, sys\n"
        "from app.jq.runner import Jq\n"
        "async def main():\n"
        "    jq = Jq(limit=0.5)\n"
        "    await jq.evaluate(['1 + 1'], {})\n"
        "    print(jq.pid, flush=True)\n"
        "    await jq.evaluate([sys.argv[1]], {})\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, last], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert alive(pid)
        await asyncio.sleep(0.05)
        parent.kill()
    await until(lambda: not alive(pid))


NAMES = st.sampled_from(["a", "b", "_c", "D9", "if", "true", "__loc__"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner), max_leaves=8
)
PATHS = st.lists(NAMES, max_size=3).map(lambda names: "." + ".".join(names))


def exact(answer: Any) -> str:
    """Return a text that differs where values or their types do, in whatever order an object's keys are."""
    return json.dumps([answer.text, "error"] if isinstance(answer, JqError) else answer, sort_keys=True)


@pytest.fixture(scope="module")
def evaluate() -> Iterator[Callable[[str, Any], list[Any]]]:
    """Evaluate a program by itself, and with jq itself in any case."""
    runner = Jq()
    with asyncio.Runner() as loop:
        yield lambda path, event: list(loop.run(runner.run([path, f"{path} | ."], event)).values())
        loop.run(runner.close())


@settings(max_examples=100, deadline=None)
@given(event=st.dictionaries(NAMES, JSON), path=PATHS)
def test_a_path_comes_to_what_jq_says(
    evaluate: Callable[[str, Any], list[Any]], event: dict[str, Any], path: str
) -> None:
    """The way past the worker, where it is taken, gives exactly jq's own value, and its errors."""
    by_itself, by_jq = evaluate(path, event)
    assert exact(by_itself) == exact(by_jq)
