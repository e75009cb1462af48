"""Runs jq programs on Port's event without letting one of them do harm.

A jq program can loop for ever (``def f: f; f``) or ask for all memory (``"x" * 1e9``, already while it is
compiled), and neither can be interrupted inside a process. So programs run in a worker process,
``python -m app.jq.worker``, which the kernel ends when one takes too long or too much. It starts on the
first use and ends with its parent: at the end of its input, or, in the middle of a program, by its timer.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.errors import DeliveryFailed, JqUnavailable, Scope
from app.jq.path import NotPlain, follow, path, plain, small
from app.jq.worker import LIMIT_SECONDS, MEMORY_BYTES, READING_SECONDS_PER_BYTE, WALL_CLOCK_FACTOR
from app.rules.condition import JqError
from app.rules.template import expressions, fill

COSTLY_FAILURES = 3
"""After so many in a row a program rests: one slow program must not hold up every other."""
SLOW_REST_SECONDS = 60.0
LATE_SECONDS = 2.0
"""How much later than by its own timers the worker is ended."""
TOO_LONG_SIGNALS = frozenset({"SIGPROF", "SIGALRM"})
TOO_MUCH_SIGNALS = frozenset({"SIGABRT"})  # what jq does when it gets no memory
CRASHES = frozenset({"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP"})  # jq's, of this program's making


class Jq:
    """Runs users' programs, one call at a time, in a worker that starts on the first use.

    Args:
        limit: How long one program may take, in seconds of processor time.
        memory: How much memory the worker may take, in bytes.
    """

    def __init__(self, limit: float = LIMIT_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self._worker = _Worker(limit, memory)
        # One thread: it waits for the worker in place of the event loop, and puts the calls in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jq")
        self._failures: dict[str, tuple[int, float]] = {}  # of a program: costly ones, and when the last was
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._worker.pid

    async def evaluate(self, programs: Iterable[str], event: Mapping[str, Any]) -> dict[str, Any]:
        """Run programs as `run` does, where one that could not be run must not count as one that failed.

        Raises:
            JqUnavailable: One of them could not be run, through no fault of its own.
        """
        results = await self.run(programs, event)
        for result in results.values():
            if isinstance(result, JqError) and result.ours:
                raise JqUnavailable(f"jq cannot be run: {result.text}")
        return results

    async def render(self, value: Any, event: Mapping[str, Any]) -> Any:
        """Fill in the expressions of a template, text or nested JSON.

        Raises:
            DeliveryFailed: One of them failed: this message can never be sent. If it could not be run, it may
                be later.
        """
        results = await self.run(expressions(value), event)
        for program, result in results.items():
            if isinstance(result, JqError):
                scope = Scope.TRANSIENT if result.ours else Scope.MESSAGE
                raise DeliveryFailed(f"template {{{{ {program} }}}}: {result.text}", scope)
        return fill(value, results)

    async def run(self, programs: Iterable[str], event: Mapping[str, Any]) -> dict[str, Any]:
        """Run programs on Port's event, all in one trip to the worker; a path of names needs no trip at all.

        The result is each program's first output as JSON, None also if it has none, in the programs' order.
        That of one that fails is a `JqError`, and does not affect the others; nothing is raised.
        """
        results: dict[str, Any] = {}
        asked = []
        for program in dict.fromkeys(programs):
            results[program] = None  # keeps its place
            try:
                results[program] = small(follow(program, event))
            except (NotPlain, RecursionError):
                asked.append(program)
        if asked:
            loop = asyncio.get_running_loop()
            results |= await loop.run_in_executor(self._thread, self._run, asked, event)
        return results

    def _run(self, programs: Sequence[str], event: Mapping[str, Any]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for program in programs:
            with suppress(NotPlain, RecursionError):
                results[program] = plain(follow(program, event))
            if program not in results and self._rests(program):
                results[program] = JqError(
                    f"took too long {COSTLY_FAILURES} times, and rests for {SLOW_REST_SECONDS:g} s"
                )
        # Also here, in the thread: what may be large was left out on the event loop.
        asked = [program for program in programs if program not in results]
        answers = self._worker.run(asked, event) if asked else []
        for program, answer in zip(asked, answers, strict=True):
            if isinstance(answer, JqError) and answer.costly:
                self._failures[program] = self._failures.get(program, (0, 0.0))[0] + 1, time.monotonic()
            else:
                self._failures.pop(program, None)
        return results | dict(zip(asked, answers, strict=True))

    def _rests(self, program: str) -> bool:
        failures, failed_at = self._failures.get(program, (0, 0.0))
        return failures >= COSTLY_FAILURES and time.monotonic() < failed_at + SLOW_REST_SECONDS

    async def close(self) -> None:
        """End the worker after the calls that wait for it; no call may follow."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._worker.stop)
            self._thread.shutdown(wait=False)


