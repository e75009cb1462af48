"""Matches a change with the rules, by the change alone, and makes the alerts of what is decided; pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import ACTION_RUN, ENTITY, TIMER_EXPIRED, UPDATE, CatalogChange
from app.model.delivery import Alert
from app.model.diff import PropertyChange, diff
from app.model.digest import STILL
from app.model.immutable import Immutable, immutable
from app.model.incident import Incident, Route, Step
from app.model.notification import Notification, text_of
from app.rules.condition import Condition, JqError, Results
from app.rules.kin.ties import Kin
from app.rules.rule import UNNAMED, Rule, RuleSet
from app.rules.values import Not, left
from app.rules.watched import Watched

MAX_REASONS = 5  # nobody reads more of them
MAX_REASON_VALUE_CHARS = 50  # of a value


@immutable(frozen=True)
class Hit(Immutable):
    """A rule that a change matches, or whose incident it may end.

    Attributes:
        rule: The rule.
        matches: The change is one that the rule is about.
        resolves: The change ends the incident that the rule may have open.
        routes: The destinations that an alert would go to.
        lapses: The change ends that incident if it has not alerted yet: what must last did not.
        state: The entity's state after the change.
        people: Whom the rule's `mention` names of the catalog, as it is written there.
        escalations: After how long it goes where else, as long as nobody acknowledges it.
        kin: What its incident has to do with those of other entities; None: nothing.
    """

    rule: Rule
    matches: bool
    resolves: bool
    routes: tuple[Route, ...] = ()
    lapses: bool = False
    state: str = ""
    people: tuple[str, ...] = ()
    escalations: tuple[tuple[timedelta, tuple[Route, ...]], ...] = ()
    kin: Kin | None = None

    def to(self, routes: tuple[Route, ...]) -> "Hit":
        """Give the same for these routes."""
        return self if routes is self.routes else self.but(routes=routes)


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule's jq program failed, and what the rule does may depend on it.

    Attributes:
        rule: The rule.
        program: The program.
        text: Why, and what follows from it. It may hold values of the change.
    """

    rule: Rule
    program: str
    text: str

    @property
    def reason(self) -> str:
        """The failure as a part of a decision's reason."""
        return f"rule {self.rule.name!r}: {self.text}"


@immutable(frozen=True)
class Match(Immutable):
    """The result of matching a change, without knowing any state.

    Attributes:
        change: The change.
        changes: What changed in it.
        hits: The rules that match, or would resolve.
        reason: Why they do, or why none does.
        watched: The fields of which the last known state is kept; None: none is.
        results: What the jq programs came to.
        failures: The programs that failed, where that matters.
        rules: The rules; None: they are not known any more.
        kins: What the entity's incidents have to do with those of others, by rule.
    """

    change: CatalogChange
    changes: tuple[PropertyChange, ...]
    hits: tuple[Hit, ...]
    reason: str
    watched: Watched | None = None
    results: Results = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    rules: RuleSet | None = field(default=None, repr=False)
    kins: Mapping[str, Kin] = field(default_factory=dict, repr=False)


def match(rules: RuleSet, change: CatalogChange, results: Results) -> Match:
    """Match a change with the rules, given the results of `rules.programs`; the reason is said, too."""
    if change.resource not in (ENTITY, ACTION_RUN):
        asked = "rules are about entities and runs"
        return Match(change, (), (), f"no rule asks for a {change.resource}: {asked}")
    # A timer's event tells of its timer, and nothing of what became of the entity's values.
    seen = change if change.is_whole or change.action == UPDATE else replace(change, before=None, after=None)
    changes = diff(seen.before, seen.after)  # once for all rules
    # That Port has touched an entity, or lists its teams in another order, is no change of it.
    changed = bool(changes) or change.action != UPDATE or seen.before is None or seen.after is None
    hits, failures = [], list[Failure]()
    failed = {program: result for program, result in results.items() if isinstance(result, JqError)}
    kins = rules.family.kins(rules.about(change.blueprint, change.resource), change, changes)
    for rule in rules.candidates(change, changes):
        hit = Hit(
            rule,
            matches=rule.matches(seen, results) and (changed or rule.when is not None),
            resolves=rule.resolves(seen, results),
            # Only a rule that waits can have an incident that has not alerted.
            lapses=rule.wait is not None and rule.lapses(seen),
            state=rule.state(seen, results),
            kin=kins.get(rule.name),
        )
        if hit.matches or hit.resolves or hit.lapses or (hit.kin and hit.kin.moved):
            hits.append(hit)
        if failed:
            failures += _failures(rule, seen, results, failed)
    matching = [f"rule {hit.rule.name!r} matches" for hit in hits if hit.matches]
    reasons = [*matching, *(failure.reason for failure in failures)]
    if not matching:
        reasons += _misses(rules, change, results, {failure.rule.name for failure in failures})
    why = "; ".join(reasons)
    return Match(change, changes, tuple(hits), why, None, results, tuple(failures), rules, kins)


def _failures(
    rule: Rule, seen: CatalogChange, results: Results, failed: Mapping[str, JqError]
) -> Iterator[Failure]:
    """Yield the programs of a rule that failed, if the rule would do something else had they not."""
    mine = {program: failed[program] for program in rule.programs() if program in failed}
    if not mine:
        return
    held = {**results, **dict.fromkeys(mine, True)}
    if (rule.matches(seen, held), rule.resolves(seen, held)) == (
        rule.matches(seen, results),
        rule.resolves(seen, results),
    ):
        return
    for program, error in mine.items():
        yield Failure(rule, program, f"its jq failed, which counts as no match: {error.text}")


