"""What the page and the API show alike: a change with its values, the timeline, the reconcile runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from app.errors import UnreadableChange
from app.model.change import TIMER_EXPIRED, CatalogChange
from app.model.diff import PropertyChange, diff
from app.model.incident import Incident, Step
from app.model.notification import Notification, one_line, text_of
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.store.views import IncidentRow, StoredChange, StoredRun
from app.web.api.models import (
    ChangeOut,
    ReconcileRunOut,
    ReconciliationOut,
    ValueOut,
    attributes_of,
    within_reach,
)

LONGEST_WHOLE_VALUE = 2_000
LONGEST_LISTED_VALUE = 120
VALUES_IN_A_LIST = 4
TIMELINE_ROWS = 200
RUNS_LOOKED_AT = 10
LEVELS = {"Healthy": "ok", "Degraded": "warning", "Crashed": "critical", "Restarting": "info"}
"""The colours of the statuses in Port's own blueprints; others are coloured by their rule's severity."""

LEVEL_ORDER = ("critical", "warning", "info", "ok")

_Point = tuple[datetime, str, str]
"""Since when, which state, and the state's level."""


def view_change(row: StoredChange, *, whole: bool = False) -> ChangeOut:
    """Parse a stored change's body into what is shown of it; nothing of a body that this release cannot read.

    Args:
        row: The change.
        whole: All values, and long ones; else as much as a list has room for.
    """
    change: CatalogChange | None = None
    changes: tuple[PropertyChange, ...] = ()
    if row.body is not None:  # a long body is not read for a list
        with suppress(UnreadableChange):  # an older release could
            change = parse_event(Signed(row.body, row.at))
    # Of an entity that is new or gone every value differs: in a list the action says so. A timer moves none.
    if (
        change
        and change.action != TIMER_EXPIRED
        and (whole or (change.before is not None and change.after is not None))
    ):
        changes = diff(change.before, change.after)
    limit = LONGEST_WHOLE_VALUE if whole else LONGEST_LISTED_VALUE
    shown = changes if whole else changes[:VALUES_IN_A_LIST]
    values = [
        ValueOut(
            name=one_line(value.name, 200),
            before=one_line(text_of(value.before), limit),
            after=one_line(text_of(value.after), limit),
        )
        for value in shown
    ]
    parsed = {
        "title": one_line(change.title, 200) if change else row.entity,
        "actor": one_line(change.actor, 200) if change else "",
        "origin": one_line(change.origin, 60) if change else "",
        "reconciled": change is not None and change.found_at is not None,
        "values": values,
        "values_left_out": len(changes) - len(shown),
    }
    return ChangeOut.model_validate(attributes_of(row) | parsed)


def view_reconciling(
    runs: Sequence[StoredRun], *, off: str | None, every: timedelta, now: datetime
) -> ReconciliationOut:
    """Sum up the last reconcile runs.

    Args:
        runs: The last runs, newest first.
        off: Why nothing is reconciled; None: it is.
        every: How often a run is due.
        now: The time, UTC.
    """
    # A run whose lease is over was killed: it is not under way any more.
    running = next((run for run in runs[:1] if run.ended_at is None and run.lease_until > now), None)
    ended = [run for run in runs if run.ended_at is not None]
    last = next((run for run in ended if not run.error), None)
    error = ended[0].error if ended else ""
    next_at = None
    if last is not None and last.ended_at and not off and not running and not error:
        next_at = last.ended_at + every
    return ReconciliationOut(
        off=off or "",
        last=last and ReconcileRunOut.of(last),
        running=running and ReconcileRunOut.of(running),
        error=error,
        next_at=next_at,
    )


def query_string(**values: Any) -> str:
    """Encode values as a query; what is empty is left out."""
    return urlencode({key: value for key, value in values.items() if value not in (None, "")})


def entity_path(blueprint: str, entity: str) -> str:
    """Return the path of an entity's page."""
    return f"/entity?{query_string(blueprint=blueprint, entity=entity)}"


