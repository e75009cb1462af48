"""The steps of bootstrap: how Port differs from what should be there, and a step as text."""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from app.model.notification import one_line
from app.port.transport import Request

MAX_STEP_VALUE_CHARS = 160
MAX_STEP_CHARS = 600
NOTES = {"publish": " (it is paused: nothing arrives until somebody publishes it in Port)"}
"""What follows from a field that was left as it is."""


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
        left: The fields that differ from what would be made, and stay as somebody has set them.
        reason: Why it was kept, or on what the result rests; may be empty.
    """

    kind: str
    identifier: str
    result: Result
    difference: tuple[FieldDifference, ...] = ()
    reason: str = ""
    left: tuple[FieldDifference, ...] = ()


def completed(theirs: Any, ours: Any, enforced: Container[str] = (), path: str = "") -> Any:
    """Complete `theirs` with what only `ours` has; what both have stays theirs, but for `enforced` paths."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs | {
            key: completed(theirs.get(key), value, enforced, f"{path}.{key}" if path else key)
            for key, value in ours.items()
        }
    return ours if theirs is None or path in enforced else theirs


def differences(theirs: Any, target: Any, path: str = "") -> Iterator[FieldDifference]:
    """Yield each field of `target` that is another one in `theirs`; what only they have is no difference."""
    if isinstance(theirs, dict) and isinstance(target, dict):
        for key, value in target.items():
            yield from differences(theirs.get(key), value, f"{path}.{key}" if path else key)
    elif theirs != target:  # lists as a whole: their order may matter
        yield FieldDifference(path, theirs, target)


def left_as_is(target: Any, ours: Any) -> tuple[FieldDifference, ...]:
    """List what stays in `target` though `ours` has it otherwise; a list may have more than ours."""

    def has_ours(field: FieldDifference) -> bool:
        lists = isinstance(field.before, list) and isinstance(field.after, list)
        return lists and all(item in field.before for item in field.after)

    return tuple(field for field in differences(target, ours) if not has_ours(field))


def render(step: SetupStep, *, dry_run: bool = False) -> list[str]:
    """Render a step as lines for a screen: its result, then each difference; `dry_run`: it was not done."""
    done = step.result in {Result.CREATED, Result.CHANGED, Result.REMOVED}
    verb = f"would be {step.result}" if dry_run and done else step.result.value
    reason = f": {step.reason}" if step.reason else ""
    return [
        one_line(f"{step.kind} {step.identifier}: {verb}{reason}", MAX_STEP_CHARS),
        *(f"    {field.path}: {_value(field.before)} → {_value(field.after)}" for field in step.difference),
        *(
            f"    left as it is: {field.path}: {_value(field.before)}{NOTES.get(field.path, '')}"
            for field in step.left
        ),
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
