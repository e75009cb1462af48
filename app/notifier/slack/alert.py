"""The Slack message of one alert: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes)
"""

from collections.abc import Mapping
from typing import Any

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
)

from app.model.change import RECONCILE
from app.model.digest import LEFT_OUT
from app.model.incident import Step
from app.model.notification import Notification, text_of
from app.model.text import boundary
from app.notifier.base import duration, entity_url, mark, words
from app.notifier.kind import NotifierContext, SlackMessage
from app.notifier.slack.markup import (
    MAX_SHOWN_NAME_CHARS,
    NOTICE_MARK,
    called,
    escape,
    happened,
    has_marks,
    label,
    lead,
    message_of,
    mrkdwn,
    section,
    title_of,
    urgent,
    when,
)
from app.rules.destination import DestinationSettings, leads_somewhere

# Slack's own sizes are larger (a section 3,000, a context element 3,000, all blocks together about 11,000
# characters); these are what a person reads at a glance, and their sum stays below 10,000.
MAX_ALERT_VALUE_CHARS = 300
MAX_CHAIN_VALUE_CHARS = 190  # so that three take no more room than the two of one alert
MAX_OWN_MESSAGE_CHARS = 600
MAX_NOTICE_CHARS = 1_000
MAX_INSTEAD_CHARS = 200
MAX_OTHERS = 8
MAX_OTHER_CHARS = 100
MAX_BUTTON_CHARS = 75
MAX_TITLE_URL_CHARS = 1_000
MAX_BUTTON_URLS_CHARS = 2_000

COURSE_WORDS = {Step.RESOLVED: "Resolved after", Step.CHANGED: "Open for", Step.REMINDED: "Still open after"}


async def dry_run(
    _: DestinationSettings, notification: Notification, __: Mapping[str, Any], context: NotifierContext
) -> SlackMessage:
    """Give the message of an alert, for a kind of destination that sends it in Slack's form."""
    return alert_message(notification, context.app_url)


def alert_message(
    notification: Notification, app_url: str, first: Notification | None = None
) -> dict[str, Any]:
    """Make the message of an alert: ``text`` for notifications and screen readers, ``blocks`` to look at.

    With the first alert of its incident it says all that is known since then.
    """
    if notification.step is Step.NOTICE:
        text = called(notification.mention, f"{NOTICE_MARK} {escape(notification.title, MAX_NOTICE_CHARS)}")
        return message_of(text, [section(text)])
    blocks: list[Block] = [section("\n".join(_headline(notification, app_url, first)))]
    if notification.others:
        blocks.append(section("\n".join(_others(notification))))
    blocks.append(_context(notification))
    if buttons := _buttons(notification):
        blocks.append(ActionsBlock(elements=buttons))
    return message_of(_text(notification), blocks)


def _text(notification: Notification) -> str:
    value = notification.change
    begin = called(notification.mention, f"{lead(notification)} {title_of(notification)}")
    if value is None:
        return f"{begin}: {happened(notification)}"
    name, before, now = escape(value.name, MAX_SHOWN_NAME_CHARS), _shown(value.before), _shown(value.after)
    if notification.step is Step.REMINDED:
        return f"{begin}: {name} still {now}"
    return f"{begin}: {name} {before} → {now}"


def _shown(value: Any) -> str:
    return escape(text_of(value), MAX_ALERT_VALUE_CHARS)


def _value_line(notification: Notification, first: Notification | None) -> str:
    value, begin = notification.change, first.change if first and first != notification else None
    if value is None:
        text = happened(notification)
        return text[:1].upper() + text[1:]  # not `capitalize`, which would make a name's capitals small
    name, limit, shown = escape(value.name, MAX_SHOWN_NAME_CHARS), MAX_ALERT_VALUE_CHARS, []
    if notification.step is not Step.REMINDED:
        if begin and begin.name == value.name:  # all values since the incident began
            limit = MAX_CHAIN_VALUE_CHARS
            shown = [_marked(begin.before, limit), _marked(begin.after, limit)]
            shown += [LEFT_OUT] if begin.after != value.before else []
        else:
            shown = [_marked(value.before, limit)]
    return f"{name}: {' → '.join([*shown, _marked(value.after, limit, bold='*')])}"


