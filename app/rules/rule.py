"""A rule, and the set of rules, in which those about a change are found fast."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from app.model.change import ACTION_RUN, DELETE, ENTITY, TIMER_EXPIRED, UPDATE, CatalogChange
from app.model.diff import PropertyChange, fields_of
from app.model.incident import Severity
from app.model.notification import text_of
from app.rules.condition import Condition, Results
from app.rules.kin.affected import Affected
from app.rules.kin.group import By, Count, Members, Percent, Rest, blueprint_of
from app.rules.kin.quiet import QuietWhile
from app.rules.kin.ties import Family
from app.rules.mention import Mention
from app.rules.targets import DEFAULT_DESTINATION, Escalation, Escalations, Target, Targets
from app.rules.values import (
    GLOB,
    LEVELS_IN_JQ,
    OF_RUNS,
    Actions,
    Blueprints,
    Duration,
    Flap,
    Severities,
    Strict,
    as_tuple,
)

UNNAMED = "matched"
"""The state that has no name."""
MAX_STATE_CHARS = 200  # a value may be a megabyte
MAX_KEPT_BLUEPRINTS = 1024


def _at_once(condition: Condition | None) -> Condition | None:
    if condition and condition.for_:
        raise ValueError("`for` belongs to `when`; an incident is resolved at once")
    return condition


class Rule(Strict):
    """One rule: which changes matter, where their alerts go, and what ends the trouble."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Unique among the rules."""
    blueprint: Blueprints = ("*",)
    """The blueprints' identifiers; `*`, `?` and `[…]` make a pattern."""
    on: Actions = ("UPDATE",)
    """The actions that matter."""
    when: Condition | None = None
    """What must come true; without it every change of these actions matters."""
    resolve: Annotated[Condition | None, AfterValidator(_at_once)] = None
    """What ends the incident that a match opens; without it a match opens none."""
    send: Annotated[Targets, BeforeValidator(as_tuple, json_schema_input_type=Target | Targets)] = (
        DEFAULT_DESTINATION,
    )
    """Where to, in this order."""
    severity: Severities = "warning"
    """How bad it is, always or by the value or state that it is in now (another is a warning)."""
    mention: Mention | None = None
    """Whom Slack calls when it begins or gets worse, and at reminders; also as the catalog names them."""
    flap: Flap | None = None
    """How many changes are too many to alert each time."""
    title: str | None = None
    """What the message begins with in place of the entity's title, a template: jq in `{{ }}`."""
    message: str | None = None
    """A line of one's own, a template."""
    again_after: Duration | None = None
    """How often to remind while the incident is open, and nobody has acknowledged it."""
    escalate: Annotated[
        Escalations, BeforeValidator(as_tuple, json_schema_input_type=Escalation | Escalations)
    ] = ()
    """Where else to, once nobody has acknowledged the incident for so long."""
    quiet_while: QuietWhile | None = None
    """The incident of a related entity that explains this rule's: while it is open, nobody is alerted."""
    affected: Affected | None = None
    """What depends on the entity, to be named in the message."""
    of: Annotated[str, Field(min_length=1)] | None = None
    """Makes it a group's rule: the rule whose open incidents are counted."""
    by: By = None
    """What the entities of a group have in common."""
    at_least: Count | None = None
    """So many open at once open the group's incident."""
    share: Percent | None = None
    """In place of `at_least`: such a share of all entities of the group."""
    until: Rest | None = None
    """So many may still be open when it ends; without it, one less than opens it."""
    members: Members = "keep"
    """Whether those of a group whose incident is open still alert."""

    @model_validator(mode="after")
    def _of_one_resource(self) -> Self:
        runs = [action for action in self.on if action in OF_RUNS.values()]
        if runs and len(runs) < len(self.on):
            raise ValueError("on: a rule is about runs or about entities: make two of it")
        if runs and not all(leaf.run or leaf.jq for leaf in self.leaves):
            raise ValueError(f"with on: {runs[0]} a condition is about `run`, or jq")
        if not runs and any(leaf.run for leaf in self.leaves):
            raise ValueError("`run` belongs to a rule with on: RUN_CREATED or RUN_UPDATED")
        return self

    @cached_property
    def resource(self) -> str:
        """The resource that it is about: an entity, or a run."""
        return ACTION_RUN if self.on[0] in OF_RUNS.values() else ENTITY

    def watches(self, change: CatalogChange) -> bool:
        """Tell whether a change of its resource is one of its actions."""
        action = change.action if self.resource == ENTITY else OF_RUNS.get(change.action)
        return action in self.on

    @property
    def has_incident(self) -> bool:
        """Whether a match opens an incident."""
        return bool(self.resolve or self.again_after or self.wait or self.escalate or self.of)

    @property
    def wait(self) -> timedelta | None:
        """How long `when` must hold before it alerts."""
        return self.when.for_ if self.when else None

    @cached_property
    def targets(self) -> Targets:
        """The targets of `send` and of each escalation."""
        return (*self.send, *(target for escalation in self.escalate for target in escalation.send))

    @cached_property
    def leaves(self) -> list[Condition]:
        """The conditions in `when` and `resolve` that combine no others."""
        conditions = [condition for condition in (self.when, self.resolve) if condition]
        return [leaf for condition in conditions for leaf in condition.leaves]

    @cached_property
    def fields(self) -> frozenset[str] | None:
        """The fields that `when` and `resolve` read: an UPDATE of no other concerns it; None: any may."""
        # Without `when` any change matters, and a jq program may read anything.
        if self.when is None or any(leaf.path is None for leaf in self.leaves):
            return None
        fields = {".".join(leaf.path[:2]) for leaf in self.leaves if leaf.path}
        # A name with dots may be one property's, or lead into an object.
        return frozenset(fields | {f"properties.{leaf.property_}" for leaf in self.leaves if leaf.property_})

    def matches(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether the change is one that the rule is about."""
        if not self.watches(change):
            return False
        if self.when is None:
            return True
        if change.action == TIMER_EXPIRED:  # there is no diff, only the property whose timer ran out
            return any(
                leaf.matches(change, results)
                if leaf.jq
                else leaf.property_ is not None and leaf.property_ == change.timer
                for leaf in self.when.leaves
            )
        return self.when.matches(change, results)

    def resolves(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether the change ends an open incident: also when the entity is deleted."""
        if not self.has_incident:
            return False
        if change.action == DELETE:
            return True
        if self.reads_scorecards and not (change.after and change.after.scorecards):
            return False
        if self.resolve is not None:
            return self.resolve.fulfilled(change, results)
        # A rule that waits or reminds needs an end, or it would remind for ever.
        return self.lapses(change)

    def lapses(self, change: CatalogChange) -> bool:
        """Tell whether it can be seen in the change that `when` holds no more."""
        # A timer's event may have no entity: then nothing is seen of its values.
        return self.when is not None and change.after is not None and self.when.lapses(change)

    def programs(self) -> Iterable[str]:
        """List the jq programs of its conditions."""
        return (leaf.jq for leaf in self.leaves if leaf.jq)

    @cached_property
    def reads_scorecards(self) -> bool:
        """Whether a jq program of its conditions reads scorecards, of which no last known state is kept."""
        return any(LEVELS_IN_JQ.search(program) for program in self.programs())

    def main(self, change: CatalogChange) -> PropertyChange | None:
        """Choose the value that a change is about: `when`'s, or `resolve`'s if only that one moved."""
        first = self.when.main(change) if self.when else None
        if self.resolve is None or (first is not None and first.differs):
            return first
        second = self.resolve.main(change)
        return second if first is None or (second is not None and second.differs) else first

    def limit(self, change: CatalogChange, main: PropertyChange | None) -> str:
        """Say which threshold its `main` value is beyond: ``above 80``; of several the one crossed now."""
        path, value = (main.path, main.after) if main else (None, None)
        leaves = [leaf for leaf in self.leaves if leaf.threshold and leaf.path == path and leaf.beyond(value)]
        leaves = [leaf for leaf in leaves if leaf.matches(change, {})] or leaves
        return leaves[0].threshold if leaves else ""

    def severity_of(self, change: CatalogChange, state: str) -> Severity:
        """Look up the severity of a state that a change leaves the entity in."""
        if isinstance(self.severity, str):
            return self.severity
        main = self.main(change)
        return self.severity.get(state) or (main and self.severity.get(text_of(main.after))) or "warning"

    def state(self, change: CatalogChange, results: Results) -> str:
        """Describe the state that the change leaves the entity in, as far as this rule is concerned."""
        if change.action == TIMER_EXPIRED:
            return f"{change.timer} expired" if change.timer else "expired"
        if self.when is None or change.after is None:
            return change.action.lower()
        state = self.when.state(change, results)
        if not state:
            main = self.when.main(change)
            state = text_of(main.after) if main else UNNAMED
        if len(state) <= MAX_STATE_CHARS:
            return state
        # Two long states that begin alike are still two.
        return f"{state[:MAX_STATE_CHARS]}… {sha256(state.encode(errors='replace')).hexdigest()[:16]}"


BUILT_IN = Rule.model_validate(
    {
        "name": "health",
        "when": {"property": "healthStatus"},
        "resolve": {"property": "healthStatus", "to": "Healthy"},
        "severity": {"Crashed": "critical", "Degraded": "warning", "Restarting": "info"},
    }
)
"""The rule in force without a rules file: any UPDATE of `healthStatus` alerts the default destination."""


class RuleSet:
    """The rules, found by what a change is about, so that a thousand of them cost little more than ten.

    Args:
        rules: The rules, in the order of the file.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._exact: dict[str, list[int]] = {}
        self._globs: list[tuple[str, int]] = []
        self._about = lru_cache(maxsize=MAX_KEPT_BLUEPRINTS)(self._find)
        self.by_name = {rule.name: rule for rule in self.rules}
        self.family = Family.of(self.rules)
        self._programs = any(True for rule in self.rules for _ in rule.programs())
        for number, rule in enumerate(self.rules):
            if rule.of is not None:
                continue  # no change matches it
            for blueprint in dict.fromkeys(rule.blueprint):
                if GLOB.isdisjoint(blueprint):
                    self._exact.setdefault(blueprint, []).append(number)
                else:
                    self._globs.append((blueprint, number))

    def programs(self, blueprint: str, resource: str = ENTITY) -> tuple[str, ...]:
        """List the jq programs in the conditions about a blueprint's entities, or its runs, each once."""
        if not self._programs:
            return ()
        programs = (program for rule in self.about(blueprint, resource) for program in rule.programs())
        return tuple(dict.fromkeys(programs))

    def about(self, blueprint: str, resource: str = ENTITY) -> tuple[Rule, ...]:
        """List the rules about a blueprint's entities, or about its runs, in the order of the file."""
        return self._about(blueprint, resource)

    def _find(self, blueprint: str, resource: str) -> tuple[Rule, ...]:
        matching = {number for pattern, number in self._globs if fnmatchcase(blueprint, pattern)}
        rules = (self.rules[number] for number in sorted(matching.union(self._exact.get(blueprint, ()))))
        return tuple(rule for rule in rules if rule.resource == resource)

    def why_gone(self, name: str, blueprint: str) -> str | None:
        """Say why a rule can never end an incident of a blueprint's entity; None: it can."""
        rule = self.by_name.get(name)
        if rule is None:
            return f"rule {name!r} is no longer in the rules file"
        if rule.of is not None:
            return None if blueprint == blueprint_of(rule) else f"rule {name!r} groups by something else now"
        if all(about is not rule for about in self.about(blueprint, rule.resource)):
            return f"rule {name!r} is no longer about blueprint {blueprint!r}"
        return None if rule.has_incident else f"rule {name!r} no longer has incidents"

    def candidates(self, change: CatalogChange, changes: Iterable[PropertyChange]) -> tuple[Rule, ...]:
        """List the rules that a change can possibly match or resolve."""
        about = self.about(change.blueprint, change.resource)
        if change.action != UPDATE:
            return about
        changed = fields_of(changes)
        return tuple([rule for rule in about if self.family.concerns(rule, changed)])