def level_of(state: str, severity: str, *, ended: bool = False) -> str:
    """Return the colour of a state by name: ``ok``, ``info``, ``warning`` or ``critical``."""
    return LEVELS.get(state) or ("ok" if ended else severity)


def iso(time: datetime) -> str:
    """Format a time for machines: ISO 8601, UTC, in whole seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Parse a time of a form or a query, in ISO 8601, as UTC, within reach.

    Raises:
        ValueError: It is none.
        OverflowError: It is too early or too late.
    """
    time = datetime.fromisoformat(text)
    # A datetime-local field has no zone; its label says UTC.
    return within_reach(time.replace(tzinfo=UTC) if time.tzinfo is None else time).astimezone(UTC)


def timeline(
    alerts: list[Notification],
    incidents: list[IncidentRow],
    since: datetime,
    now: datetime,
    *,
    team: str = "",
    by_team: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows of the timeline: for each entity, and rule if it has several, its states in order.

    What is not well comes first, the worst and of those what moved last. Of more than `TIMELINE_ROWS` rows
    the last are left out.

    Args:
        alerts: What alerts said, oldest first.
        incidents: Those that were open at any time since.
        since: Where the picture begins, UTC.
        now: Where it ends, UTC.
        team: Only entities of this team; empty: of all.
        by_team: The teams by name one after the other, each with what is not well first.
    """
    points: dict[tuple[str, str, str], list[_Point]] = {}
    titles: dict[tuple[str, str], str] = {}
    teams: dict[tuple[str, str], tuple[str, ...]] = {}
    for alert in alerts:
        key = (alert.blueprint, alert.entity, alert.rule)
        titles[key[:2]], teams[key[:2]] = alert.title, alert.teams
        _add_alert(points.setdefault(key, []), alert, since)
    for row in incidents:  # those that opened before the picture begins, without an alert since
        incident = row.incident
        key = (incident.blueprint, incident.entity, incident.rule)
        if key not in points:
            points[key] = _incident_points(incident, since)
            if row.last is not None:
                teams[key[:2]] = row.last.teams

    def team_of(key: tuple[str, str, str]) -> str:
        return ", ".join(teams.get(key[:2], ()))

    def order(key: tuple[str, str, str]) -> tuple[Any, ...]:
        moved_at, _, level = points[key][-1]
        return (team_of(key) if by_team else "", LEVEL_ORDER.index(level), now - moved_at, key)

    rules = Counter(key[:2] for key in points)
    wanted = (key for key in points if not team or team in teams.get(key[:2], ()))
    return [
        {
            "label": f"{key[1]} ({key[2]})" if rules[key[:2]] > 1 else key[1],
            "title": titles.get(key[:2], key[1]),
            "team": team_of(key),
            "url": entity_path(key[0], key[1]),
            "segments": _segments(points[key], now),
        }
        for key in sorted(wanted, key=order)[:TIMELINE_ROWS]
    ]


def _add_alert(points: list[_Point], alert: Notification, since: datetime) -> None:
    if not points and alert.change and alert.at > since:
        before = text_of(alert.change.before)
        # Before an incident opened all was well; before a later step it had the incident's severity.
        was_ok = alert.step in (Step.OPENED, Step.NOTICED) or alert.ended
        points.append((since, before, level_of(before, alert.severity, ended=was_ok)))
    after = text_of(alert.change.after) if alert.change else alert.action.lower()
    points.append((max(alert.at, since), after, level_of(after, alert.severity, ended=alert.ended)))


def _incident_points(incident: Incident, since: datetime) -> list[_Point]:
    start = max(incident.opened_at, since)
    points = [(start, incident.state, level_of(incident.state, incident.severity))]
    if incident.resolved_at is not None:
        points.append((incident.resolved_at, "ended", "ok"))
    return points


def _segments(points: list[_Point], now: datetime) -> list[Mapping[str, Any]]:
    ends = [at for at, *_ in points[1:]] + [now]
    return [
        {"from": iso(at), "to": iso(max(at, end)), "state": one_line(state, 60), "level": level}
        for (at, state, level), end in zip(points, ends, strict=True)
    ]
