"""What bootstrap finds and does: how Port differs from what should be there, and the words for it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from app.model.notification import one_line
from app.port.client import Request

LONGEST_VALUE = 160
LONGEST_LINE = 600


class Result(StrEnum):
    """What came of one thing."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    REMOVED = "removed"
    ABSENT = "not there"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that was not as it should be.

    Attributes:
        path: The field, dotted.
        before: What was there; None: nothing, which Port does not tell from null.
        after: What is to be there.
    """

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What was done about one thing in Port.

    Attributes:
        kind: ``blueprint``, ``entity`` or ``automation``.
        identifier: Its identifier.
        result: What came of it.
        difference: The fields that were changed.
        reason: Why it was kept, or on what the result rests; may be empty.
    """

    kind: str
    identifier: str
    result: Result
    difference: tuple[Difference, ...] = ()
    reason: str = ""


def merged(theirs: Any, ours: Any) -> Any:
    """Return `theirs` with `ours` laid over it: what only they have stays, also in lists.

    An object whose `type` is another one is replaced: the fields of two types do not go together.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        # `type` may also be the name of a property that they have: then it says nothing about `theirs`.
        if isinstance(ours.get("type"), str) and ours["type"] != theirs.get("type"):
            return ours
        return theirs | {key: merged(theirs.get(key), value) for key, value in ours.items()}
    if isinstance(theirs, list) and isinstance(ours, list):
        return [*theirs, *(one for one in ours if one not in theirs)]
    return ours


def differences(theirs: Any, target: Any, path: str = "") -> Iterator[Difference]:
    """Yield each field of `target` that is another one in `theirs`; what only they have is no difference."""
    if isinstance(theirs, dict) and isinstance(target, dict):
        for key, value in target.items():
            yield from differences(theirs.get(key), value, f"{path}.{key}" if path else key)
    elif theirs != target:
        yield Difference(path, theirs, target)


def render(step: Step, *, dry_run: bool = False) -> list[str]:
    """Return a step as lines for a screen: what came of it, then each difference.

    Args:
        step: The step.
        dry_run: Whether it would only be done.
    """
    done = step.result in {Result.CREATED, Result.CHANGED, Result.REMOVED}
    verb = f"would be {step.result}" if dry_run and done else step.result.value
    reason = f": {step.reason}" if step.reason else ""
    lines = [one_line(f"{step.kind} {step.identifier}: {verb}{reason}", LONGEST_LINE)]
    lines += [f"    {one.path}: {_value(one.before)} → {_value(one.after)}" for one in step.difference]
    return lines


def render_requests(requests: Iterable[Request]) -> list[str]:
    """Return requests as lines for a screen: method and route with the query, then the body's JSON."""
    lines = []
    for request in requests:
        query = f"?{urlencode(request.query)}" if request.query else ""
        lines.append(f"{request}{query}")
        if request.body is not None:
            lines += json.dumps(request.body, indent=2, ensure_ascii=False).splitlines()
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    return one_line(json.dumps(value, ensure_ascii=False), LONGEST_VALUE)
