"""The rules in force, and how the queues of the destinations that they name are called."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zlib import crc32

from app.model.hours import Week
from app.model.incident import ALL_STEPS, Route, Step
from app.rules.destination import SlackRules
from app.rules.rule import Rule, RuleSet
from app.rules.targets import ByHours, ByTeam, at_hours, choose, named, plain
from app.rules.watched import Watched

ANY_DESTINATION = "*"


@dataclass(frozen=True, slots=True)
class Queues:
    """Where the alerts for a destination wait.

    Attributes:
        name: The queue's name, shared by destinations that are the same channel.
        number: How many queues there are; the entity's hash chooses one of them.
        steps: The steps of an incident that the destination is alerted of.
        fallback: The destination that gets the alerts when this one is on hold.
    """

    name: str
    number: int = 1
    steps: frozenset[Step] = ALL_STEPS
    fallback: str | None = None

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
        hours: The hours of the week that targets name.
        slack: Who may do what by a click in Slack.
    """

    rules: RuleSet
    queues: Mapping[str, Queues]
    watched: Mapping[str, Watched] = field(default_factory=dict)
    hours: Mapping[str, Week] = field(default_factory=dict)
    slack: SlackRules = field(default_factory=SlackRules)

    def held(self, rule: str, destination: str, now: datetime) -> tuple[str, datetime] | None:
        """Say which hours keep a rule's alerts back from a destination at a time, UTC, and until when."""
        if not self.hours or rule not in self.rules.by_name:
            return None
        names = _hours_of(self.rules.by_name[rule])
        name = names.get(destination) or names.get(ANY_DESTINATION)
        if name is None or self.hours[name].holds(now):
            return None
        return name, self.hours[name].next_begin(now)

    def escalations(
        self, rule: Rule, teams: Iterable[str], entity: str, since: datetime
    ) -> Iterator[tuple[timedelta, Route]]:
        """Yield after how long an incident of a rule goes where, as far as that is known without a change.

        What only a template, or Port, tells is the default.
        """
        for escalation in rule.escalate:
            at = since + escalation.after
            targets = (at_hours(target, self.hours, at) for target in escalation.send)
            for name in dict.fromkeys(choose(target, teams, None, self.queues) for target in targets):
                queues = self.queues[name]
                yield escalation.after, Route(name, queues.of(entity), queues.steps)

    @property
    def fallbacks(self) -> dict[str, Route]:
        """The route that replaces a destination while it is on hold, by the destination's name."""
        named = {name: queues.fallback for name, queues in self.queues.items() if queues.fallback}
        return {
            name: Route(fallback, self.queues[fallback].of(""), self.queues[fallback].steps)
            for name, fallback in named.items()
        }


def _hours_of(rule: Rule) -> dict[str, str]:
    """Map a destination to the hours outside of which a rule does not alert it; `*`: any other."""
    hours, always = dict[str, str](), set[str]()
    for target in rule.targets:
        names = {name for _, name in named(plain(target))}
        if not isinstance(target, ByHours):
            always |= names
            continue
        wide = () if isinstance(target.to, str | ByTeam) else (ANY_DESTINATION,)
        hours |= dict.fromkeys((*names, *wide), target.when)
    return {name: when for name, when in hours.items() if name not in always}