def _misses(rules: RuleSet, change: CatalogChange, results: Results, explained: Collection[str]) -> list[str]:
    about = rules.about(change.blueprint, change.resource)
    if not about:
        of = "" if change.resource == ENTITY else f"{change.resource}s of "
        return [f"no rule is about {of}blueprint {change.blueprint!r}"]
    about = tuple(rule for rule in about if rule.name not in explained)
    reasons = [f"rule {rule.name!r}: {why_not(rule, change, results)}" for rule in about[:MAX_REASONS]]
    if len(about) > MAX_REASONS:
        reasons.append(f"and {len(about) - MAX_REASONS} more do not match")
    return reasons


def why_not(rule: Rule, change: CatalogChange, results: Results) -> str:
    """Say in a few words what of a rule does not hold for a change that it does not match."""
    if not rule.watches(change):
        return f"watches {', '.join(rule.on)}, this is {change.action!r}"
    if rule.when is None:
        return "its condition does not hold"
    if change.action == TIMER_EXPIRED:
        return f"it is the timer of {change.timer} that ran out"
    return _unmet(rule.when, change, results)


def _unmet(condition: Condition, change: CatalogChange, results: Results, *, now: bool = False) -> str:
    """Say what of a condition did not come true with a change; `now`: what is not true after it."""
    if condition.all_ is not None:
        for member in condition.all_:
            if not member.fulfilled(change, results):
                return _unmet(member, change, results, now=True)
        return "all of it holds, but nothing of it began with this change"
    if condition.any_ is not None:
        return ", ".join(_unmet(member, change, results, now=now) for member in condition.any_[:MAX_REASONS])
    if condition.jq is not None:
        result = results.get(condition.jq)
        return f"jq failed: {result.text}" if isinstance(result, JqError) else f"jq gave {text_of(result)}"
    value = condition.pair(change)
    if now and condition.is_level:
        shown, wanted = _compared(condition, "to", value.after)
        return f"{value.name} is {shown}; the rule has {wanted}"
    if not value.differs:
        return f"{value.name} did not change"
    side = "to"
    if "from_" in condition.model_fields_set and not left(condition.from_, value.before, value.after):
        side = "from"
    shown, wanted = _compared(condition, side, value.before if side == "from" else value.after)
    before, after = (_shown(value.before), shown) if side == "to" else (shown, _shown(value.after))
    if condition.beyond(value.after):
        wanted += ", as it was before"
    return f"{value.name} went from {before} to {after}; the rule has {wanted}"


def _compared(condition: Condition, side: str, value: Any) -> tuple[str, str]:
    """Write a value and what the rule has in its place; with their types, where these differ."""
    limits = {"above": condition.above, "below": condition.below}
    word, wanted = next(((name, limit) for name, limit in limits.items() if limit is not None), ("", None))
    values: Any = wanted if word else condition.from_ if side == "from" else condition.to
    if isinstance(values, Not):
        word, values = "not", values.not_
    several = values if isinstance(values, tuple) else (values,)
    items = value if isinstance(value, list) else [value]
    kinds = {_type(item) for item in items if item is not None}
    typed = bool(kinds) and kinds.isdisjoint(_type(item) for item in several if item is not None)
    texts = [_typed(item) if typed else _shown(item) for item in several[:MAX_REASONS]]
    return _typed(value) if typed else _shown(value), " ".join(filter(None, (word, " or ".join(texts))))


def _shown(value: Any) -> str:
    return text_of(value)[:MAX_REASON_VALUE_CHARS]


def _typed(value: Any) -> str:
    shown = f'"{_shown(value)}"' if isinstance(value, str) else _shown(value)
    return f"{shown}, {_type(value)}"


def _type(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
    return "a list" if isinstance(value, list) else "an object"


def make_alerts(
    hit: Hit,
    matched: Match,
    step: Step,
    incident: Incident | None,
    *,
    due_at: datetime | None = None,
    repeat: timedelta | None = None,
    **facts: Any,
) -> tuple[Alert, ...]:
    """Make the alerts of a step, one for each route of a hit that wants the step.

    Args:
        hit: The rule, and where its alerts go.
        matched: The change.
        step: The step.
        incident: The incident after it; None: there is none.
        due_at: Not to be sent before this time, UTC; None: at once.
        repeat: The time after which to repeat it.
        facts: Further attributes of the notification.
    """
    change, rule = matched.change, hit.rule
    openings = incident.openings if incident and step is Step.OPENED else ()
    main = rule.main(change)
    named = main is None and hit.state != UNNAMED and (rule.of is not None or any(rule.programs()))
    notification = Notification.about(
        change,
        main,
        matched.changes,
        rule=rule.name,
        severity=incident.severity if incident else rule.severity_of(change, hit.state),
        step=step,
        limit=rule.limit(change, main),
        state=hit.state if named else "",
        opened_at=incident.opened_at if incident else None,
        times=len(openings),
        last_at=openings[-2] if len(openings) > 1 else None,
        ended=incident.resolved_at is not None if incident else hit.resolves,
        people=hit.people,
        below="" if hit.kin and hit.kin.leads else None,
        members=() if rule.of else None,
        acknowledged=incident.acknowledged if incident else None,
        version=incident.version if incident else 0,
        **facts,
    )
    # A reminder shows when it is sent; what waits shows when it happened.
    if due_at is not None and step in STILL:
        notification = notification.but(at=due_at)
    incident_id = incident.id if incident else None
    wanted = step.of_job(ended=notification.ended)
    routes = [route for route in hit.routes if wanted in route.steps]
    return tuple([Alert.to(route, notification, incident_id, due_at, repeat) for route in routes])
