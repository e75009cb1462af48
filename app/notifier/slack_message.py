"""What an alert looks like in Slack: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes),
https://docs.slack.dev/messaging/formatting-message-text (escaping)
"""

import re
from itertools import accumulate, takewhile
from typing import Any

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from app.alerts.incident import Step
from app.alerts.notification import Notification, ValueChange, one_line, text_of
from app.notifier.base import duration, entity_url, mark, timestamp, words

# Slack's own sizes are larger (a section 3,000, a context element 3,000, all blocks together about 11,000
# characters); these are what a person reads at a glance, and their sum stays below 10,000.
MAX_TITLE = 250
MAX_VALUE = 300
MAX_NAME = 80
MAX_MESSAGE = 600
MAX_OTHERS = 8
MAX_BUTTON_TEXT = 75
MAX_TITLE_URL = 1_500
MAX_ALL_URLS = 2_000

RESOLVED_MARK = "🟢"
SEVERITY_MARKS = {"critical": "🔴", "warning": "🟠", "info": "⚪"}
SINCE = {Step.RESOLVED: "Resolved after", Step.CHANGED: "Open for", Step.REMINDED: "Still open after"}


def escape(text: str, limit: int) -> str:
    """Return catalog text that Slack shows as it is: one line, `limit` characters at most, no markup in it.

    An unescaped ``<!channel>`` in a title would call everybody.
    """
    line = one_line(text[: 8 * limit])
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # JSON doubles quotes and backslashes, and it is the JSON that must not become too long.
    sizes = accumulate(2 if one in '"\\' else 1 for one in escaped)
    fitting = sum(1 for _ in takewhile(lambda size: size <= limit - 1, sizes))
    if len(escaped) <= fitting + 1:
        return escaped
    return re.sub(r"&[a-z]*$", "", escaped[:fitting]) + "…"  # no half of an escape


def payload(notification: Notification, app_url: str) -> dict[str, Any]:
    """Return the message for an alert: ``text`` for notifications and screen readers, ``blocks`` to look at.

    Args:
        notification: What to say.
        app_url: The address of Port's app, for the link to the entity.
    """
    blocks: list[Block] = [SectionBlock(text=_mrkdwn("\n".join(_headline(notification, app_url))))]
    if notification.others:
        blocks.append(SectionBlock(text=_mrkdwn("\n".join(_others(notification)))))
    blocks.append(ContextBlock(elements=[_mrkdwn(_context(notification))]))
    if buttons := _buttons(notification):
        blocks.append(ActionsBlock(elements=buttons))
    return {"text": _text(notification), "blocks": [block.to_dict() for block in blocks]}


def _mrkdwn(text: str) -> MarkdownTextObject:
    # verbatim: Slack must not find links, channels or people in what comes from the catalog.
    return MarkdownTextObject(text=text, verbatim=True)


def _text(notification: Notification) -> str:
    value = notification.change
    lead = f"{_lead(notification)} {_title(notification)}"
    if value is None:
        return f"{lead}: {_happened(notification)}"
    name, before, now = escape(value.name, MAX_NAME), _shown(value.before), _shown(value.after)
    if notification.step is Step.REMINDED:
        return f"{lead}: {name} still {now}"
    return f"{lead}: {name} {before} → {now}"


def _shown(value: Any) -> str:
    return escape(text_of(value), MAX_VALUE)


def _title(notification: Notification) -> str:
    own = "".join(part.text for part in notification.own_title)
    return (
        escape(own or notification.title, MAX_TITLE) or escape(notification.entity, MAX_TITLE) or "(no name)"
    )


def _lead(notification: Notification) -> str:
    """Return the mark that begins the message: that of a status, else that of the severity."""
    value = notification.change
    if value is not None and isinstance(value.after, str):
        return mark(value.after)
    if notification.step is Step.RESOLVED:
        return RESOLVED_MARK
    return SEVERITY_MARKS[notification.severity]


def _happened(notification: Notification) -> str:
    timer = f"the timer of {escape(notification.timer or 'a property', MAX_NAME)} ran out"
    return {"CREATE": "created", "DELETE": "deleted", "TIMER_EXPIRED": timer}.get(
        notification.action, "changed"
    )


def _value_line(notification: Notification) -> str:
    value = notification.change
    if value is None:
        return _happened(notification).capitalize()
    name = escape(value.name, MAX_NAME)
    before, now = (
        f"{mark(one)} {_shown(one)}" if isinstance(one, str) else _shown(one)
        for one in (value.before, value.after)
    )
    bold = f"{mark(value.after)} *{_shown(value.after)}*" if isinstance(value.after, str) else f"*{now}*"
    return f"{name}: {bold}" if notification.step is Step.REMINDED else f"{name}: {before} → {bold}"


def _headline(notification: Notification, app_url: str) -> list[str]:
    title = _title(notification)
    url = entity_url(app_url, notification.blueprint, notification.entity)
    urgent = "🚨 " if notification.severity == "critical" and notification.step is not Step.RESOLVED else ""
    lines = [
        urgent + (f"*<{url}|{title}>*" if len(url) <= MAX_TITLE_URL else f"*{title}*"),
        _value_line(notification),
    ]
    if notification.opened_at and (since := SINCE.get(notification.step)):
        lines.append(f"{since} {duration(notification.at - notification.opened_at)}")
    if notification.late:
        lines.append("Late: a newer change of this entity was seen before this one.")
    if notification.message:
        lines.append(_own_message(notification))
    return lines


def _own_message(notification: Notification) -> str:
    # What the rule's author wrote may hold markup; what was put into it may not.
    room = MAX_MESSAGE
    text = ""
    for part in notification.message:
        piece = part.text[:room] if part.literal else escape(part.text, min(room, MAX_VALUE))
        text += piece
        room -= len(piece)
        if room < 2:
            return text + "…"
    return text


def _others(notification: Notification) -> list[str]:
    lines = ["Changed as well:", *map(_other, notification.others[:MAX_OTHERS])]
    left_out = notification.others_left_out + max(0, len(notification.others) - MAX_OTHERS)
    if left_out:
        lines.append(f"… and {left_out} more")
    return lines


def _other(value: ValueChange) -> str:
    limit = MAX_VALUE // 3
    before, after = escape(text_of(value.before), limit), escape(text_of(value.after), limit)
    return f"• {escape(value.name, MAX_NAME)}: {before} → {after}"


def _context(notification: Notification) -> str:
    by = escape(notification.actor, MAX_VALUE) or "unknown"
    via = f" via {escape(notification.origin, MAX_NAME)}" if notification.origin else ""
    time = timestamp(notification.at)
    parts = [f"By {by}{via}", f"<!date^{int(notification.at.timestamp())}^{{date_num}} {{time_secs}}|{time}>"]
    if notification.teams:
        parts.append(f"Team {escape(', '.join(notification.teams), MAX_VALUE)}")
    parts.append(f"{escape(notification.blueprint, MAX_NAME)} `{escape(notification.entity, MAX_NAME)}`")
    return "  |  ".join(parts)


def _buttons(notification: Notification) -> list[ButtonElement]:
    buttons: list[ButtonElement] = []
    room = MAX_ALL_URLS
    for number, link in enumerate(notification.links):
        if len(link.url) <= room:
            room -= len(link.url)
            label = PlainTextObject(text=escape(words(link.name), MAX_BUTTON_TEXT) or "Link")
            buttons.append(ButtonElement(text=label, url=link.url, action_id=f"link-{number}"))
    return buttons
