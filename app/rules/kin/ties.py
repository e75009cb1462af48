"""Which incidents of other entities one has to do with: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import PropertyChange, fields_of
from app.model.incident import Severity, Tie
from app.rules.kin.group import blueprint_of, groups_in

if TYPE_CHECKING:
    from app.rules.last_known import LastKnown
    from app.rules.match import Hit
    from app.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Kin:
    """What a rule's incident of an entity has to do with incidents of others.

    Attributes:
        rule: The rule.
        above: The blueprints of the rule that explains its incidents.
        groups: The rules of groups that count its incidents.
        entity: The entity as a change has it; None: the change does not say.
        leads: Its incidents may explain others.
        moved: The change moved one of the fields that matter.
        asked: Where the incidents of these groups would be alerted, and whom they would call, by rule.
        totals: How many entities each group has, by the group's rule, and when they were counted.
        seen: What `ties` gave, by whether the incident is critical.
        due_at: When its incident alerts first, where other incidents decide on that; None: at once.
    """

    rule: "Rule"
    above: tuple[str, ...] = ()
    groups: tuple["Rule", ...] = ()
    entity: EntitySnapshot | None = None
    leads: bool = False
    moved: bool = False
    asked: dict[str, "Hit"] = field(default_factory=dict)
    totals: dict[str, tuple[int, Mapping[str, int]]] = field(default_factory=dict)
    seen: dict[bool, tuple[Tie, ...]] = field(default_factory=dict)
    due_at: datetime | None = None

    def ties(self, known: "LastKnown | None", severity: Severity | None = None) -> tuple[Tie, ...]:
        """List what an incident depends on, by the change itself, else by the last known state.

        With a `severity`, of one that is so bad.
        """
        if self.is_vague:
            return self._ties(known, severity)
        critical = severity == "critical"
        if critical not in self.seen:  # it is asked for several times, and costs as much as a look-up
            self.seen[critical] = self._ties(known, severity)
        return self.seen[critical]

    def _ties(self, known: "LastKnown | None", severity: Severity | None) -> tuple[Tie, ...]:
        ties: dict[tuple[str, str, str], Tie] = {}
        for way in self.ways(severity):
            value = self._value(way.field, known)
            for name in _identifiers(value) if way.counts_from is None else groups_in(value):
                tie = way._replace(entity=name)
                ties[tie.key] = tie if tie.key not in ties else tie._replace(quiets=True)
        return tuple(sorted(ties.values()))

    def ways(self, severity: Severity | None = None) -> Iterable[Tie]:
        """Give the ties that an incident can have, each without the entity that its own one leads to."""
        while_ = self.rule.quiet_while
        if while_ is not None and (severity != "critical" or while_.critical):
            for blueprint in self.above:
                yield Tie(while_.rule, blueprint, "", field=f"relations.{while_.relation}")
        for group in self.groups:
            quiets = group.members == "quiet" and severity != "critical"
            if group.by is not None:
                yield Tie(group.name, blueprint_of(group), "", quiets, 0, group.by.field)

    @property
    def is_vague(self) -> bool:
        """Whether the change does not say what an incident depends on: some bodies lack it."""
        return self.entity is None or not (self.entity.relations or self.moved)

    def _value(self, name: str, known: "LastKnown | None") -> Any:
        if self.entity is not None and not (self.is_vague and name.startswith("relations.")):
            kind, _, path = name.partition(".")
            return self.entity.value(kind, path)
        return known.values.get(name) if known else None


@dataclass(frozen=True, slots=True)
class Family:
    """Which rules have to do with one another.

    Attributes:
        above: By rule, the blueprints of the rule that explains its incidents.
        groups: By rule, the rules of groups that count its incidents.
        fields: By rule, the fields that its incidents depend on.
        leading: The rules whose incidents explain others.
        causes: By rule, the rules that explain its incidents or group them.
        totals: How many entities groups had when they were counted last.
    """

    above: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple["Rule", ...]] = field(default_factory=dict)
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    leading: frozenset[str] = frozenset()
    causes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    totals: dict[str, tuple[int, Mapping[str, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Sequence["Rule"]) -> "Family":
        """Find out how rules depend on one another."""
        above: dict[str, tuple[str, ...]] = {}
        groups: dict[str, tuple[Rule, ...]] = {}
        fields: dict[str, frozenset[str]] = {}
        about = {rule.name: rule for rule in rules}
        for rule in rules:
            if rule.quiet_while and (cause := about.get(rule.quiet_while.rule)):
                above[rule.name] = (blueprint_of(cause),) if cause.of else cause.blueprint
                fields[rule.name] = frozenset({f"relations.{rule.quiet_while.relation}"})
        for group in rules:
            if group.of is not None and group.by is not None:
                groups[group.of] = (*groups.get(group.of, ()), group)
                fields[group.of] = fields.get(group.of, frozenset()) | {group.by.field}
        pairs = [(rule.name, rule.quiet_while.rule) for rule in rules if rule.quiet_while]
        pairs += [(rule.of, rule.name) for rule in rules if rule.of]
        causes = {name: frozenset(other for rule, other in pairs if rule == name) for name, _ in pairs}
        return cls(above, groups, fields, frozenset(other for _, other in pairs), causes)

    def concerns(self, rule: "Rule", changed: frozenset[str]) -> bool:
        """Tell whether an update of some fields can be one that a rule has something to decide about."""
        return (fields := rule.fields) is None or not fields.isdisjoint(changed) or self.moves(rule, changed)

    def moves(self, rule: "Rule", changed: frozenset[str]) -> bool:
        """Tell whether a change of some fields moves what a rule's incidents depend on."""
        return rule.name in self.fields and not self.fields[rule.name].isdisjoint(changed)

    def ties(self, rule: str, other: str) -> bool:
        """Tell whether incidents of a rule can be tied to those of another one."""
        return other in self.causes.get(rule, ())

    def kins(
        self, rules: Iterable["Rule"], change: CatalogChange, changes: Iterable[PropertyChange]
    ) -> Mapping[str, Kin]:
        """Say what the incidents of rules about a change's entity have to do with others, by rule."""
        if not self.leading:
            return {}
        entity, changed = change.after or change.before, fields_of(changes)
        kins = {rule.name: self.kin(rule, entity, changed) for rule in rules}
        return {name: kin for name, kin in kins.items() if kin is not None}

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
        above, groups = self.above.get(rule.name, ()), self.groups.get(rule.name, ())
        return Kin(rule, above, groups, entity, leads=leads, moved=moved, totals=self.totals)


def _identifiers(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(name for name in values if isinstance(name, str) and name))
