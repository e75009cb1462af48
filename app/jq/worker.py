"""The process in which jq programs run: nothing else is here, so that it starts in a moment.

It has no environment and opens no files, so ``env``, ``import`` and ``include`` find nothing, as in Port:
https://github.com/port-labs/jq-node-bindings (``enableEnv`` is off).

The protocol is lines of JSON. A request is two: the programs, and the event (empty: only compile them).
The answer is one line a program, as each is done; where the process dies, the first program without
an answer is at fault.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from functools import lru_cache

import jq

if sys.platform != "win32":
    import resource

LIMIT_SECONDS = 0.25
"""How long a program may take, in processor time, so that a busy machine fails none of them."""

READING_SECONDS_PER_BYTE = 0.5 / 2**20
"""How long it may take in addition for each byte of the event: jq reads the event again for each program,
and was measured to take 0.1 to 0.3 s a MiB."""

WALL_CLOCK_FACTOR = 20
"""How many times the limit may pass on the wall's clock until the program is given up."""

MEMORY_BYTES = 256 * 2**20
"""How much address space the worker may take; on its own it takes about 20 MiB."""

MAX_RESULT_BYTES = 2**20
"""How large one result may be as JSON."""

MAX_ERROR_CHARS = 200
"""How long an error's text may be."""

MAX_COMPILED = 4096
"""How many compiled programs the worker keeps; one takes 20 KiB, and 4 ms to compile."""

_compile = lru_cache(maxsize=MAX_COMPILED)(jq.compile)


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
        seconds = limit + len(event) * READING_SECONDS_PER_BYTE
        for program in json.loads(line):
            # Two timers: a program that only waits uses no processor time.
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.setitimer(signal.ITIMER_REAL, seconds * WALL_CLOCK_FACTOR)
            answer = _answer(program, event.decode())
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()


def _answer(program: str, event: str) -> bytes:
    """Run or compile one program; return the line that answers it."""
    text = ""
    try:
        compiled = _compile(program)
        value = next(iter(compiled.input_text(event)), None) if event else None
        answer = json.dumps({"value": value}, ensure_ascii=False, separators=(",", ":")).encode()
        if len(answer) <= MAX_RESULT_BYTES:
            return answer
        text = f"the result is larger than {MAX_RESULT_BYTES / 2**20:g} MB"
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
    return " ".join(text.split())[:MAX_ERROR_CHARS] or "failed"


if __name__ == "__main__":
    _work(float(sys.argv[1]), int(sys.argv[2]))
