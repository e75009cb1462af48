"""The next message of all that waits for a Slack channel, by webhook or by bot token: pure.

Rules: https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments (colours)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.model.digest import BY_RULE_AND_TRANSITION, ENDS, GroupBy, gather, is_over, outcome
from app.model.incident import Severity, Step
from app.model.notification import Message, Notification
from app.notifier.base import Item, Parcel, Story
from app.notifier.slack.alert import alert_message, by_name, line_message, line_of
from app.notifier.slack.buttons import About, digest_buttons, incident_buttons
from app.notifier.slack.digest import MAX_JSON_CHARS, digest, updated_digest
from app.notifier.slack.markup import escape, has_marks, label, mrkdwn, plain_of, small_print, when
from app.notifier.words import MAX_SHOWN_NAME_CHARS

RESOLVED_COLOR = "#2eb67d"
GONE_COLOR = "#868686"  # deleted, closed: over, but nobody knows whether all is well
COLORS: dict[Severity, str] = {"critical": "#e01e5a", "warning": "#ecb22e", "info": "#36c5f0"}
NO_PREVIEWS = {"unfurl_links": False, "unfurl_media": False}
"""Of links, which come from the catalog: Slack would fetch them, and show what is there."""
FORM = frozenset({"blocks", "attachments"})
"""The fields of a message that plain text does without."""
ATTACHMENT_FALLBACK = "Details"  # the message's own text says everything that matters, and room is short


@dataclass(frozen=True, slots=True)
class Composed:
    """One message for Slack, and the deliveries in it.

    Attributes:
        message: ``text`` and ``blocks``.
        shown: The items that it names, in their order.
        summed_up: Whether it stands for all that wait, those too that are not among the items.
        lists: Whether it lists several lines, which its text only counts.
        buttons: The block of buttons that it has as a message of the channel, in no thread; None: none.
    """

    message: dict[str, Any]
    shown: tuple[Item, ...]
    summed_up: bool = False
    lists: bool = False
    buttons: dict[str, Any] | None = None

    @property
    def delivered(self) -> frozenset[str] | None:
        """The value of `Sent.delivered` when the message has arrived."""
        return None if self.summed_up else frozenset(item.delivery_id for item in self.shown)

    @property
    def plain(self) -> dict[str, Any]:
        """The message as text alone, in case Slack refuses its form: it names the same alerts."""
        if not self.lists:
            return {key: value for key, value in self.message.items() if key != "blocks"}
        blocks = [block for block in self.message["blocks"] if block["type"] in {"section", "rich_text"}]
        text = {"text": "\n".join(map(plain_of, blocks))}
        return text | ({"mrkdwn": False} if any(block["type"] == "rich_text" for block in blocks) else {})

    @property
    def parent(self) -> Message | None:
        """The message in whose thread it belongs: the one that all its items have."""
        parents = {item.parent for item in self.shown}
        return parents.pop() if len(parents) == 1 and not self.summed_up else None

    @property
    def broadcast(self) -> bool:
        """Whether a reply in the thread is shown in the channel too: worse, again, or calling people."""
        alerts = [item.notification for item in self.shown]
        reminds = any(alert.step is Step.REMINDED and alert.mention for alert in alerts)
        return reminds or any(alert.worse or alert.step is Step.OPENED for alert in alerts)

    @property
    def color(self) -> str:
        """The colour of the worst alert in it."""
        return color_of(item.notification for item in self.shown)


def compose(
    parcel: Parcel,
    app_url: str,
    *,
    group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
    digest_after: int = 1,
    page_url: str | None = None,
    room: int = MAX_JSON_CHARS,
    closable: frozenset[str] | None = None,
) -> Composed:
    """Compose the next message of a parcel: its first alert alone, or a digest of as many as have room.

    The options are those of `SlackNotifier`; `room` is how many characters of JSON a digest may have.
    """
    if len(parcel.items) <= digest_after and not parcel.more:
        first = parcel.items[0]
        message = alert_message(first.notification, app_url, page_url=page_url)
        return Composed(message, (first,), buttons=_buttons_of([_story_of(first)], closable))
    notifications = [item.notification for item in parcel.items]
    about = {(alert.rule, alert.blueprint, alert.entity) for alert in notifications}
    lines = gather(notifications) if len(about) == 1 else []
    # Of one entity under one rule it reads as one alert: what it went through, and how it is now.
    if len(lines) == 1 and not lines[0].is_notice and not parcel.more:
        message = line_message(lines[0], app_url, page_url)
        return Composed(message, parcel.items, buttons=_buttons_of([_story_of(parcel.items[-1])], closable))
    made = digest(
        notifications,
        app_url,
        group_by=group_by,
        more=parcel.more,
        counts=parcel.counts,
        page_url=page_url,
        room=room,
    )
    shown = tuple(item for position, item in enumerate(parcel.items) if position in made.shown)
    # One that sums up thousands is no incident's own message.
    buttons = None if parcel.more else _buttons_of(list(map(_story_of, shown)), closable, lists=True)
    return Composed(made.message, shown, summed_up=parcel.more > 0, lists=True, buttons=buttons)


def _story_of(item: Item) -> Story:
    return Story(item.notification, item.notification, item.incident_id)


def _buttons_of(
    stories: Sequence[Story], closable: frozenset[str] | None, *, lists: bool = False
) -> dict[str, Any] | None:
    """Make the buttons for the open incidents of a message; None: there are none, or no click arrives."""
    is_open = [story for story in stories if story.incident_id and not is_over(story.last)]
    if closable is None or not is_open:
        return None
    if lists:
        return digest_buttons()
    last, incident_id = is_open[0].last, is_open[0].incident_id or ""
    return incident_buttons(About(incident_id, last.version), last, closable=last.rule in closable)


def named_only(parcel: Parcel) -> Parcel:
    """Name the people whom alerts call, as the catalog does, where Slack is not asked who they are."""
    if not any(item.notification.people for item in parcel.items):
        return parcel
    items = (replace(item, notification=by_name(item.notification)) for item in parcel.items)
    return replace(parcel, items=tuple(items))


def forms(body: Mapping[str, Any], plain: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a message in forms that ask less and less of Slack, each with words for what it lacks.

    Args:
        body: The message, with what else is posted of it.
        plain: The fields of the message as text alone.
    """
    full = dict(body)
    yield "", full
    # Links come from the catalog, and Slack refuses more of them than we can know.
    fewer = {key: _without_links(value) for key, value in full.items()}
    if fewer != full:
        yield "without its links", fewer
    yield "as plain text", {key: full[key] for key in full if key not in FORM} | dict(plain)


