"""The neutral facts of an alert. A notifier renders them; the store keeps them as JSON."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, ConfigDict, TypeAdapter

from app.model.change import ACTION_RUN, CREATE, DELETE, ENTITY, TIMER_EXPIRED, UPDATE, CatalogChange
from app.model.diff import PropertyChange
from app.model.immutable import Immutable, immutable
from app.model.incident import Acknowledgement, Severity, Step
from app.model.text import cut, without_controls
from app.model.times import EPOCH

MAX_CHANGES = 50  # more is not read by anybody, and an entity may have thousands of properties
MAX_LINKS = 5
CLOSED = "CLOSED"
"""The action of an alert of an incident that no change has ended."""
FLOAT_DIGITS = 15  # more are not a number's own, but of its binary form: 0.30000000000000004

NO_CHANGE: dict[str, Any] = {"change": None, "limit": "", "others": (), "others_left_out": 0, "times": 0}
UNMOVED: dict[str, Any] = dict.fromkeys(("worse", "better", "late"), False)
UNMOVED |= dict.fromkeys(("unacknowledged", "was_quiet"), "")
"""What an alert that no change brings does not say of the change before."""
MAX_TEAMS = 20
MAX_NAME_CHARS = 500
MAX_URL_CHARS = 3_000
# No spaces, quotes or controls: a URL that ends the markup around it could add markup of its own.
URL = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f\"<>\\]+")
MAX_VALUE_CHARS = 2_000  # a value of a megabyte is a document, not something to put into an alert


@immutable(frozen=True)  # orjson takes a fifth of the time without slots
class ValueChange:
    """A named value before and after, as JSON values (long ones as cut text)."""

    name: str
    before: Any = None
    after: Any = None


@immutable(frozen=True)  # orjson takes a fifth of the time without slots
class Link:
    """A link that the entity itself carries."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a rule's own message: its author's text, or a value, which a notifier must escape."""

    text: str
    literal: bool


@immutable(frozen=True, kw_only=True)
class Notification(Immutable):
    """The facts about one change that matters.

    Attributes:
        step, rule: The step of its incident, and the rule that matched.
        severity: How bad it is, by the rule.
        action: ``UPDATE``, ``CREATE``, ``DELETE``, ``TIMER_EXPIRED``; ``CLOSED``, where `closed` says why.
        resource: An entity, or a run, whose facts stand in the place of an entity's.
        blueprint, entity: The entity's blueprint and identifier.
        title: The entity's title, or its identifier.
        teams: The owning teams.
        change: The value that the rule is about; None if it is about none.
        limit: The threshold that the value is beyond, in words: ``above 80``; empty: there is none.
        state: The state that a jq program names, where the rule is about no value; empty: it names none.
        timer: For ``TIMER_EXPIRED``, the property whose timer ran out.
        others: What else changed, `MAX_CHANGES` at most; `others_left_out`: how many more did.
        links: The entity's URL properties, `MAX_LINKS` at most.
        actor, origin: Who or what triggered it, and where; empty if unknown.
        at: When it happened; with the origin ``reconcile``, when that found it.
        opened_at: When the incident opened, if there is one.
        times: With `OPENED`, how often it has begun within 24 hours, this time too; 0: that is not known.
        last_at: When it began the time before, within 24 hours.
        late: A newer change of the entity was seen before this one.
        worse, better: The change made its incident more severe, or less.
        ended, closed: Its incident is over; why it is, where no change ended it.
        moves: With `FLAPPING` and `SETTLED`, how often it changed within the rule's `window`.
        mention: Whom the rule calls when this is sent, in Slack's own notation; empty: nobody.
        people: Whom the rule calls as the catalog names them; a notifier finds out who that is.
        own_title, message: The rule's own, as they stand there then.
        instead: Why another's fallback or default gets it: `for payments, which is on hold: …`.
        below, members, affected: What is quiet because of it, open in its group, depends on its entity.
        was_quiet: Why it alerts now, if it was quiet before: by another incident, or outside of hours.
        acknowledged: Who looks after its incident; None: nobody.
        unacknowledged: Who did until this step, which made it worse; empty: nobody.
        version, at_any_time: The version of its incident, 0: it has none; and that no hours keep it back.
    """

    __pydantic_config__ = ConfigDict(hide_input_in_errors=True)

    step: Step
    rule: str
    severity: Severity = "warning"
    action: str = UPDATE
    resource: str = ENTITY
    blueprint: str
    entity: str
    title: str
    teams: tuple[str, ...] = ()
    change: ValueChange | None
    limit: str = ""
    state: str = ""
    timer: str | None = None
    others: tuple[ValueChange, ...] = ()
    others_left_out: int = 0
    links: tuple[Link, ...] = ()
    actor: str = ""
    origin: str = ""
    at: AwareDatetime
    opened_at: AwareDatetime | None = None
    times: int = 0
    last_at: AwareDatetime | None = None
    late: bool = False
    worse: bool = False
    better: bool = False
    ended: bool = False
    closed: str = ""
    moves: int = 0
    window: timedelta | None = None
    mention: str = ""
    people: tuple[str, ...] = ()
    own_title: tuple[Part, ...] = ()
    message: tuple[Part, ...] = ()
    instead: str = ""
    below: str | None = None
    was_quiet: str = ""
    members: tuple[str, ...] | None = None
    affected: str = ""
    acknowledged: Acknowledgement | None = None
    unacknowledged: str = ""
    version: int = 0
    at_any_time: bool = False

    @classmethod
    def about(
        cls,
        change: CatalogChange,
        main: PropertyChange | None,
        changes: tuple[PropertyChange, ...],
        *,
        rule: str,
        step: Step,
        severity: Severity = "warning",
        **more: Any,
    ) -> "Notification":
        """Gather the facts about `change`, where `main` is the value that `rule` is about of all `changes`.

        `more` are further attributes of the notification.
        """
        # Port's pages say that a timer's event holds the entity as it is: nothing in it changed.
        if change.action == TIMER_EXPIRED:
            main, changes = None, ()
        changes = () if change.action in (CREATE, DELETE) else changes
        # The value itself, and what lies within it where it is an object, is not said again.
        path = main.path if main else ("",)
        others = [other for other in changes if other.path[: len(path)] != path]
        facts = {
            "step": step,
            "rule": rule,
            "severity": severity,
            "action": change.action,
            "timer": change.timer,
            "resource": change.resource,
            "blueprint": change.blueprint,
            "entity": change.entity,
            "title": cut(change.called, MAX_NAME_CHARS),
            "teams": tuple([cut(team, MAX_NAME_CHARS) for team in change.teams[:MAX_TEAMS]]),
            "change": _value_change(main) if main else None,
            "others": tuple([_value_change(other) for other in others[:MAX_CHANGES]]),
            "others_left_out": max(0, len(others) - MAX_CHANGES),
            "links": _links(change),
            "actor": cut(change.actor, MAX_NAME_CHARS),
            "origin": cut(change.origin, MAX_NAME_CHARS),
            "at": change.found_at or change.at,
            **more,
        }
        return cls.of(vars(_USUAL) | facts)

    @classmethod
    def read(cls, text: str) -> "Notification":
        """Read a notification as the store keeps it; a ValidationError: another release has written it."""
        return NOTIFICATION.validate_json(text)

    @property
    def calls(self) -> bool:
        """Whether it is one at which a rule's `mention` calls somebody: new trouble, worse, or a reminder."""
        single = self.step is Step.NOTICED and not self.late and not self.ended
        steps = (Step.OPENED, Step.REMINDED, Step.FLAPPING, Step.ESCALATED)
        return single or self.worse or self.step in steps

    def closing(self, why: str, at: datetime) -> "Notification":
        """Make the alert that its incident is over, though no change ended it."""
        facts = {"step": Step.RESOLVED, "action": CLOSED, "at": at, "ended": True, "closed": why}
        nobody = {"acknowledged": None, "version": self.version + 1, "actor": "", "origin": "", "state": ""}
        return self.but(**(facts | nobody | NO_CHANGE | UNMOVED))

    def renamed(self, change: CatalogChange) -> "Notification":
        """Copy it with the entity's name after a change that renamed it."""
        return self.but(entity=change.entity, title=cut(change.title, MAX_NAME_CHARS))

    def named(self, entity: str) -> "Notification":
        """Copy it with the entity's identifier as it is now, also as the title where that was the old one."""
        if entity == self.entity:
            return self
        title = entity if self.title == self.entity else self.title
        return self.but(entity=entity, title=title)

    @classmethod
    def notice(cls, text: str, at: datetime, *, rule: str = "") -> "Notification":
        """Make a notice of the listener itself; `rule`: the rule that it is about, if it is about one."""
        facts: dict[str, Any] = {"blueprint": "", "entity": "", "title": text, "change": None}
        return cls(step=Step.NOTICE, rule=rule, severity="info", at=at, **facts)


