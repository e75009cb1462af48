"""The buttons below an incident's message and below a digest, and the form behind one of them: pure.

A button carries the id of our incident and the version that it was drawn for, nothing that decides.

Rules: https://docs.slack.dev/reference/block-kit/block-elements, https://docs.slack.dev/surfaces/modals
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.model.notification import Link, Notification
from app.rules.destination import leads_somewhere

ACKNOWLEDGE, UNACKNOWLEDGE, SILENCING, RESOLVE = "acknowledge", "unacknowledge", "silence", "resolve"
MORE = "more"
ACTIONS = frozenset({ACKNOWLEDGE, UNACKNOWLEDGE, SILENCING, RESOLVE, MORE})
"""The buttons that do something here; Slack tells of clicks on the others too, which open an address."""
WHY, RUNBOOK = "why", "runbook"
UNTIL_OVER, OTHER = "until_over", "other"
SILENCE_CHOICES = {"1h": "1 hour", "4h": "4 hours", UNTIL_OVER: "until it resolves", OTHER: "other …"}
OF_A_DIGEST = "digest"
LENGTH_FIELD, COMMENT_FIELD = "length", "comment"
MAX_COMMENT_CHARS = 300
_BLOCK = re.compile(r"incident:(\d{1,18}):(.+)", re.DOTALL)
_RUNBOOK = re.compile(r"run[ _-]?book", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class About:
    """The incident that buttons are about.

    Attributes:
        incident: Its id.
        version: The incident's version when they were drawn.
    """

    incident: str
    version: int

    @property
    def block_id(self) -> str:
        """The name of the block of its buttons: what comes back with a click."""
        return f"incident:{self.version}:{self.incident}"

    @classmethod
    def parse(cls, block_id: str) -> "About | None":
        """Read the name of a block; None: it is not of an incident's buttons."""
        parts = _BLOCK.fullmatch(block_id)
        return cls(parts[2], int(parts[1])) if parts else None


def incident_buttons(about: About, last: Notification, *, closable: bool) -> dict[str, Any]:
    """Make the block of the buttons of an open incident.

    Args:
        about: The incident.
        last: The last alert of it.
        closable: No change need end it: a person may.
    """
    elements = [
        _button(UNACKNOWLEDGE, "Un-acknowledge")
        if last.acknowledged
        else _button(ACKNOWLEDGE, "Acknowledge", style="primary"),
        _silence("Silence"),
    ]
    if closable:
        confirm = {
            "title": _text("Resolve it?"),
            "text": _text("The incident is closed, and everybody who was alerted is told."),
            "confirm": _text("Resolve"),
            "deny": _text("Cancel"),
        }
        elements.append(_button(RESOLVE, "Resolve", confirm=confirm))
    options: list[dict[str, Any]] = [{"text": _text("Why did I get this?"), "value": WHY}]
    if runbook := runbook_of(last):
        options.append({"text": _text("Runbook"), "value": RUNBOOK, "url": runbook.url})
    elements.append({"type": "overflow", "action_id": MORE, "options": options})
    return {"type": "actions", "block_id": about.block_id, "elements": elements}


def digest_buttons() -> dict[str, Any]:
    """Make the block below a digest: which incidents it has is known by the message."""
    return {"type": "actions", "block_id": OF_A_DIGEST, "elements": [_silence("Silence these")]}


def runbook_of(notification: Notification) -> Link | None:
    """Find the entity's link to a runbook; None: it has none."""
    links = (link for link in notification.links if _RUNBOOK.search(link.name) and leads_somewhere(link.url))
    return next(links, None)


def silence_form(metadata: Mapping[str, str], longest: str) -> dict[str, Any]:
    """Make the form that asks for how long to silence, and why.

    Args:
        metadata: What comes back with it.
        longest: The longest that the person may silence, in words.
    """
    return {
        "type": "modal",
        "callback_id": SILENCING,
        "private_metadata": json.dumps(metadata),
        "title": _text("Silence"),
        "submit": _text("Silence"),
        "close": _text("Cancel"),
        "blocks": [
            _input(LENGTH_FIELD, "For how long?", f"Such as 90m, 8h or 2d; {longest} at the most.", 20),
            _input(COMMENT_FIELD, "Why?", "For the audit trail.", MAX_COMMENT_CHARS, optional=True),
        ],
    }


def _button(action_id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "button", "action_id": action_id, "text": _text(text), **more}


def _silence(placeholder: str) -> dict[str, Any]:
    options = [{"text": _text(text), "value": value} for value, text in SILENCE_CHOICES.items()]
    return {
        "type": "static_select",
        "action_id": SILENCING,
        "placeholder": _text(placeholder),
        "options": options,
    }


def _input(name: str, label: str, hint: str, most: int, *, optional: bool = False) -> dict[str, Any]:
    element = {"type": "plain_text_input", "action_id": name, "max_length": most}
    return {
        "type": "input",
        "block_id": name,
        "label": _text(label),
        "hint": _text(hint),
        "element": element,
        "optional": optional,
    }


def _text(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}