def _without_links(value: Any) -> Any:
    """Take what opens an address out of blocks of buttons, those in attachments too."""
    if isinstance(value, dict):
        return {key: _without_links(part) for key, part in value.items()}
    if isinstance(value, list):
        left = [_without_links(part) for part in value if not _opens_address(part)]
        return [part for part in left if part != {"type": "actions", "elements": []}]
    return value


def _opens_address(part: Any) -> bool:
    """Tell whether a part of a message is a button, or an entry of a menu, that opens an address."""
    return isinstance(part, dict) and "url" in part and part.get("type", "button") == "button"


def recompose(
    stories: Sequence[Story],
    app_url: str,
    *,
    group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
    page_url: str | None = None,
    closable: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Compose a message of the channel again, coloured, with its incidents, one at least, as they are now."""
    if len(stories) == 1:
        message = line_message(line_of(stories[0]), app_url, page_url)
    else:
        message = updated_digest(stories, app_url, group_by=group_by, page_url=page_url)
    message = with_block(message, _silenced(stories))
    message = with_block(message, _buttons_of(stories, closable, lists=len(stories) > 1))
    return colored(message, color_of(story.last for story in stories))


def _silenced(stories: Sequence[Story]) -> dict[str, Any] | None:
    """Say who silences the open incidents of a message, and until when; None: nobody does."""
    open_ones = [story for story in stories if not is_over(story.last)]
    silences = [story.silence for story in open_ones if story.silence]
    if not silences:
        return None
    last = max(silences, key=lambda silence: silence.ends_at)
    which = "Silenced" if len(open_ones) == 1 else f"{len(silences)} of {len(open_ones)} silenced"
    parts = [f"🔕 {which} by", escape(last.author, MAX_SHOWN_NAME_CHARS), f"until {when(last.ends_at)}"]
    if last.incident_id:
        parts[-1] = f"until it is over, at the latest {when(last.ends_at)}"
    # The name is another's text: one with marks is shown without markup.
    marked = has_marks(parts[1])
    texts = [label(part) if marked and part is parts[1] else mrkdwn(part) for part in parts]
    whole = texts if marked else [mrkdwn(" ".join(parts))]
    return small_print(*whole)


def with_block(message: dict[str, Any], block: dict[str, Any] | None) -> dict[str, Any]:
    """Put a block, if there is one, below a message."""
    return message | {"blocks": [*message["blocks"], block]} if block else message


def colored(message: dict[str, Any], color: str) -> dict[str, Any]:
    """Put a bar of a colour beside all blocks of a message but the first."""
    headline, *rest = message["blocks"]
    if not rest:
        return message
    attachment = {"color": color, "fallback": ATTACHMENT_FALLBACK, "blocks": rest}
    return message | {"blocks": [headline], "attachments": [attachment]}


def color_of(notifications: Iterable[Notification]) -> str:
    """Choose the colour of the worst of the incidents' last alerts."""
    worst = max(gather(list(notifications)), key=lambda line: line.badness)
    if worst.ended:
        return GONE_COLOR if outcome(worst.last) in ENDS.values() else RESOLVED_COLOR
    return COLORS[worst.last.severity]
