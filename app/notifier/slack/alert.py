"""The Slack message of one alert: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes)
"""

from collections.abc import Mapping
from typing import Any

from app.model.change import RECONCILE
from app.model.digest import Line
from app.model.notification import Notification, text_of
from app.model.text import boundary
from app.notifier.base import Item, Story, entity_url, name_of, page_of
from app.notifier.kind import NotifierContext, SlackMessage
from app.notifier.slack.markup import (
    Block,
    called,
    escape,
    has_marks,
    label,
    link_to,
    message_of,
    mrkdwn,
    section,
    small_print,
    urgent,
    when,
)
from app.notifier.words import EMPTY, MAX_SHOWN_NAME_CHARS, NOTICE_MARK, Words
from app.rules.destination import DestinationSettings, leads_somewhere

# Slack's own sizes are larger (a section 3,000, a context element 3,000, all blocks together about 11,000
# characters); these are what a person reads at a glance, and their sum stays below 10,000.
MAX_ALERT_VALUE_CHARS = 300
MAX_CHAIN_VALUE_CHARS = 190  # so that three take no more room than the two of one alert
MAX_OWN_MESSAGE_CHARS = 600
MAX_NOTICE_CHARS = 1_000
MAX_OTHERS = 8
MAX_OTHER_CHARS = 100
MAX_CALLED_CHARS = 80
MAX_BUTTON_CHARS = 75
MAX_TITLE_URL_CHARS = 1_000
MAX_BUTTON_URLS_CHARS = 2_000


async def dry_run(
    _: DestinationSettings, item: Item, __: Mapping[str, Any], context: NotifierContext
) -> SlackMessage:
    """Give the message of an alert, for a kind of destination that sends it in Slack's form."""
    return alert_message(by_name(item.notification), context.app_url, page_url=context.page_url)


def by_name(alert: Notification) -> Notification:
    """Name the people whom an alert calls, as the catalog does."""
    names = [f"@{escape(person.lstrip('@'), MAX_CALLED_CHARS)}" for person in alert.people]
    mention = " ".join(filter(None, (alert.mention, *names)))
    return alert.but(mention=mention, people=()) if names else alert


def alert_message(
    notification: Notification, app_url: str, first: Notification | None = None, page_url: str | None = None
) -> dict[str, Any]:
    """Make the message of an alert: ``text`` for notifications and screen readers, ``blocks`` to look at.

    With the first alert of its incident it says all that is known since then.
    """
    return line_message(line_of(Story(first or notification, notification)), app_url, page_url)


def line_of(story: Story) -> Line:
    """Make the line of an incident, of which what happened between its first and last alert is not known."""
    if story.first == story.last:
        return Line((0,), (story.last,))
    return Line((0,), (story.first, story.last), complete=False)


def line_message(line: Line, app_url: str, page_url: str | None = None) -> dict[str, Any]:
    """Make the message of the alerts of one entity under one rule, as `alert_message` does of one."""
    words, last = Words(line, escape, bold=lambda text: f"*{text}*"), line.last
    if line.is_notice:
        text = called(last.mention, f"{NOTICE_MARK} {escape(last.title, MAX_NOTICE_CHARS)}")
        return message_of(text, [section(text)])
    # Of an incident that goes on only the last alert calls: people were called at the first.
    mentions = [
        alert.mention for alert in (line.notifications if line.complete else (last,)) if alert.mention
    ]
    mention = " ".join(dict.fromkeys(mentions))
    url = entity_url(app_url, last.blueprint, last.entity, last.resource)
    url = url if len(url) <= MAX_TITLE_URL_CHARS else ""
    page = page_of(page_url, last.blueprint, last.entity) if page_url else ""
    page = page if len(page) <= MAX_TITLE_URL_CHARS else ""
    blocks: list[Block] = [section("\n".join([called(mention, _headline(words, url)), *_lines(words)]))]
    if last.members:
        blocks.append(section("\n".join(f"• {escape(text, MAX_OTHER_CHARS)}" for text in last.members)))
    if last.others:
        blocks.append(section("\n".join(_others(last))))
    blocks.append(_context(last))
    if buttons := _buttons(last, page):
        blocks.append({"type": "actions", "elements": buttons})
    links = (link_to(url, "Open in Port"), link_to(page, "Open its history"))
    text = f"{urgent(last)}{words.mark} {Words(line, escape).sentence()}"
    return message_of(called(mention, " ".join(filter(None, (text, *links)))), blocks)


