"""The rules in force, and how the queues of the destinations that they name are called."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from zlib import crc32

from app.model.incident import ALL_STEPS, Route, Step
from app.rules.destination import SlackRules
from app.rules.rule import Rule, RuleSet
from app.rules.targets import choose
from app.rules.watched import Watched


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
        slack: Who may do what by a click in Slack.
    """

    rules: RuleSet
    queues: Mapping[str, Queues]
    watched: Mapping[str, Watched] = field(default_factory=dict)
    slack: SlackRules = field(default_factory=SlackRules)

    def escalations(self, rule: Rule, teams: Iterable[str], entity: str) -> Iterator[tuple[timedelta, Route]]:
        """Yield after how long an incident of a rule goes where, as far as that is known without a change.

        What only a template, or Port, tells is the default.
        """
        for escalation in rule.escalate:
            for name in dict.fromkeys(choose(target, teams, None, self.queues) for target in escalation.send):
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
