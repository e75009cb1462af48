"""Runs jq programs on Port's event without letting one of them do harm.

A jq program can loop for ever (``def f: f; f``) or ask for all memory (``"x" * 1e9``, already while it is
compiled), and neither can be interrupted inside a process. So programs run in a worker process, this
module's own ``python -m app.jq``, which the kernel ends when one takes too long or too much. It starts on
the first use and ends with its parent: at the end of its input, or, in the middle of a program, by its timer.

The protocol is lines of JSON. A request is two: the programs, and the event (empty: only compile them).
The answer is one line a program, as each is done; where a worker dies, the first one missing is the culprit.

The worker has no environment and opens no files, so ``env``, ``import`` and ``include`` find nothing, as in
Port: https://github.com/port-labs/jq-node-bindings (``enableEnv`` is off).
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jq

if sys.platform != "win32":
    import resource

LIMIT = 0.25
"""How long a program may take, in seconds of processor time, so that a busy machine fails none of them."""

READING = 0.5 / 2**20
"""How long it may take in addition for each byte of the event, in seconds: jq reads it anew for each program,
and was measured to take 0.1 to 0.3 s a MiB."""

PATIENCE = 20
"""How many times the limit may pass on the wall's clock until the program is given up."""

MEMORY = 256 * 2**20
"""How much memory the worker may take, in bytes of address space; on its own it takes about 20 MiB."""

MAX_RESULT = 2**20
"""How large one result may be, in bytes of JSON."""

MAX_TEXT = 200
"""How long an error's text may be, in characters."""

KEPT = 4096
"""How many compiled programs the worker keeps; one takes 20 KiB, and 4 ms to compile."""

EXACT = 2**53
"""Up to here jq's numbers, which are doubles, hold every integer."""

PATH = re.compile(r"[ \t\r\n]*(?:\.|((?:\.[A-Za-z_][A-Za-z0-9_]*)+))[ \t\r\n]*")

TOO_LONG = frozenset({"SIGPROF", "SIGALRM"})
TOO_MUCH = frozenset({"SIGABRT"})  # what jq does when it gets no memory


@dataclass(frozen=True, slots=True)
class JqValue:
    """A program's first output.

    Attributes:
        program: The program.
        value: What it came to: JSON, and None also if it has no output.
    """

    program: str
    value: Any


@dataclass(frozen=True, slots=True)
class JqError:
    """A program that came to nothing.

    Attributes:
        program: The program.
        text: Why, in one line of at most `MAX_TEXT` characters. It may hold values of the event.
    """

    program: str
    text: str


class Jq:
    """Runs programs, one call at a time, in a worker that starts on the first use.

    Args:
        limit: How long one program may take, in seconds of processor time.
        memory: How much memory the worker may take, in bytes.
    """

    def __init__(self, limit: float = LIMIT, memory: int = MEMORY) -> None:
        self._worker = _Worker(limit, memory)
        # One thread: it waits for the worker in place of the event loop, and puts the calls in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jq")
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._worker.pid

    async def evaluate(self, programs: Sequence[str], event: Mapping[str, Any]) -> list[JqValue | JqError]:
        """Run each program on the event, all in one trip to the worker; most need no trip at all.

        Args:
            programs: The programs.
            event: Port's bare event.

        Returns:
            What each came to, in the order of the programs. A program that fails is a `JqError`, and no
            other suffers from it; nothing is raised.
        """
        known: dict[str, JqValue | JqError] = {}
        for program in dict.fromkeys(programs):
            with suppress(_NotPlain, RecursionError):
                known[program] = JqValue(program, _follow(program, event))
        asked = [program for program in dict.fromkeys(programs) if program not in known]
        if asked:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._thread, self._worker.run, asked, event)
            known.update(zip(asked, answers, strict=True))
        return [known[program] for program in programs]

    async def close(self) -> None:
        """End the worker after the calls that wait for it; no call may follow."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._worker.stop)
            self._thread.shutdown(wait=False)


def check(program: str) -> str | None:
    """Return why jq cannot compile the program, in one line; None if it can."""
    return check_all([program])[0]


def check_all(programs: Sequence[str]) -> list[str | None]:
    """Return for each program why jq cannot compile it, in one line, or None if it can.

    It blocks: a tenth of a second for a process, as compiling can loop and take all memory too, and 4 ms a
    program. Plain paths are known to be right and need no process.
    """
    asked = [program for program in dict.fromkeys(programs) if _path(program) is None]
    worker = _Worker(LIMIT, MEMORY)
    try:
        answers = worker.run(asked, None)
    finally:
        worker.stop()
    texts = {answer.program: answer.text for answer in answers if isinstance(answer, JqError)}
    return [texts.get(program) for program in programs]


class _NotPlain(Exception):
    """Only jq itself knows what comes of it."""


@lru_cache(maxsize=KEPT)
def _path(program: str) -> tuple[str, ...] | None:
    """Return the names of a program that is only a path of names, ``.`` having none; None of any other."""
    found = PATH.fullmatch(program)
    if found is None:
        return None
    return tuple((found[1] or "").split(".")[1:])


def _follow(program: str, event: Any) -> Any:
    """Do what jq does for a path of names; whatever is not beyond doubt, an error too, is left to jq."""
    names = _path(program)
    if names is None:
        raise _NotPlain
    value = event
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif value is not None:
            raise _NotPlain
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a value as it comes out of jq, which has doubles, and text without lone surrogates."""
    match value:
        case None | bool():
            return value
        case str():
            return _plain_text(value)
        case int() | float() if -EXACT < value < EXACT:  # neither NaN nor an infinity is
            return int(value) if value == int(value) else value
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {_plain_text(key): _plain(one) for key, one in value.items()}
    raise _NotPlain


