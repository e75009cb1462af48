"""The Slack message of many alerts: pure.

Rules: https://docs.slack.dev/reference/block-kit/blocks (sizes)
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.model.digest import BY_RULE_AND_TRANSITION, COUNTED, GroupBy, Line, gather, grouped, outcome
from app.model.incident import Step
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
    Block,
    called,
    escape,
    has_marks,
    link_to,
    message_of,
    mrkdwn,
    rich,
    section,
    small_print,
    urgent,
    when,
)
from app.notifier.words import Words, mark_of

MAX_BLOCKS = 50
MAX_SECTION_CHARS = 2_800  # Slack's limit is 3,000, and how it counts an emoji is not said
MAX_JSON_CHARS = 9_500  # all blocks together fail somewhere above 10,000
MAX_MENTIONS_CHARS = 1_500
MAX_PAGE_URL_CHARS = 1_000
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
    room: int = MAX_JSON_CHARS,
) -> Digest:
    """Make one message of as many notifications as it can hold.

    Its headline counts those alone, so that the headlines of this message and of the next add up.

    Args:
        notifications: The alerts in the order in which they came; one at least.
        more: How many further alerts are summed up here: then nothing is left for a next message.
        counts: With `more`, how many of all have which of `COUNTED`.
        page_url: The address of this listener's own page; None: there is none.
        room: How many characters its blocks may have as JSON.
    """
    lines = gather(notifications)
    link, changes = _page_links(app_url, page_url)
    if more:
        # People are called for each item, also where its line has no room: no later message calls them.
        page = _Page(room=room - REST_CHARS - len(changes), link=link)
        page.call(_mentions(lines))
        page.fill(lines, app_url, group_by)
        total = len(notifications) + more
        end = f"and {total - sum(len(line.notifications) for line in page.listed):,} more"
        end = link_to(changes, end) or end
        message = page.message(f"{total:,} changes{_counted(counts or {}, total)}", [end])
        return Digest(message, frozenset(range(len(notifications))))
    page = _Page(room=room - REST_CHARS, link=link)
    page.fill(lines, app_url, group_by)
    left = len(lines) - len(page.listed)
    follow = f"{left:,} more {'follows' if left == 1 else 'follow'} in the next message" if left else ""
    message = page.message(_headline(page.listed), [_times(page.listed), follow])
    return Digest(message, frozenset(position for line in page.listed for position in line.positions))


def updated_digest(
    stories: Sequence[Story],
    app_url: str,
    *,
    group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
    page_url: str | None = None,
) -> dict[str, Any]:
    """Make the message of a digest again, with each of its incidents, one at least, as it is now."""
    lines = [
        Line((number,), (story.first, story.last), complete=False) for number, story in enumerate(stories)
    ]
    page = _Page(link=_page_links(app_url, page_url)[0])
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
        link: The link behind its text.
    """

    room: int = MAX_JSON_CHARS - REST_CHARS
    listed: list[Line] = field(default_factory=list)
    sections: list[list[str]] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)
    link: str = ""

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
        begin = mark_of(worst)
        mentions = " ".join(self.mentions)
        shown = [line for line in self.listed if not line.is_notice or len(self.listed) == 1]
        shown.sort(key=lambda line: -line.badness)
        titles = [Words(line, escape).brief(MAX_LINE_TITLE_CHARS) for line in shown[:MAX_TITLES]]
        titles = list(dict.fromkeys(titles)) + (["…"] if len(shown) > MAX_TITLES else [])
        named = f" ({', '.join(titles)})" if len(shown) > 1 else ""
        bold = called(mentions, f"{urgent(worst)}{begin} *{headline}*")
        blocks: list[Block] = [section(bold)]
        blocks += [section("\n".join(lines)) for lines in self.sections]
        blocks += [small_print(mrkdwn(end)) for end in ends if end]
        return message_of(
            called(mentions, f"{urgent(worst)}{begin} {headline}{named}{self.link and f' {self.link}'}"),
            blocks,
        )


def _page_links(app_url: str, page_url: str | None) -> tuple[str, str]:
    """Choose the link behind a digest's text, and the address of the list of all changes; it may be empty."""
    page_url = page_url.rstrip("/") if page_url and len(page_url) <= MAX_PAGE_URL_CHARS else ""
    if page_url:
        return link_to(f"{page_url}/", "Open the page"), f"{page_url}/changes"
    return link_to(f"{app_url.rstrip('/')}/", "Open Port"), ""


def _json_length(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False)) - 2


def _block_length(text: str) -> int:
    """Count the characters of JSON that a text costs in the block that `section` makes of it."""
    if not has_marks(text):
        return _json_length(text)
    return len(json.dumps(rich(f"\n{text}")["elements"][0]["elements"], ensure_ascii=False))


SECTION_CHARS = len(json.dumps(section("."))) + 1
"""What a section costs beside its text: the quotes, the braces, the comma."""


def _mentions(lines: Iterable[Line]) -> list[str]:
    mentions = (alert.mention for line in lines for alert in line.notifications)
    return list(dict.fromkeys(mention for mention in mentions if mention))


def _headline(lines: Sequence[Line]) -> str:
    """Write the headline: how many entities changed, and how many of them are how bad, or over."""
    alerts = [line for line in lines if not line.is_notice]
    notices = len(lines) - len(alerts)
    parts = []
    if len(alerts) == 1:
        parts.append(Words(alerts[0], escape).sentence())
    elif alerts:
        entities = len({(line.last.blueprint, line.last.entity) for line in alerts})
        noun, have = ("entity", "has") if entities == 1 else ("entities", "have")
        blueprint = escape(alerts[0].last.blueprint, MAX_LINE_NAME_CHARS)
        of = "" if several(alerts, "blueprint") else f" of {blueprint}"
        reminds = all(line.last.step is Step.REMINDED and not line.changes for line in alerts)
        verb = f"{have} an open incident" if reminds else "changed"
        counts = Counter(outcome(line.last) for line in alerts)
        parts.append(f"{entities:,} {noun}{of} {verb}{_counted(counts, len(alerts))}")
    if notices:
        parts.append(f"{notices:,} {'notice' if notices == 1 else 'notices'}")
    return "; ".join(parts)


def _counted(counts: Mapping[str, int], total: int) -> str:
    """Write how many of a total are how bad, the worst first; empty if that is not known of any."""
    counted = [f"{counts[word]:,} {word}" for word in COUNTED if counts.get(word)]
    if not counted:
        return ""
    others = total - sum(counts.values())
    return f": {', '.join(counted)}" + (
        f" and {others:,} {'other' if others == 1 else 'others'}" if others > 0 else ""
    )


def _times(lines: Iterable[Line]) -> str:
    times = [alert.at for line in lines for alert in line.notifications]
    first, last = when(min(times)), when(max(times))
    return first if first == last else f"{first} to {last}"
