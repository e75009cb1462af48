"""Which incidents are explained by another one, so that nobody need be alerted of them: pure.

One hop at a time: an incident is quiet while one above it is open, quiet or not. What is open is recorded
whether anybody is alerted of it or not, and what was alerted is alerted to its end.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from app.model.change import CatalogChange, EntitySnapshot
from app.model.incident import Incident, Severity, Tie
from app.rules.condition import Duration
from app.rules.mistakes import nearest
from app.rules.values import GLOB, Strict

if TYPE_CHECKING:
    from app.errors import Mistake
    from app.rules.last_known import LastKnown
    from app.rules.rule import Rule
    from app.rules.yaml_text import Document

UNTIL_TOLD = datetime(9000, 1, 1, tzinfo=UTC)
"""When the alerts of a quiet incident are due: what keeps it quiet gives them another time when it ends."""

Causes = Mapping[tuple[str, str, str], str]
"""The open incidents that may keep others quiet: their ids, by `Tie.key`."""


class QuietWhile(Strict):
    """The incident that explains those of a rule."""

    relation: Annotated[str, Field(min_length=1)]
    """The relation that leads to the entity that they depend on."""
    rule: Annotated[str, Field(min_length=1)]
    """The rule whose incident there explains them."""
    wait: Duration | None = None
    """How long an alert is held first: trouble is often seen before what causes it."""
    critical: Literal[True] | None = None
    """Those that are critical are quiet, too."""


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


def waits(incident: Incident | None, now: datetime) -> bool:
    """Tell whether an incident has not alerted anybody yet."""
    if incident is None:
        return False
    return incident.quiet is not None or (incident.due_at is not None and now < incident.due_at)


def may_be_quiet(rule: "Rule", severity: Severity) -> bool:
    """Tell whether a rule lets an incident of a severity be quiet."""
    while_ = rule.quiet_while
    return while_ is not None and (severity != "critical" or bool(while_.critical))


def hold(rule: "Rule", severity: Severity) -> timedelta | None:
    """Give how long the first alert of an incident of a severity is held; None: it goes out at once."""
    spans = [rule.wait, rule.quiet_while.wait if rule.quiet_while and may_be_quiet(rule, severity) else None]
    return max((span for span in spans if span), default=None)


def tied(
    after: Incident,
    before: Incident | None,
    kin: Kin | None,
    causes: Causes,
    known: "LastKnown | None",
    now: datetime,
) -> Incident:
    """Tie an incident, as a change leaves it, to what may explain it, and let it be quiet if that is open.

    One that somebody was alerted of is never quiet.

    Args:
        after: The incident.
        before: The same before the change; None: it opens.
        kin: What it has to do with others; None: nothing.
        causes: What is open above it.
        known: The last known state of its entity.
        now: The time, UTC.
    """
    if kin is None:
        return after
    if after.resolved_at is not None:
        return replace(after, ties=())
    may = may_be_quiet(kin.rule, after.severity)
    ties = tuple(tie for tie in kin.ties(known) if may or not tie.quiets)
    if after.flapping or (before is not None and not waits(before, now)):
        return replace(after, ties=ties)
    span = hold(kin.rule, after.severity)
    open_ = (causes[tie.key] for tie in ties if tie.quiets and tie.key in causes)
    return replace(after, ties=ties, quiet=next(open_, None), due_at=after.opened_at + span if span else None)


def is_explained(
    kin: Kin, change: CatalogChange, state: str, causes: Causes, known: "LastKnown | None"
) -> bool:
    """Tell whether something is open that explains the state in which a change leaves an entity."""
    severity = kin.rule.severity_of(change, state)
    return may_be_quiet(kin.rule, severity) and any(
        tie.key in causes for tie in kin.ties(known) if tie.quiets
    )


def why_quiet(rule: "Rule", incident: Incident, causes: Causes) -> str:
    """Say in a decision's reason why an incident is quiet; empty: it is not."""
    if incident.quiet is None:
        return ""
    return f"rule {rule.name!r}: quiet while {_cause(incident, causes)}"


def why_moved(rule: "Rule", before: Incident, after: Incident, causes: Causes) -> str:
    """Say in a decision's reason what comes of an incident that may be explained by another one now."""
    if after.quiet is not None and after.quiet != before.quiet:
        return why_quiet(rule, after, causes)
    if before.quiet is not None and after.quiet is None:
        return f"rule {rule.name!r}: nothing explains it any more, so it is told"
    return ""


def _cause(incident: Incident, causes: Causes) -> str:
    tie = next(tie for tie in incident.ties if causes.get(tie.key) == incident.quiet)
    return f"{tie.blueprint} {tie.entity} has an incident of rule {tie.rule!r}"


def wrong_ties(
    rules: Sequence["Rule | None"], written: Sequence[Any], document: "Document"
) -> Iterator["Mistake"]:
    """Yield what is wrong with how rules depend on one another.

    Args:
        rules: The rules; None stands for one that cannot be read.
        written: The same as they are written.
        document: The file.
    """
    names = [rule.get("name") for rule in written if isinstance(rule, Mapping)]
    by_name = {rule.name: rule for rule in rules if rule}
    for number, rule in enumerate(rules):
        if rule is None or rule.quiet_while is None:
            continue
        above, place = by_name.get(rule.quiet_while.rule), ("rules", number, "quiet_while", "rule")
        if not rule.has_incident:
            text = "`quiet_while` needs to see when the incident ends: give the rule a `resolve`"
            yield document.mistake(place[:3], text)
        if above is None and rule.quiet_while.rule in names:
            continue  # what is wrong with that one is said there
        if above is None:
            near = nearest(rule.quiet_while.rule, by_name)
            hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(sorted(by_name))}"
            yield document.mistake(place, f"there is no rule {rule.quiet_while.rule!r}{hint}")
        elif not above.has_incident:
            yield document.mistake(place, f"rule {above.name!r} has no incidents: give it a `resolve`")
        elif any(not GLOB.isdisjoint(name) for name in above.blueprint):
            text = (
                f"rule {above.name!r} must name its blueprints in full: a relation gives only an identifier"
            )
            yield document.mistake(place, text)
        elif circle := _circle(rule, by_name):
            yield document.mistake(place, f"rules must not wait for each other: {' → '.join(circle)}")


def _circle(rule: "Rule", by_name: Mapping[str, "Rule"]) -> list[str]:
    """Follow a rule to those that explain it; empty if that does not lead back to it over another one.

    A rule may name itself: services of one blueprint depend on each other.
    """
    names, following = [rule.name], rule.quiet_while
    while following is not None and following.rule not in names and following.rule in by_name:
        names.append(following.rule)
        following = by_name[following.rule].quiet_while
    leads_back = following is not None and following.rule == rule.name and len(names) > 1
    return [*names, rule.name] if leads_back else []