def _plain_text(text: Any) -> str:
    if not isinstance(text, str):
        raise _NotPlain
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _NotPlain from None
    return text


class _Died(Exception):
    """The worker is gone."""


class _Worker:
    """The worker's other end. It blocks, and must be used by one thread at a time."""

    def __init__(self, limit: float, memory: int) -> None:
        self._limit = limit
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def run(self, programs: Sequence[str], event: Mapping[str, Any] | None) -> list[JqValue | JqError]:
        """Run the programs on the event, or only compile them if there is none."""
        try:
            line = b"" if event is None else _encode(event)
        except (ValueError, TypeError, RecursionError):
            return [JqError(program, "the event is no JSON that jq can read") for program in programs]
        answers: list[JqValue | JqError] = []
        spared = -1
        while len(answers) < len(programs):
            try:
                for answer in self._ask(programs[len(answers) :], line):
                    answers.append(answer)  # noqa: PERF402 - what came before it died must be kept
            except _Died:
                at, died_of = len(answers), self._bury()
                text = self._fault(died_of)
                if text is None and spared != at:
                    spared = at  # somebody else may have killed it: this program gets another worker
                else:
                    answers.append(JqError(programs[at], text or f"the jq process died: {died_of}"))
        return answers

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process:
            self._process.kill()
            self._bury()

    def _ask(self, programs: Sequence[str], event: bytes) -> Iterator[JqValue | JqError]:
        process = self._process = self._process or self._start()
        assert process.stdin  # noqa: S101 - it was started with pipes
        assert process.stdout  # noqa: S101
        try:
            process.stdin.write(b"%s\n%s\n" % (json.dumps(programs).encode(), event))
            process.stdin.flush()
        except BrokenPipeError:
            raise _Died from None
        for program in programs:
            line = process.stdout.readline()
            if not line.endswith(b"\n"):
                raise _Died
            yield _decode(program, line)

    def _start(self) -> subprocess.Popen[bytes]:
        # PYTHONPATH, as it must find what this process finds; -P, as this file must not hide the library.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        return subprocess.Popen(  # noqa: S603 - it is this module
            [sys.executable, "-P", "-m", "app.jq", str(self._limit), str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where `debug` writes the event
            env={**needed, "PYTHONPATH": path, "PYTHONUTF8": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker when it is done
        )

    def _bury(self) -> str:
        """Return what the process died of: a signal's name, or an exit status."""
        process, self._process = self._process, None
        if process is None:
            return "never started"
        with suppress(BrokenPipeError), process:  # closes the pipes and waits
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _fault(self, died_of: str) -> str | None:
        """Return what the program did that the worker died of; None if it may be innocent."""
        if died_of in TOO_LONG:
            return f"took longer than {self._limit * 1000:g} ms"
        return f"needed more than {self._memory / 2**20:g} MB of memory" if died_of in TOO_MUCH else None


def _encode(event: Mapping[str, Any]) -> bytes:
    """Return the event as a line of JSON in UTF-8; lone surrogates, which jq refuses, become U+FFFD."""
    text = json.dumps(event, default=dict, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _decode(program: str, line: bytes) -> JqValue | JqError:
    try:
        answer = json.loads(line)
    except RecursionError:
        return JqError(program, "the result is nested too deep")
    return JqError(program, answer["error"]) if "error" in answer else JqValue(program, answer["value"])


_compile = lru_cache(maxsize=KEPT)(jq.compile)


def _work(limit: float, memory: int) -> None:
    """Answer requests until the input ends: the worker's whole life."""
    with suppress(ValueError, OSError):  # some systems have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))  # no `import` and no `include` can open a file now
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # to end the process, which is what both are for
    os.environ.clear()
    for line in sys.stdin.buffer:
        event = sys.stdin.buffer.readline().rstrip(b"\n")
        seconds = limit + len(event) * READING
        for program in json.loads(line):
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, seconds * PATIENCE)
            answer = _answer(program, event.decode())
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()


def _answer(program: str, event: str) -> bytes:
    """Return the line that answers one program."""
    text = ""
    try:
        compiled = _compile(program)
        value = next(iter(compiled.input_text(event)), None) if event else None
        answer = json.dumps({"value": value}, ensure_ascii=False, separators=(",", ":")).encode()
        if len(answer) <= MAX_RESULT:
            return answer
        text = f"the result is larger than {MAX_RESULT / 2**20:g} MB"
    except ValueError as error:  # jq's own errors, from compiling and from running
        text = _one_line(str(error))
    except RecursionError:
        text = "the result is nested too deep"
    except MemoryError:
        text = "needed too much memory"
    return json.dumps({"error": text}).encode()


def _one_line(text: str) -> str:
    if text.startswith("jq: error: "):  # the lines after the first draw the place in the program
        text = text.removeprefix("jq: error: ").partition("\n")[0].removesuffix(":")
    return " ".join(text.split())[:MAX_TEXT] or "failed"


if __name__ == "__main__":
    _work(float(sys.argv[1]), int(sys.argv[2]))
