"""Says of a body that could not be read which of Port's forms it may be, and what each lacks."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from app.receive.event import SIDES
from app.receive.payload import AGENTS_BODY_PATH

FORMS = (
    ("an automation's or a workflow's body", ("event",)),
    ("a changelog's body", ()),
    ("a body through Port's agent", (*AGENTS_BODY_PATH, "event")),
)
"""Each form, and where its event is. https://docs.port.io/actions-and-automations/define-automations"""


def forms_tried(body: bytes) -> list[str]:
    """Say of each form, in the order in which they are tried, what a body lacks; none: it is no object."""
    try:
        loaded = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return []
    if not isinstance(loaded, dict):
        return []
    return [f"{name}: {_lacking(loaded, path)}" for name, path in FORMS]


def _lacking(body: Mapping[str, Any], path: tuple[str, ...]) -> str:
    event: Any = body
    for number, key in enumerate(path, 1):
        event = event.get(key) if isinstance(event, dict) else None
        if not isinstance(event, dict):
            return f"it has no object `{'.'.join(path[:number])}`"
    place = f"{'.'.join(path)}." if path else ""
    if not isinstance(event.get("action"), str) or not event["action"]:
        return f"it has no text `{place}action`"
    diff = event.get("diff")
    if not isinstance(diff, dict):
        return f"it has no object `{place}diff`, which an entity's change needs"
    sides = [side for side in SIDES if isinstance(diff.get(side), dict)]
    if not sides:
        return f"`{place}diff` has neither `before` nor `after`"
    nameless = [side for side in sides if not diff[side].get("identifier")]
    if nameless:
        return f"`{place}diff.{nameless[0]}` has no `identifier`"
    return "it has what this form needs; the reason above says what is wrong in it"