@contextmanager
def checking() -> Iterator[Callable[[str], str | None]]:
    """Give a function that compiles a program and returns jq's error in one line, or None.

    The function raises `JqUnavailable` where it cannot be compiled. It blocks: a tenth of a second for a
    process, as compiling can loop and take all memory too, and 4 ms a program. Plain paths are known to be
    right and need no process.
    """
    worker = _Worker(LIMIT_SECONDS, MEMORY_BYTES)

    def problem(program: str) -> str | None:
        if path(program) is not None:
            return None
        (answer,) = worker.run([program], None)
        if isinstance(answer, JqError) and answer.ours:
            raise JqUnavailable(f"jq cannot be run: {answer.text}")
        return answer.text if isinstance(answer, JqError) else None

    try:
        yield problem
    finally:
        worker.stop()


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

    def run(self, programs: Sequence[str], event: Mapping[str, Any] | None) -> list[Any]:
        """Run the programs on the event, or only compile them if there is none; give each one's result."""
        try:
            line = b"" if event is None else _encode(event)
        except (ValueError, TypeError, RecursionError):
            return [JqError("the event is not JSON that jq can read")] * len(programs)
        answers: list[Any] = []
        spared = -1
        while len(answers) < len(programs):
            try:
                with self._deadline(len(line)):
                    for answer in self._ask(programs[len(answers) :], line):
                        answers.append(answer)  # noqa: PERF402 - what came before it died must be kept
            except _Died:
                at, died_of = len(answers), self._bury()
                text = self._fault(died_of)
                if text is None and spared != at:
                    spared = at  # something else may have killed it: this program gets another worker
                    continue
                # Twice, and still not known by whom: no program must pay for that.
                ours = text is None and died_of not in CRASHES
                answers.append(JqError(text or f"the jq process died: {died_of}", costly=not ours, ours=ours))
            except (OSError, RuntimeError) as error:  # no more processes, files, memory or threads
                fault = JqError(f"the jq process cannot start: {error}", ours=True)
                answers += [fault] * (len(programs) - len(answers))
        return answers

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process:
            self._process.kill()
            self._bury()

    @contextmanager
    def _deadline(self, event_bytes: int) -> Iterator[None]:
        """Kill a worker whose own timers do not end it: one that is stopped, say."""
        seconds = (self._limit + event_bytes * READING_SECONDS_PER_BYTE) * WALL_CLOCK_FACTOR + LATE_SECONDS
        self._process = self._process or self._start()
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _ask(self, programs: Sequence[str], event: bytes) -> Iterator[Any]:
        process = self._process
        assert process  # noqa: S101 - `_deadline` has started it
        assert process.stdin  # noqa: S101 - it was started with pipes
        assert process.stdout  # noqa: S101
        try:
            process.stdin.write(b"%s\n%s\n" % (json.dumps(programs).encode(), event))
            process.stdin.flush()
        except BrokenPipeError:
            raise _Died from None
        for _ in programs:
            line = process.stdout.readline()
            if not line.endswith(b"\n"):
                raise _Died
            yield _decode(line)

    def _start(self) -> subprocess.Popen[bytes]:
        # PYTHONPATH, as it must find what this process finds; -P, as this file must not hide the library.
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
        return subprocess.Popen(  # noqa: S603 - it is our own module
            [sys.executable, "-P", "-m", "app.jq.worker", str(self._limit), str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # where `debug` writes the event
            env={**needed, "PYTHONPATH": path, "PYTHONUTF8": "1"},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker when it is done
        )

    def _bury(self) -> str:
        """Wait for the dead process; return a signal's name, or an exit status."""
        process, self._process = self._process, None
        if process is None:
            return "never started"
        with suppress(BrokenPipeError), process:  # closes the pipes and waits
            # It has closed its output, and so is about to end; a worker that does not is killed.
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _fault(self, died_of: str) -> str | None:
        """Say in which way the program killed the worker; None if it may be innocent."""
        if died_of in TOO_LONG_SIGNALS:
            return f"took longer than {self._limit * 1000:g} ms"
        return (
            f"needed more than {self._memory / 2**20:g} MB of memory" if died_of in TOO_MUCH_SIGNALS else None
        )


def _encode(event: Mapping[str, Any]) -> bytes:
    """Encode the event as a line of JSON in UTF-8; lone surrogates, which jq refuses, become U+FFFD."""
    text = json.dumps(event, default=dict, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _decode(line: bytes) -> Any:
    try:
        answer = json.loads(line)
    except RecursionError:
        return JqError("the result is nested too deep")
    return JqError(answer["error"]) if "error" in answer else answer["value"]