_USUAL = Notification.notice("", EPOCH)
NOTIFICATION = TypeAdapter(Notification)


@dataclass(frozen=True, slots=True)
class Message:
    """A message that stands in a channel.

    Attributes:
        channel: The channel's ID, which is not its name.
        ts: Slack's own name for the message there.
    """

    channel: str
    ts: str


def text_of(value: Any) -> str:
    """Write a JSON value as people read it: no quotes around text, ``none`` for null.

    A number is as short as it can be: ``25`` for 25.0, ``0.3`` for 0.30000000000000004.
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(f"{value:.{FLOAT_DIGITS}g}"))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text_of(item)}" for key, item in value.items()) + "}"
    return str(value)


def one_line(text: str, limit: int | None = None) -> str:
    """Put text on one line, fit for a screen: control characters become a space, and nothing reorders it.

    Every script and emoji stays as it was written, joiners and invisible marks too. What is longer than
    `limit` characters is cut as by `cut`.
    """
    line = without_controls(text).strip(" ")
    return line if limit is None or len(line) <= limit else without_controls(cut(line, limit))


def _value_change(change: PropertyChange) -> ValueChange:
    return ValueChange(cut(change.name, MAX_NAME_CHARS), _bounded(change.before), _bounded(change.after))


def _bounded(value: Any) -> Any:
    # As text, because half an object is no JSON.
    if isinstance(value, (str, dict, list, tuple)) and len(text := text_of(value)) > MAX_VALUE_CHARS:
        return cut(text, MAX_VALUE_CHARS)
    return value


def _links(change: CatalogChange) -> tuple[Link, ...]:
    entity = change.after or change.before
    properties = entity.properties if entity else {}
    if change.resource == ACTION_RUN and isinstance(urls := properties.get("link"), list):
        more = {f"link {number}": url for number, url in enumerate(urls, 1)}
        properties = {name: value for name, value in properties.items() if name != "link"} | more
    links: list[Link] = []
    for name, url in properties.items():
        # Long ones are left out and not cut: half a URL leads elsewhere.
        if (
            isinstance(url, str)
            and url.startswith("http")
            and len(url) <= MAX_URL_CHARS
            and URL.fullmatch(url)
        ):
            links.append(Link(cut(name, MAX_NAME_CHARS), url))
            if len(links) == MAX_LINKS:
                break
    return tuple(links)
