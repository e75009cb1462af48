"""What an alert looks like in Slack: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes),
https://docs.slack.dev/messaging/formatting-message-text (escaping)
"""

import re
from datetime import datetime
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

from app.model.change import RECONCILE
from app.model.digest import is_over
from app.model.incident import Step
from app.model.notification import Notification, ValueChange, one_line, text_of
from app.notifier.base import duration, entity_url, mark, timestamp, words

# Slack's own sizes are larger (a section 3,000, a context element 3,000, all blocks together about 11,000
# characters); these are what a person reads at a glance, and their sum stays below 10,000.
MAX_TITLE = 250
MAX_VALUE = 300
MAX_NAME = 80
MAX_MESSAGE = 600
MAX_NOTICE = 1_000
MAX_OTHERS = 8
MAX_BUTTON_TEXT = 75
MAX_TITLE_URL = 1_000
MAX_ALL_URLS = 2_000

RESOLVED_MARK = "🟢"
NOTICE_MARK = "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}"
URGENT_MARK = "🚨"
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
    if notification.step is Step.NOTICE:
        text = called(notification.mention, f"{NOTICE_MARK} {escape(notification.title, MAX_NOTICE)}")
        return {"text": text, "blocks": [SectionBlock(text=mrkdwn(text)).to_dict()]}
    blocks: list[Block] = [SectionBlock(text=mrkdwn("\n".join(_headline(notification, app_url))))]
    if notification.others:
        blocks.append(SectionBlock(text=mrkdwn("\n".join(_others(notification)))))
    blocks.append(ContextBlock(elements=[mrkdwn(_context(notification))]))
    if buttons := _buttons(notification):
        blocks.append(ActionsBlock(elements=buttons))
    return {"text": _text(notification), "blocks": [block.to_dict() for block in blocks]}


def called(mention: str, text: str) -> str:
    """Return a text with whom it calls in front of it.

    Args:
        mention: In Slack's own notation, by the rule's author, never from the catalog; it may be empty.
        text: The text.
    """
    return f"{mention} {text}" if mention else text


def mrkdwn(text: str) -> MarkdownTextObject:
    """Return text with Slack's markup in it, of which Slack adds none by itself."""
    # verbatim: Slack must not find links, channels or people in what comes from the catalog.
    return MarkdownTextObject(text=text, verbatim=True)


def _text(notification: Notification) -> str:
    value = notification.change
    begin = called(notification.mention, f"{lead(notification)} {title_of(notification)}")
    if value is None:
        return f"{begin}: {happened(notification)}"
    name, before, now = escape(value.name, MAX_NAME), _shown(value.before), _shown(value.after)
    if notification.step is Step.REMINDED:
        return f"{begin}: {name} still {now}"
    return f"{begin}: {name} {before} → {now}"


def _shown(value: Any) -> str:
    return escape(text_of(value), MAX_VALUE)


def when(time: datetime) -> str:
    """Return a time that Slack shows in the reader's own time zone."""
    return f"<!date^{int(time.timestamp())}^{{date_num}} {{time_secs}}|{timestamp(time)}>"


def title_of(notification: Notification, limit: int = MAX_TITLE) -> str:
    """Return the rule's own title, else the entity's, else its identifier, escaped."""
    own = "".join(part.text for part in notification.own_title)
    return escape(own or notification.title, limit) or escape(notification.entity, limit) or "(no name)"


def lead(notification: Notification) -> str:
    """Return the mark that begins the message: that of a status, else that of the severity."""
    value = notification.change
    if value is not None and isinstance(value.after, str):
        return mark(value.after)
    if is_over(notification):
        return RESOLVED_MARK
    return SEVERITY_MARKS[notification.severity]


def urgent(notification: Notification) -> str:
    """Return what stands before the mark or the title where nobody should wait, else nothing."""
    return f"{URGENT_MARK} " if notification.severity == "critical" and not is_over(notification) else ""


def happened(notification: Notification) -> str:
    """Return what happened in words, where it is about no value."""
    timer = f"the timer of {escape(notification.timer or 'a property', MAX_NAME)} ran out"
    return {"CREATE": "created", "DELETE": "deleted", "TIMER_EXPIRED": timer}.get(
        notification.action, "changed"
    )


def _value_line(notification: Notification) -> str:
    value = notification.change
    if value is None:
        return happened(notification).capitalize()
    name = escape(value.name, MAX_NAME)
    before, now = (
        f"{mark(one)} {_shown(one)}" if isinstance(one, str) else _shown(one)
        for one in (value.before, value.after)
    )
    bold = f"{mark(value.after)} *{_shown(value.after)}*" if isinstance(value.after, str) else f"*{now}*"
    return f"{name}: {bold}" if notification.step is Step.REMINDED else f"{name}: {before} → {bold}"


def _headline(notification: Notification, app_url: str) -> list[str]:
    title = title_of(notification)
    url = entity_url(app_url, notification.blueprint, notification.entity)
    linked = f"*<{url}|{title}>*" if len(url) <= MAX_TITLE_URL else f"*{title}*"
    lines = [called(notification.mention, urgent(notification) + linked), _value_line(notification)]
    if course := _course(notification):
        lines.append(course)
    if notification.late:
        lines.append("Late: a newer change of this entity was seen before this one.")
    if notification.message:
        lines.append(_own_message(notification))
    return lines


def _course(notification: Notification) -> str:
    """Return how the incident goes, in one line; empty if there is nothing to say."""
    step = notification.step
    window = duration(notification.window) if notification.window else ""
    if step is Step.FLAPPING:
        often = f"Flaps: {notification.moves} changes"
        if not window:
            return f"{often}; quiet until it is stable"
        return f"{often} in {window}; quiet until it has been stable for that long"
    if step is Step.SETTLED:
        return f"Stable for {window}" if window else "Stable again"
    since = ""
    if notification.opened_at and (words_before := SINCE.get(step)):
        since = f"{words_before} {duration(notification.at - notification.opened_at)}"
    if notification.worse:
        return f"Got worse; {since[:1].lower()}{since[1:]}" if since else "Got worse"
    return since


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
    parts = [_by(notification), when(notification.at)]
    if notification.teams:
        parts.append(f"Team {escape(', '.join(notification.teams), MAX_VALUE)}")
    parts.append(f"{escape(notification.blueprint, MAX_NAME)} `{escape(notification.entity, MAX_NAME)}`")
    return "  |  ".join(parts)


def _by(notification: Notification) -> str:
    if notification.origin == RECONCILE and not notification.actor:
        return "Noticed by comparison"
    by = escape(notification.actor, MAX_VALUE) or "unknown"
    via = f" via {escape(notification.origin, MAX_NAME)}" if notification.origin else ""
    return f"By {by}{via}"


def _buttons(notification: Notification) -> list[ButtonElement]:
    buttons: list[ButtonElement] = []
    room = MAX_ALL_URLS
    for number, link in enumerate(notification.links):
        if len(link.url) <= room:
            room -= len(link.url)
            label = PlainTextObject(text=escape(words(link.name), MAX_BUTTON_TEXT) or "Link")
            buttons.append(ButtonElement(text=label, url=link.url, action_id=f"link-{number}"))
    return buttons
