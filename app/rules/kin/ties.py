"""Which incidents of other entities one has to do with: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.model.change import EntitySnapshot
from app.model.incident import Tie

if TYPE_CHECKING:
    from app.rules.last_known import LastKnown
    from app.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Kin:
    """What a rule's incident of an entity has to do with incidents of others.

    Attributes:
        rule: The rule.
        above: The blueprints of the rule that explains its incidents.
        entity: The entity as a change has it; None: the change does not say.
        leads: Its incidents may explain others.
        moved: The change moved one of the relations that matter.
    """

    rule: "Rule"
    above: tuple[str, ...] = ()
    entity: EntitySnapshot | None = None
    leads: bool = False
    moved: bool = False

    def ties(self, known: "LastKnown | None") -> tuple[Tie, ...]:
        """List what an incident depends on, by the change itself, else by the last known state."""
        while_ = self.rule.quiet_while
        if while_ is None:
            return ()
        entities = _identifiers(self._value(f"relations.{while_.relation}", known))
        return tuple(Tie(while_.rule, blueprint, entity) for entity in entities for blueprint in self.above)

    @property
    def is_vague(self) -> bool:
        """Whether the change does not say what an incident depends on: some bodies lack it."""
        return self.entity is None or not (self.entity.relations or self.moved)

    def _value(self, name: str, known: "LastKnown | None") -> Any:
        if self.entity is not None and not (self.is_vague and name.startswith("relations.")):
            return self.entity.value(*name.split(".", 1))
        return known.values.get(name) if known else None


@dataclass(frozen=True, slots=True)
class Family:
    """Which rules have to do with one another.

    Attributes:
        above: By rule, the blueprints of the rule that explains its incidents.
        fields: By rule, the relations that its incidents depend on.
        leading: The rules whose incidents explain others.
    """

    above: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    leading: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rules: Iterable["Rule"]) -> "Family":
        """Find out how rules depend on one another."""
        about = {rule.name: rule.blueprint for rule in rules}
        quiet = {rule.name: rule.quiet_while for rule in rules if rule.quiet_while}
        return cls(
            {name: about.get(while_.rule, ()) for name, while_ in quiet.items()},
            {name: frozenset({f"relations.{while_.relation}"}) for name, while_ in quiet.items()},
            frozenset(while_.rule for while_ in quiet.values()),
        )

    def moves(self, rule: "Rule", changed: frozenset[str]) -> bool:
        """Tell whether a change of some fields moves what a rule's incidents depend on."""
        return rule.name in self.fields and not self.fields[rule.name].isdisjoint(changed)

    def kin(self, rule: "Rule", entity: EntitySnapshot | None, changed: frozenset[str]) -> Kin | None:
        """Say what a rule's incident of an entity has to do with others; None: nothing.

        Args:
            rule: The rule.
            entity: The entity as the change has it.
            changed: The fields that changed.
        """
        leads, moved = rule.name in self.leading, self.moves(rule, changed)
        if not leads and rule.name not in self.fields:
            return None
        return Kin(rule, self.above.get(rule.name, ()), entity, leads=leads, moved=moved)


def _identifiers(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(name for name in values if isinstance(name, str) and name))
