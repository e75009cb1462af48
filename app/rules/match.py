"""Matches a change with the rules. It needs only the change, so it runs in the request; it is pure."""

from dataclasses import dataclass, replace

from app.model.change import ENTITY, UPDATE, CatalogChange
from app.model.diff import PropertyChange, diff
from app.model.incident import Route
from app.model.notification import text_of
from app.rules.condition import Results
from app.rules.rule import Rule, RuleSet
from app.rules.watched import Watched

MAX_REASONS = 5  # nobody reads more of them


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a change matches, or whose incident it may end.

    Attributes:
        rule: The rule.
        matches: The change is one that the rule is about.
        resolves: The change ends the incident that the rule may have open.
        routes: The destinations that an alert would go to.
        lapses: The change ends that incident if it has not alerted yet: what must last did not.
        state: The entity's state after the change.
    """

    rule: Rule
    matches: bool
    resolves: bool
    routes: tuple[Route, ...] = ()
    lapses: bool = False
    state: str = ""

    def to(self, routes: tuple[Route, ...]) -> "Hit":
        """Copy it with other routes. (`replace` takes three times as long.)"""
        return Hit(self.rule, self.matches, self.resolves, routes, self.lapses, self.state)


@dataclass(frozen=True, slots=True)
class Match:
    """The result of matching a change, without knowing any state.

    Attributes:
        change: The change.
        changes: What changed in it.
        hits: The rules that match, or would resolve.
        reason: Why they do, or why none does.
        watched: The fields of which the last known state is kept; None: none is.
    """

    change: CatalogChange
    changes: tuple[PropertyChange, ...]
    hits: tuple[Hit, ...]
    reason: str
    watched: Watched | None = None


def match(rules: RuleSet, change: CatalogChange, results: Results) -> Match:
    """Match a change with the rules, given the results of `rules.programs`; the reason is said, too."""
    if change.resource != ENTITY:
        return Match(change, (), (), f"no rule asks for a {change.resource}: rules are about entities")
    # A timer's event tells of its timer, and nothing of what became of the entity's values.
    seen = change if change.is_whole or change.action == UPDATE else replace(change, before=None, after=None)
    changes = diff(seen.before, seen.after)  # once for all rules
    # That Port has touched an entity, or lists its teams in another order, is no change of it.
    changed = bool(changes) or change.action != UPDATE or seen.before is None or seen.after is None
    hits = []
    for rule in rules.candidates(change, changes):
        hit = Hit(
            rule,
            matches=rule.matches(seen, results) and (changed or rule.when is not None),
            resolves=rule.resolves(seen, results),
            # Only a rule that waits can have an incident that has not alerted.
            lapses=rule.wait is not None and rule.lapses(seen),
            state=rule.state(seen, results),
        )
        if hit.matches or hit.resolves or hit.lapses:
            hits.append(hit)
    matching = [f"rule {hit.rule.name!r} matches" for hit in hits if hit.matches]
    return Match(change, changes, tuple(hits), "; ".join(matching) or _misses(rules, change))


def _misses(rules: RuleSet, change: CatalogChange) -> str:
    about = rules.about(change.blueprint)
    if not about:
        return f"no rule is about blueprint {change.blueprint!r}"
    reasons = [f"rule {rule.name!r}: {why_not(rule, change)}" for rule in about[:MAX_REASONS]]
    if len(about) > MAX_REASONS:
        reasons.append(f"and {len(about) - MAX_REASONS} more do not match")
    return "; ".join(reasons)


def why_not(rule: Rule, change: CatalogChange) -> str:
    """Say in a few words why a rule does not match a change that it does not match."""
    if change.action not in rule.on:
        return f"watches {', '.join(rule.on)}, this is {change.action!r}"
    main = rule.when.main(change) if rule.when else None
    if main is None:
        return "its condition does not hold"
    if not main.differs:
        return f"{main.name} did not change"
    return f"{main.name} went from {text_of(main.before)[:50]} to {text_of(main.after)[:50]}"
