"""The rules in force, and how the queues of the destinations that they name are called."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zlib import crc32

from app.model.hours import Week
from app.model.incident import ALL_STEPS, Route, Step
from app.model.notification import Notification, one_line, text_of
from app.rules.condition import JqError
from app.rules.destination import ByCatalog, SlackRules
from app.rules.mention import catalog_mentions
from app.rules.rule import Rule, RuleSet
from app.rules.targets import ByHours, ByPort, ByTemplate, Target, at_hours, choose, holds, named, plain
from app.rules.watched import Watched

ANY_DESTINATION = "*"
AT_ANY_TIME = ""
MAX_SAID_CHARS = 60  # of one that leads nowhere
MAX_PLACES = 20
"""An alert that hundreds of channels get is a mistake in the catalog."""


def ordered_by(rule: Rule, entity: str) -> str:
    """Give what chooses the queue of an alert: the entity; of a group its rule, whoever opened it."""
    return entity if rule.of is None else rule.name


@dataclass(frozen=True, slots=True)
class Queues:
    """Where the alerts for a destination wait.

    Attributes:
        name: The queue's name, shared by destinations that are the same channel.
        number: How many queues there are; the entity's hash chooses one of them.
        steps: The steps of an incident that the destination is alerted of.
        fallback: The destination that gets the alerts when this one is on hold.
        catalog: How the catalog chooses the queue; None: it does not.
    """

    name: str
    number: int = 1
    steps: frozenset[Step] = ALL_STEPS
    fallback: str | None = None
    catalog: ByCatalog | None = None

    def of(self, entity: str) -> str:
        """Name the queue for an entity's alerts."""
        # Always the same one, so that an entity's alerts stay in order. Not hash(): it differs by process.
        return self.name if self.number == 1 else f"{self.name}/{crc32(entity.encode()) % self.number}"


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules in force.

    Attributes:
        rules: The rules.
        queues: The queues of each destination that the rules may name.
        watched: What is compared with Port, by blueprint.
        plain: The rules, by name, of which nobody is to be asked where their alerts go, or whom they call.
        channels: The destination whose own a channel is, by the name that a queue of the catalog would have.
        hours: The hours of the week that targets name.
        slack: Who may do what by a click in Slack.
    """

    rules: RuleSet
    queues: Mapping[str, Queues]
    watched: Mapping[str, Watched] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    hours: Mapping[str, Week] = field(default_factory=dict)
    slack: SlackRules = field(default_factory=SlackRules)
    plain: frozenset[str] = field(init=False)
    _held: Mapping[str, tuple[Mapping[str, Set[str]], Mapping[str, Set[str]]]] = field(init=False)

    def __post_init__(self) -> None:
        plain = (rule.name for rule in self.rules.rules if self._is_plain(rule))
        object.__setattr__(self, "plain", frozenset(plain))
        held = {rule.name: self._hours_of(rule) for rule in self.rules.rules if any(map(holds, rule.targets))}
        object.__setattr__(self, "_held", held)

    def _is_plain(self, rule: Rule) -> bool:
        asks = any(isinstance(target, ByTemplate | ByPort | ByHours) for target in rule.send)
        if catalog_mentions(rule.mention) or asks or rule.escalate:
            return False
        names = [name for target in rule.send for _, name in named(target)]
        return not any(self.queues[name].catalog for name in names if name in self.queues)

    def held(self, alert: Notification, destination: str, now: datetime) -> tuple[str, datetime] | None:
        """Say which hours keep an alert back from a destination at a time, UTC, and until when."""
        by_name, led_to = self._held.get(alert.rule, ({}, {}))
        here, beyond = by_name.get(destination, set()), led_to.get(destination, set())
        # What goes there in another one's place goes by the hours of that one, too.
        names = (here | beyond if alert.instead else here or beyond) or by_name.get(ANY_DESTINATION, set())
        told = not names or AT_ANY_TIME in names or any(self.hours[name].holds(now) for name in names)
        if told or alert.at_any_time:
            return None
        begins = {name: self.hours[name].next_begin(now) for name in sorted(names)}
        first = min(begins, key=lambda name: begins[name])
        return first, begins[first]

    def _hours_of(self, rule: Rule) -> tuple[Mapping[str, Set[str]], Mapping[str, Set[str]]]:
        """Map a destination to the hours at which a rule alerts it, and at which in another one's place.

        ``*`` is any destination that the rule does not name.

        Only a target that holds keeps anything back: where another destination is told outside of the hours,
        that is decided with the change, and what waits here by then would reach nobody.
        """
        by_name, led_to = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for target in rule.targets:
            when = target.when if isinstance(target, ByHours) and holds(target) else AT_ANY_TIME
            for _, name in named(target):
                by_name[name].add(when)
                for place in self._beyond(name):
                    led_to[place].add(when)
            if isinstance(plain(target), ByTemplate | ByPort):
                by_name[ANY_DESTINATION].add(when)
        return by_name, led_to

    def _beyond(self, name: str) -> Iterator[str]:
        """Yield what may get the alerts for a destination in its place: by the catalog, or its fallback."""
        queues = self.queues.get(name)
        if queues and queues.catalog:
            yield from (self.default_of(name).destination, *self.channels.values())
        if queues and queues.fallback:
            yield self.default_of(queues.fallback).destination

    def escalations(
        self,
        rule: Rule,
        teams: Iterable[str],
        entity: str,
        since: datetime,
        before: Mapping[timedelta, Sequence[Route]],
    ) -> Iterator[tuple[timedelta, Route]]:
        """Yield after how long an incident of a rule goes where, as far as that is known without a change.

        What only a template, Port or the catalog tells is as it was `before`, by the time; else the default.
        """
        for escalation in rule.escalate:
            at, routes = since + escalation.after, dict[str, Route]()
            for due, target in ((target, at_hours(target, self.hours, at)) for target in escalation.send):
                name = choose(target, teams, None, self.queues)
                led_to = self._led_to(target, name)
                known = [place for place in before.get(escalation.after, ()) if place.destination in led_to]
                for route in known or (self.default_of(name, ordered_by(rule, entity)),):
                    elsewhere = not holds(due) and route.destination != name
                    if elsewhere or route.queue not in routes:
                        routes[route.queue] = replace(route, at_any_time=elsewhere)
            yield from ((escalation.after, route) for route in routes.values())

    def _led_to(self, target: Target, name: str) -> Set[str]:
        """Give the destinations to which a target may lead that not the rules alone choose; none: they do."""
        if isinstance(target, ByTemplate | ByPort):
            return self.queues.keys()
        if self.queues[name].catalog is None:
            return set[str]()
        return {name, self.default_of(name).destination, *self.channels.values()}

    def routes(self, name: str, entity: str, values: Sequence[object] = ()) -> tuple[Route, ...]:
        """List the routes to a destination, none twice.

        Args:
            name: The destination's name.
            entity: The entity's identifier.
            values: Where the catalog chooses: what it has; what leads nowhere goes to the default.
        """
        queues = self.queues[name]
        if queues.catalog is None:
            return (Route(name, queues.of(entity), queues.steps),)
        routes: dict[str, Route] = {}
        for value in values[:MAX_PLACES] or (None,):
            try:
                route = self._place(name, queues.catalog.read(_text(value)), entity)
            except ValueError as error:
                route = replace(self.default_of(name, entity), why=f"for {name}: {error}")
            routes.setdefault(route.queue, route)
        if len(values) > MAX_PLACES:
            why = f"for {name}: the catalog names {len(values):,}, of which {MAX_PLACES} are told at the most"
            rest = replace(self.default_of(name, entity), why=why)
            routes.setdefault(rest.queue, rest)
        return tuple(routes.values())

    def default_of(self, name: str, entity: str = "") -> Route:
        """Give the route of what the catalog leads nowhere, for a destination that it chooses for."""
        catalog = self.queues[name].catalog
        default = catalog.default if catalog else name
        if default in self.queues:
            return Route(default, self.queues[default].of(entity), self.queues[default].steps)
        return self._place(name, default, entity)

    def _place(self, name: str, queue: str, entity: str) -> Route:
        # A channel that has a destination of its own: two queues would overtake each other there.
        owner = self.channels.get(queue)
        if owner is None:
            return Route(name, queue, self.queues[name].steps)
        return Route(owner, self.queues[owner].of(entity), self.queues[owner].steps)

    @property
    def defaults(self) -> dict[str, Route]:
        """The route of what the catalog leads nowhere, by the destination's name."""
        return {name: self.default_of(name) for name, queues in self.queues.items() if queues.catalog}

    @property
    def fallbacks(self) -> dict[str, Route]:
        """The route that replaces a destination while it is on hold, by the destination's name."""
        named = {name: queues.fallback for name, queues in self.queues.items() if queues.fallback}
        return {name: self.default_of(fallback) for name, fallback in named.items()}


def _text(value: object) -> str:
    """Take a value of the catalog as a text; ValueError: it is none, in words."""
    reason = ""
    if isinstance(value, JqError):
        reason = "its template failed"
    elif value is None or (isinstance(value, str) and not value.strip()):
        reason = "the catalog gave no value"
    elif not isinstance(value, str):
        reason = f"{one_line(text_of(value), MAX_SAID_CHARS)} is no text"
    if reason:
        raise ValueError(reason)
    return str(value).strip()
