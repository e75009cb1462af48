"""The Slack message of many alerts: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes)
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slack_sdk.models.blocks import Block, ContextBlock, SectionBlock

from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy, Line, gather, grouped, outcome
from app.model.incident import RANKS, Step
from app.model.notification import Notification
from app.notifier.base import Story
from app.notifier.slack.digest_line import (
    MAX_LINE_NAME_CHARS,
    MAX_LINE_TITLE_CHARS,
    heading_of,
    several,
    texts_of,
)
from app.notifier.slack.markup import (
    NOTICE_MARK,
    called,
    escape,
    has_marks,
    lead,
    message_of,
    mrkdwn,
    rich,
    section,
    title_of,
    urgent,
    when,
)

MAX_BLOCKS = 50
MAX_SECTION_CHARS = 2_800  # Slack's limit is 3,000, and how it counts an emoji is not said
MAX_JSON_CHARS = 9_500  # all blocks together fail somewhere above 10,000
MAX_MENTIONS_CHARS = 1_500
MAX_PAGE_URL_CHARS = 1_000
MAX_COUNTS = 6  # a headline with more is no headline
MAX_COUNTED_CHARS = 40
MAX_TITLES = 3
REST_CHARS = 1_400  # the headline, the times and the end, at their longest


@dataclass(frozen=True, slots=True)
class Digest:
    """One message for several alerts.

    Attributes:
        message: ``text`` for notifications and screen readers, ``blocks`` to look at.
        shown: The positions of the notifications in it; the others are for the next message.
    """

    message: dict[str, Any]
    shown: frozenset[int]


def digest(
    notifications: Sequence[Notification],
    app_url: str,
    *,
    group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
    more: int = 0,
    counts: Mapping[str, int] | None = None,
    page_url: str | None = None,
) -> Digest:
    """Make one message of as many notifications as it can hold.

    Its headline counts those alone, so that the headlines of this message and of the next add up.

    Args:
        notifications: The alerts in the order in which they came; one at least.
        more: How many further alerts are summed up here: then nothing is left for a next message.
        counts: With `more`, how many of all have which new value.
        page_url: With `more`, the address of the page that lists them.
    """
    lines = gather(notifications)
    if more:
        page_url = page_url if page_url and len(page_url) <= MAX_PAGE_URL_CHARS else ""
        # People are called for each item, also where its line has no room: no later message calls them.
        page = _Page(room=MAX_JSON_CHARS - REST_CHARS - len(page_url))
        page.call(_mentions(lines))
        page.fill(lines, app_url, group_by)
        total = len(notifications) + more
        end = f"and {total - sum(len(line.notifications) for line in page.listed):,} more"
        end = f"<{page_url}|{end}>" if page_url else end
        message = page.message(f"{total:,} changes{_counted(counts or {}, lines, total)}", [end])
        return Digest(message, frozenset(range(len(notifications))))
    page = _Page()
    page.fill(lines, app_url, group_by)
    left = len(lines) - len(page.listed)
    follow = f"{left:,} more {'follows' if left == 1 else 'follow'} in the next message" if left else ""
    message = page.message(_headline(page.listed), [_times(page.listed), follow])
    return Digest(message, frozenset(position for line in page.listed for position in line.positions))


def updated_digest(
    stories: Sequence[Story], app_url: str, *, group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION
) -> dict[str, Any]:
    """Make the message of a digest again, with each of its incidents, one at least, as it is now."""
    lines = [
        Line((number,), (story.first, story.last), complete=False) for number, story in enumerate(stories)
    ]
    page = _Page()
    page.call(story.first.mention for story in stories if story.first.mention)
    page.fill(lines, app_url, group_by)
    left = len(lines) - len(page.listed)
    return page.message(_headline(lines), [_times(lines), f"and {left:,} more" if left else ""])


@dataclass(slots=True)
class _Page:
    """A message that is being filled.

    Attributes:
        room: How many characters its blocks may still take, as JSON.
        listed: The lines that it has.
        sections: Their texts, and the headings above them.
        mentions: Whom it calls.
    """

    room: int = MAX_JSON_CHARS - REST_CHARS
    listed: list[Line] = field(default_factory=list)
    sections: list[list[str]] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)

    def call(self, mentions: Iterable[str]) -> None:
        """Call people, each once, as many as there is room for in front of the headline."""
        for mention in mentions:
            if mention not in self.mentions and self._mentions_with([mention]) <= MAX_MENTIONS_CHARS:
                self.mentions.append(mention)
                self.room -= _json_length(mention) + 1

    def fill(self, lines: Sequence[Line], app_url: str, group_by: tuple[GroupBy, ...]) -> None:
        """Take lines, the worst first, until one does not fit: it and all after it are left out."""
        blueprints = several(lines, "blueprint")
        for group in grouped(lines, group_by):
            heading = heading_of(group, group_by, name_blueprint=blueprints)
            pieces = [heading] if heading else []
            begins = True
            for line, text in zip(group.lines, texts_of(group, app_url), strict=True):
                if not self._take(line, [*pieces, text], begins=begins):
                    return
                pieces, begins = [], False

    def _take(self, line: Line, pieces: list[str], *, begins: bool) -> bool:
        text = "\n".join(pieces)
        # Rich text costs more room than markup: it is kept to the lines that need it.
        begins = begins or has_marks(text) != has_marks("".join(self.sections[-1]))
        begins = begins or len("\n".join([*self.sections[-1], text])) > MAX_SECTION_CHARS
        mentions = _mentions([line])
        cost = _block_length(text) + (SECTION_CHARS if begins else 2)
        # The first line is always taken: a message that takes none would be made again and again.
        if self.listed and (
            cost + sum(_json_length(mention) + 1 for mention in mentions) > self.room
            or (begins and len(self.sections) >= MAX_BLOCKS - 3)  # the headline, the times and the end
            or self._mentions_with(mentions) > MAX_MENTIONS_CHARS
        ):
            return False
        if begins:
            self.sections.append([])
        self.sections[-1] += pieces
        self.room -= cost
        self.call(mentions)
        self.listed.append(line)
        return True

    def _mentions_with(self, mentions: Iterable[str]) -> int:
        return sum(len(mention) + 1 for mention in {*self.mentions, *mentions})

    def message(self, headline: str, ends: Iterable[str]) -> dict[str, Any]:
        """Make the message: the headline, the lines, and small print at the end, where there is any."""
        worst = max(self.listed, key=lambda line: (not line.is_notice, line.badness)).last
        begin = NOTICE_MARK if worst.step is Step.NOTICE else lead(worst)
        mentions = " ".join(self.mentions)
        listed = self.listed[:MAX_TITLES]
        titles = list(dict.fromkeys(title_of(line.last, MAX_LINE_TITLE_CHARS) for line in listed))
        if len(self.listed) > MAX_TITLES:
            titles.append("…")
        bold = called(mentions, f"{urgent(worst)}{begin} *{headline}*")
        blocks: list[Block] = [section(bold)]
        blocks += [section("\n".join(lines)) for lines in self.sections]
        blocks += [ContextBlock(elements=[mrkdwn(end)]) for end in ends if end]
        return message_of(called(mentions, f"{begin} {headline} ({', '.join(titles)})"), blocks)


def _json_length(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False)) - 2


def _block_length(text: str) -> int:
    """Count the characters of JSON that a text costs in the block that `section` makes of it."""
    if not has_marks(text):
        return _json_length(text)
    return len(json.dumps(rich(f"\n{text}").to_dict()["elements"][0]["elements"], ensure_ascii=False))


SECTION_CHARS = len(json.dumps(SectionBlock(text=mrkdwn(".")).to_dict())) + 1
"""What a section costs beside its text: the quotes, the braces, the comma."""


def _mentions(lines: Iterable[Line]) -> list[str]:
    mentions = (alert.mention for line in lines for alert in line.notifications)
    return list(dict.fromkeys(mention for mention in mentions if mention))


def _headline(lines: Sequence[Line]) -> str:
    """Write the headline: how many entities changed, and to which values."""
    alerts = [line for line in lines if not line.is_notice]
    notices = len(lines) - len(alerts)
    parts = []
    if alerts:
        entities = len({(line.last.blueprint, line.last.entity) for line in alerts})
        noun, have = ("entity", "has") if entities == 1 else ("entities", "have")
        blueprint = escape(alerts[0].last.blueprint, MAX_LINE_NAME_CHARS)
        of = "" if several(alerts, "blueprint") else f" of {blueprint}"
        reminds = all(line.last.step is Step.REMINDED and not line.changes for line in alerts)
        verb = f"{have} an open incident" if reminds else "changed"
        numbers = Counter(value for line in alerts if (value := outcome(line.last)) is not None)
        counted = _counted(numbers, alerts, len(alerts))
        ended = ", all ended" if all(line.ended for line in alerts) else ""
        parts.append(f"{entities:,} {noun}{of} {verb}{counted}{ended}")
    if notices:
        parts.append(f"{notices:,} {'notice' if notices == 1 else 'notices'}")
    return "; ".join(parts)


def _counted(numbers: Mapping[str, int], lines: Iterable[Line], total: int) -> str:
    """Write how many of a total have which value, the worst first by the lines; empty if none has a value."""
    badness: dict[str, int] = {}
    for line in lines:
        value = outcome(line.last)
        if value is not None:
            badness[value] = max(badness.get(value, line.badness), line.badness)
    order = sorted(numbers, key=lambda value: (-badness.get(value, RANKS["info"]), -numbers[value]))
    named = order[:MAX_COUNTS]
    if not named:
        return ""
    names = {value: escape(value, MAX_COUNTED_CHARS) or "(empty)" for value in named}
    counted = ", ".join(f"{numbers[value]:,} {names[value]}" for value in named)
    others = total - sum(numbers[value] for value in named)
    return f": {counted}" + (f" and {others:,} {'other' if others == 1 else 'others'}" if others > 0 else "")


def _times(lines: Iterable[Line]) -> str:
    times = [alert.at for line in lines for alert in line.notifications]
    first, last = when(min(times)), when(max(times))
    return first if first == last else f"{first} to {last}"
