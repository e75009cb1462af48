"""Why somebody got an alert: the rule, its condition with the values that met it, and the way there. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.model.incident import Incident
from app.model.notification import Notification
from app.notifier.slack.markup import escape, when
from app.notifier.words import MAX_SHOWN_NAME_CHARS, words_of
from app.rules.rule import Rule

MAX_PART_CHARS = 600
MAX_WHY_VALUE_CHARS = 200


def why_text(incident: Incident, last: Notification | None, rule: Rule | None) -> str:
    """Say why an incident alerted, in Slack's markup.

    Args:
        incident: The incident.
        last: The last alert of it; None: there is none.
        rule: Its rule, as it is in force; None: it is gone.
    """
    name = escape(incident.rule, MAX_SHOWN_NAME_CHARS)
    lines = [f"*Rule* {name}, {incident.severity}" + ("" if rule else "; it is no longer in the rules file")]
    if rule is not None:
        blueprints = ", ".join(rule.blueprint)
        lines.append(f"*About* {escape(blueprints, MAX_PART_CHARS)}, at {', '.join(rule.on)}")
        condition = (
            _written(rule.when.model_dump(by_alias=True, exclude_unset=True)) if rule.when else "any change"
        )
        lines.append(f"*When* {escape(condition, MAX_PART_CHARS)}")
    if last is not None and (value := words_of(last).value(MAX_WHY_VALUE_CHARS)):
        lines.append(f"*Value* {escape(value, MAX_PART_CHARS)}")
    lines.append(
        f"*Open* since {when(incident.opened_at)}, now {escape(incident.state, MAX_WHY_VALUE_CHARS)}"
    )
    if rule is not None:
        send = [
            target if isinstance(target, str) else target.model_dump(exclude_unset=True)
            for target in rule.send
        ]
        lines.append(f"*Send* {escape(_written(send), MAX_PART_CHARS)}")
    told = ", ".join(dict.fromkeys(place.destination for place in incident.told))
    lines.append(f"*Alerted* {escape(told, MAX_PART_CHARS) or 'nobody'}")
    return "\n".join(lines)


def _written(value: Any) -> str:
    """Write a part of the rules file on one line, as YAML reads it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_nested(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_nested(item) for item in value)
    return str(value)


def _nested(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{_written(value)}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{_written(value)}]"
    return _written(value)