def _marked(value: Any, limit: int, bold: str = "") -> str:
    text = f"{bold}{escape(text_of(value), limit)}{bold}"
    return f"{mark(value)} {text}" if isinstance(value, str) else text


def _headline(notification: Notification, app_url: str, first: Notification | None) -> list[str]:
    title = title_of(notification)
    url = entity_url(app_url, notification.blueprint, notification.entity)
    linked = f"*<{url}|{title}>*" if len(url) <= MAX_TITLE_URL_CHARS else f"*{title}*"
    lines = [called(notification.mention, urgent(notification) + linked)]
    lines.append(_value_line(notification, first))
    if course := _course(notification):
        lines.append(course)
    if notification.late:
        lines.append("Late: a newer change of this entity was seen before this one.")
    if notification.instead:
        lines.append(f"{NOTICE_MARK} {escape(notification.instead, MAX_INSTEAD_CHARS)}")
    if notification.message:
        lines.append(_own_message(notification))
    # For how long an open incident has lasted would be wrong by the time an updated message is read.
    if first and notification.opened_at and notification.step is not Step.RESOLVED and not notification.ended:
        lines.append(f"Open since {when(notification.opened_at)}")
    return lines


def _course(notification: Notification) -> str:
    """Describe the course of the incident in one line; empty if there is nothing to say."""
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
    if notification.opened_at and (words_before := COURSE_WORDS.get(step)):
        since = f"{words_before} {duration(notification.at - notification.opened_at)}"
    if notification.worse:
        return f"Got worse; {since[:1].lower()}{since[1:]}" if since else "Got worse"
    return since


def _own_message(notification: Notification) -> str:
    # What the rule's author wrote may hold markup; what was put into it may not.
    room = MAX_OWN_MESSAGE_CHARS
    text = ""
    for part in notification.message:
        if part.literal:
            piece = part.text[: boundary(part.text, room)]
        else:
            piece = escape(part.text, min(room, MAX_ALERT_VALUE_CHARS))
        text += piece
        room -= len(piece)
        if room < 2:
            return text + "…"
    return text


def _others(notification: Notification) -> list[str]:
    lines = ["Changed as well:"]
    for value in notification.others[:MAX_OTHERS]:
        before, after = (escape(text_of(side), MAX_OTHER_CHARS) for side in (value.before, value.after))
        lines.append(f"• {escape(value.name, MAX_SHOWN_NAME_CHARS)}: {before} → {after}")
    left_out = notification.others_left_out + max(0, len(notification.others) - MAX_OTHERS)
    return [*lines, f"… and {left_out} more"] if left_out else lines


def _context(notification: Notification) -> ContextBlock:
    parts = [_by(notification), when(notification.at)]
    if notification.teams:
        parts.append(f"Team {escape(', '.join(notification.teams), MAX_ALERT_VALUE_CHARS)}")
    blueprint = escape(notification.blueprint, MAX_SHOWN_NAME_CHARS)
    entity = escape(notification.entity, MAX_SHOWN_NAME_CHARS)
    parts.append(f"{blueprint} {entity}" if has_marks(blueprint + entity) else f"{blueprint} `{entity}`")
    if not any(map(has_marks, parts)):
        return ContextBlock(elements=[mrkdwn("  |  ".join(parts))])
    return ContextBlock(elements=[label(part) if has_marks(part) else mrkdwn(part) for part in parts])


def _by(notification: Notification) -> str:
    if notification.origin == RECONCILE and not notification.actor:
        return "Found by reconciling"
    by = escape(notification.actor, MAX_ALERT_VALUE_CHARS) or "unknown"
    via = f" via {escape(notification.origin, MAX_SHOWN_NAME_CHARS)}" if notification.origin else ""
    return f"By {by}{via}"


def _buttons(notification: Notification) -> list[ButtonElement]:
    buttons: list[ButtonElement] = []
    room = MAX_BUTTON_URLS_CHARS
    for number, link in enumerate(notification.links):
        # Slack refuses the whole message for one address that is none.
        if len(link.url) <= room and leads_somewhere(link.url):
            room -= len(link.url)
            text = label(escape(words(link.name), MAX_BUTTON_CHARS) or "Link")
            buttons.append(ButtonElement(text=text, url=link.url, action_id=f"link-{number}"))
    return buttons
