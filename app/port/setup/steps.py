"""The steps of bootstrap: how Port differs from what should be there, and a step as text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from app.model.notification import one_line
from app.port.transport import Request

MAX_STEP_VALUE_CHARS = 160
MAX_STEP_CHARS = 600


class Result(StrEnum):
    """The result of one step."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    REMOVED = "removed"
    ABSENT = "not there"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field that was not as it should be, by its dotted path; Port does not tell nothing from null."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class SetupStep:
    """What was done about one blueprint, entity or automation in Port.

    Attributes:
        kind: ``blueprint``, ``entity`` or ``automation``.
        identifier: Its identifier.
        result: The result.
        difference: The fields that were changed.
        reason: Why it was kept, or on what the result rests; may be empty.
    """

    kind: str
    identifier: str
    result: Result
    difference: tuple[FieldDifference, ...] = ()
    reason: str = ""


def merged(theirs: Any, ours: Any) -> Any:
    """Merge `ours` over `theirs`: what only they have stays, also in lists.

    An object whose `type` is another one is replaced: the fields of two types do not go together.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        # `type` may also be the name of a property that they have: then it says nothing about `theirs`.
        if isinstance(ours.get("type"), str) and ours["type"] != theirs.get("type"):
            return ours
        return theirs | {key: merged(theirs.get(key), value) for key, value in ours.items()}
    if isinstance(theirs, list) and isinstance(ours, list):
        return [*theirs, *(item for item in ours if item not in theirs)]
    return ours


def differences(theirs: Any, target: Any, path: str = "") -> Iterator[FieldDifference]:
    """Yield each field of `target` that is another one in `theirs`; what only they have is no difference."""
    if isinstance(theirs, dict) and isinstance(target, dict):
        for key, value in target.items():
            yield from differences(theirs.get(key), value, f"{path}.{key}" if path else key)
    elif theirs != target:  # lists as a whole: their order may matter
        yield FieldDifference(path, theirs, target)


def render(step: SetupStep, *, dry_run: bool = False) -> list[str]:
    """Render a step as lines for a screen: its result, then each difference; `dry_run`: it was not done."""
    done = step.result in {Result.CREATED, Result.CHANGED, Result.REMOVED}
    verb = f"would be {step.result}" if dry_run and done else step.result.value
    reason = f": {step.reason}" if step.reason else ""
    return [
        one_line(f"{step.kind} {step.identifier}: {verb}{reason}", MAX_STEP_CHARS),
        *(f"    {field.path}: {_value(field.before)} → {_value(field.after)}" for field in step.difference),
    ]


def render_requests(requests: Iterable[Request]) -> list[str]:
    """Render requests as lines for a screen: method and route with the query, then the body's JSON."""
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
    return one_line(json.dumps(value, ensure_ascii=False), MAX_STEP_VALUE_CHARS)
