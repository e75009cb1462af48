"""Which incidents are explained by another one, so that nobody need be alerted of them: pure.

One hop at a time: an incident is quiet while one above it is open, quiet or not. What is open is recorded
whether anybody is alerted of it or not, and what was alerted is alerted to its end.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from app.model.change import CatalogChange
from app.model.incident import Incident, Severity, Tie
from app.model.times import to_micros
from app.rules.values import Duration, Strict

if TYPE_CHECKING:
    from app.rules.decide import EntityState
    from app.rules.kin.ties import Kin
    from app.rules.last_known import LastKnown
    from app.rules.match import Hit
    from app.rules.rule import Rule

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
    kin: "Kin | None",
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
        return after.but(ties=())
    ties = counting(kin.ties(known, after.severity), after, before, kin.rule, now)
    if after.flapping or (before is not None and not waits(before, now)):
        return after if ties == after.ties else after.but(ties=ties)  # a copy is not cheap
    span = hold(kin.rule, after.severity)
    open_ = (causes[tie.key] for tie in ties if tie.quiets and tie.key in causes)
    due_at = min(after.opened_at, now) + span if span else kin.due_at
    if span and before is not None and before.due_at and span == hold(kin.rule, before.severity):
        due_at = before.due_at  # the clock may have been set since
    return after.but(ties=ties, quiet=next(open_, None), due_at=due_at)


def counting(
    ties: tuple[Tie, ...], incident: Incident, before: Incident | None, rule: "Rule", now: datetime
) -> tuple[Tie, ...]:
    """Let an incident that opens only after a time, by its rule's `for`, count in its groups from then on."""
    if rule.wait is None:
        return ties
    known = (tie.counts_from for tie in before.ties if tie.counts_from) if before else iter(())
    start = next(known, None) or to_micros(min(incident.opened_at, now) + rule.wait)
    return tuple(tie if tie.counts_from is None else tie._replace(counts_from=start) for tie in ties)


def is_explained(
    kin: "Kin", change: CatalogChange, state: str, causes: Causes, known: "LastKnown | None"
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


def why_not_late(hit: "Hit", change: CatalogChange, state: "EntityState", mine: Sequence[Incident]) -> str:
    """Say why a late change alerts nobody though it matches; empty: it does."""
    if hit.rule.wait:
        return "too late to see whether it lasts"  # a newer change has the answer
    if any(incident.flapping for incident in mine):
        return "it flaps, which was alerted"
    explained = hit.kin and is_explained(hit.kin, change, hit.state, state.causes, state.known)
    return "late, and what explains it is open" if explained else ""