def _headline(words: Words, url: str) -> str:
    return f"{urgent(words.last)}{words.mark} *{link_to(url, words.title()) or words.title()}*: {words.state}"


def _lines(words: Words) -> list[str]:
    line, last = words.line, words.last
    limit = MAX_CHAIN_VALUE_CHARS if len(line.notifications) > 1 else MAX_ALERT_VALUE_CHARS
    phrase = words.phrase(limit, between=": ", marks=True)
    # The name of a property is no beginning of a sentence.
    named = phrase.startswith(": ") and last.change is not None
    lines = [phrase[2:] if named else _sentence(phrase.removeprefix(":").strip())]
    lines += [_sentence(", ".join(course))] if (course := words.course()) else []
    if acknowledged := words.acknowledged():
        since = f" {when(last.acknowledged.at)}" if last.acknowledged else ""
        lines.append(f"{_sentence(acknowledged)}{since}")
    if instead := words.instead():
        lines.append(f"{NOTICE_MARK} {_sentence(instead)}")
    if last.message:
        lines.append(_own_message(last))
    # For how long an open incident has lasted would be wrong by the time an updated message is read.
    if not line.complete and last.opened_at and not line.ended and not last.ended:
        lines.append(f"Open since {when(last.opened_at)}")
    return lines


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]  # not `capitalize`, which would make a name's capitals small


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
        before, after = (
            escape(text_of(side), MAX_OTHER_CHARS) or EMPTY for side in (value.before, value.after)
        )
        lines.append(f"• {escape(value.name, MAX_SHOWN_NAME_CHARS)}: {before} → {after}")
    left_out = notification.others_left_out + max(0, len(notification.others) - MAX_OTHERS)
    return [*lines, f"… and {left_out} more"] if left_out else lines


def _context(notification: Notification) -> Block:
    parts = [*_by(notification), when(notification.at)]
    if notification.teams:
        parts.append(f"Team {escape(', '.join(notification.teams), MAX_ALERT_VALUE_CHARS)}")
    blueprint = escape(notification.blueprint, MAX_SHOWN_NAME_CHARS)
    entity = escape(notification.entity, MAX_SHOWN_NAME_CHARS)
    parts.append(f"{blueprint} {entity}" if has_marks(blueprint + entity) else f"{blueprint} `{entity}`")
    parts.append(f"Rule {escape(notification.rule, MAX_SHOWN_NAME_CHARS)}")
    if not any(map(has_marks, parts)):
        return small_print(mrkdwn("  |  ".join(parts)))
    return small_print(*(label(part) if has_marks(part) else mrkdwn(part) for part in parts))


def _by(notification: Notification) -> list[str]:
    if notification.origin == RECONCILE and not notification.actor:
        return ["Found by reconciling"]
    if not (notification.actor or notification.origin):  # nobody did it: a group's incident, say
        return []
    by = escape(notification.actor, MAX_ALERT_VALUE_CHARS) or "unknown"
    via = f" via {escape(notification.origin, MAX_SHOWN_NAME_CHARS)}" if notification.origin else ""
    return [f"By {by}{via}"]


def _buttons(notification: Notification, page: str) -> list[Block]:
    buttons: list[Block] = []
    room = MAX_BUTTON_URLS_CHARS
    for number, link in enumerate(notification.links):
        # Slack refuses the whole message for one address that is none.
        if len(link.url) <= room and leads_somewhere(link.url):
            room -= len(link.url)
            text = escape(name_of(link.name), MAX_BUTTON_CHARS) or "Link"
            buttons.append(_button(text, link.url, f"link-{number}"))
    if page:
        buttons.append(_button("Details", page, "details"))
    return buttons


def _button(text: str, url: str, action_id: str) -> Block:
    return {"type": "button", "text": label(text), "action_id": action_id, "url": url}
