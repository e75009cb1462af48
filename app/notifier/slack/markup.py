"""Text in Slack's markup, in which nothing from the catalog is markup: pure.

Rules: https://docs.slack.dev/messaging/formatting-message-text (escaping)
"""

import re
from datetime import datetime
from itertools import accumulate, takewhile

from slack_sdk.models.blocks import MarkdownTextObject

from app.model.digest import is_over
from app.model.notification import Notification, one_line
from app.notifier.base import mark, timestamp

MAX_TITLE_CHARS = 250
MAX_SHOWN_NAME_CHARS = 80
RESOLVED_MARK = "🟢"
NOTICE_MARK = "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}"
URGENT_MARK = "🚨"
SEVERITY_MARKS = {"critical": "🔴", "warning": "🟠", "info": "⚪"}


def escape(text: str, limit: int) -> str:
    """Escape catalog text so that Slack shows it as it is: one line, `limit` characters at most, no markup.

    An unescaped ``<!channel>`` in a title would call everybody.
    """
    line = one_line(text[: 8 * limit])
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # JSON doubles quotes and backslashes, and it is the JSON that must not become too long.
    sizes = accumulate(2 if char in '"\\' else 1 for char in escaped)
    fitting = sum(1 for _ in takewhile(lambda size: size <= limit - 1, sizes))
    if len(escaped) <= fitting + 1:
        return escaped
    return re.sub(r"&[a-z]*$", "", escaped[:fitting]) + "…"  # no half of an escape


def called(mention: str, text: str) -> str:
    """Put a mention, by the rule's author, never from the catalog, in front of a text; it may be empty."""
    return f"{mention} {text}" if mention else text


def mrkdwn(text: str) -> MarkdownTextObject:
    """Make a text object of text with markup, to which Slack adds none by itself."""
    # verbatim: Slack must not find links, channels or people in text of the catalog.
    return MarkdownTextObject(text=text, verbatim=True)


def when(time: datetime) -> str:
    """Write a time so that Slack shows it in the reader's own time zone."""
    return f"<!date^{int(time.timestamp())}^{{date_num}} {{time_secs}}|{timestamp(time)}>"


def title_of(notification: Notification, limit: int = MAX_TITLE_CHARS) -> str:
    """Choose the rule's own title, else the entity's, else its identifier; escaped."""
    own = "".join(part.text for part in notification.own_title)
    return escape(own or notification.title, limit) or escape(notification.entity, limit) or "(no name)"


def lead(notification: Notification) -> str:
    """Choose the mark that begins a message: the new status's, else the severity's."""
    value = notification.change
    if value is not None and isinstance(value.after, str):
        return mark(value.after)
    if is_over(notification):
        return RESOLVED_MARK
    return SEVERITY_MARKS[notification.severity]


def urgent(notification: Notification) -> str:
    """Return the mark of a critical alert that is not over, with a space; of another one an empty text."""
    return f"{URGENT_MARK} " if notification.severity == "critical" and not is_over(notification) else ""


def happened(notification: Notification) -> str:
    """Say in a word what happened to the entity, for an alert that is about no value."""
    timer = f"the timer of {escape(notification.timer or 'a property', MAX_SHOWN_NAME_CHARS)} ran out"
    return {"CREATE": "created", "DELETE": "deleted", "TIMER_EXPIRED": timer}.get(
        notification.action, "changed"
    )
