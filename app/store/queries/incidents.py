"""The incidents, as the page, the API and the commands show them; closed where no change will end them."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from app.model.incident import RANKS, Incident, Route, Step
from app.model.notification import UNMOVED, Notification
from app.model.times import MICRO, from_micros, micros_or_none, to_micros
from app.rules.kin.quiet import waits
from app.store.columns import UNTIL_RELEASED, told_json
from app.store.cursor import LAST, number_of, page_of
from app.store.kin import causes, members, shown
from app.store.queries import deliveries, reports
from app.store.queries.accept import INCIDENT, incident_of
from app.store.rows import NewDelivery, notification_json, notification_of
from app.store.transaction import EntityKey, Row, Transaction
from app.store.views import IncidentFilter, IncidentRow, Page

LAST_NOTIFICATION = (
    "(SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    " ORDER BY deliveries.id DESC LIMIT 1)"
)
LAST_ALERT = f"SELECT {deliveries.COPIED} FROM deliveries WHERE incident_id = $1 ORDER BY id DESC LIMIT 1"
INCIDENT_ROW = f"{INCIDENT}, {LAST_NOTIFICATION}, {shown.CAUSE}"
WORST_FIRST = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at, id"
ALL_OF_THEM = IncidentFilter()
Later = tuple[Step, Route, timedelta, datetime]
"""What is to be said where, how long after what, and when that is."""


async def worst(tx: Transaction, limit: int, which: IncidentFilter = ALL_OF_THEM) -> list[IncidentRow]:
    """Read open incidents that a filter fits: the worst first, of those the oldest."""
    return list((await page(tx, is_open=True, which=which, worst_first=True, limit=limit)).rows)


def _fits(which: IncidentFilter, values: list[object]) -> str:
    """Write a filter's conditions, each after an AND, and add their values to those of the statement."""
    where = ""
    for column, value in (
        ("severity", which.severity),
        ("blueprint", which.blueprint),
        ("entity", which.entity),
        ("rule", which.rule),
    ):
        if value is not None:
            values.append(value)
            where += f" AND incidents.{column} = ${len(values)}"
    if which.text is not None:
        values.append("%" + "".join(f"\\{char}" if char in "\\%_" else char for char in which.text) + "%")
        where += rf" AND lower(incidents.entity) LIKE lower(${len(values)}) ESCAPE '\'"
    if which.team is not None:  # the change that it was alerted on names the teams, as JSON
        values.append(json.dumps(which.team))
        where += (
            " AND EXISTS (SELECT 1 FROM deliveries JOIN changes ON changes.id = change_id"
            f" WHERE incident_id = incidents.id AND replace(teams, ${len(values)}, '') <> teams)"
        )
    where += shown.TOP if which.top else ""
    if which.ids is not None:
        values.append(list(which.ids))
        where += f" AND incidents.id = ANY(${len(values)})"
    if which.acknowledged is not None:
        where += f" AND acknowledged_at IS {'NOT NULL' if which.acknowledged else 'NULL'}"
    return where


async def incident(tx: Transaction, name: str) -> IncidentRow | None:
    """Read one incident."""
    row = await tx.fetch_row(f"SELECT {INCIDENT_ROW} FROM incidents WHERE id = $1", name)
    return (await _with_escalations(tx, [_incident_row_of(row)]))[0] if row else None


async def page(
    tx: Transaction,
    *,
    is_open: bool | None = None,
    since: datetime | None = None,
    which: IncidentFilter = ALL_OF_THEM,
    worst_first: bool = False,
    before: str | None = None,
    limit: int,
) -> Page[IncidentRow]:
    """Read incidents, those that opened last first, or the worst first, of those the oldest.

    Args:
        tx: The transaction.
        is_open: Only those that are open, or only those that have ended.
        since: Only those that were open at or after this time, UTC.
        which: Only those that it fits.
        worst_first: The worst first.
        before: A page's `next`.
        limit: How many at most.

    Raises:
        ValueError: No page of this order has given `before`.
    """
    values: list[object]
    if worst_first:
        severity, _, rest = ("critical.0." if before is None else before).partition(".")
        opened_at, _, name = rest.partition(".")
        rank = RANKS["critical"] - [*map(str, RANKS)].index(severity)
        values = [limit + 1, rank, number_of(opened_at), name]
        where, order = f"({WORST_FIRST}) > ($2, $3, $4)", WORST_FIRST
    else:
        opened_at, _, name = (before or f"{LAST}.").partition(".")
        values = [limit + 1, LAST if before is None else number_of(opened_at), name]
        where, order = "(opened_at, id) < ($2, $3)", "opened_at DESC, id DESC"
    if is_open is not None:
        where += f" AND resolved_at IS {'NULL' if is_open else 'NOT NULL'}"
    if since is not None:
        values.append(micros_or_none(since))
        where += f" AND (resolved_at IS NULL OR resolved_at >= ${len(values)})"
    where += _fits(which, values)
    rows = await tx.fetch(
        f"SELECT {INCIDENT_ROW} FROM incidents WHERE {where} ORDER BY {order} LIMIT $1",
        *values,
    )
    read = page_of(rows, limit, _incident_row_of, partial(_cursor, worst_first=worst_first))
    return replace(read, rows=await _with_escalations(tx, read.rows))


def _cursor(last: IncidentRow, *, worst_first: bool) -> str:
    incident = last.incident
    newest = f"{to_micros(incident.opened_at)}.{incident.id}"
    # By its beginning each is known from one of the other order, which would lead to no page, or a wrong one.
    return f"{incident.severity}.{newest}" if worst_first else newest


async def _with_escalations(tx: Transaction, rows: Sequence[IncidentRow]) -> list[IncidentRow]:
    """Add to incidents where they go, and when, if nobody acknowledges them."""
    names = [row.incident.id for row in rows if row.incident.escalates_from]
    if not names:  # as nearly always
        return list(rows)
    coming: dict[str, list[tuple[str, datetime]]] = {}
    for name, destination, due_at in await tx.fetch(
        "SELECT incident_id, destination, due_at FROM deliveries WHERE incident_id = ANY($1)"
        " AND state || '' = 'pending' AND step = 'escalated' ORDER BY due_at, id",
        names,
    ):
        coming.setdefault(name, []).append((destination, from_micros(due_at)))
    return [replace(row, escalations=tuple(coming.get(row.incident.id, ()))) for row in rows]


async def close(tx: Transaction, names: Sequence[str], why: str, now: datetime) -> list[Incident]:
    """Close incidents, by id, and alert of it wherever they were told.

    Args:
        tx: The transaction.
        names: Their ids.
        why: The reason, as a part of a sentence.
        now: The time, UTC.

    Returns:
        Those that were open.
    """
    closed = await locked(tx, names)
    at, alerts = to_micros(now), []
    ids = {incident.id: at for incident in closed}
    await tx.execute_many(
        "UPDATE incidents SET resolved_at = $2, acknowledged_at = NULL, acknowledged_by = '',"
        " escalates_from = NULL, version = version + 1 WHERE id = $1",
        list(ids.items()),
    )
    await causes.end(tx, dict.fromkeys(ids, f"is closed, {why}"), at)
    cancelled = await deliveries.cancel_later(tx, ids) if ids else []
    for incident in closed:
        alerts += await alerts_of(tx, incident, Step.RESOLVED, lambda last: last.closing(why, now), now)
    await deliveries.insert(tx, alerts)
    await reports.announce(tx, cancelled, at)
    for group, reason in (await members.untie(tx, [*ids], at)).items():
        closed += await close(tx, [group], reason, now)
    return closed


async def alerts_of(
    tx: Transaction,
    incident: Incident,
    step: Step,
    say: Callable[[Notification], Notification],
    now: datetime,
) -> list[NewDelivery]:
    """Make the alerts of a step that no change brings, for each place that was told and wants the step.

    Args:
        tx: The transaction.
        incident: The incident, which is kept as it is.
        step: The step.
        say: Makes what is said of what was said last.
        now: The time, UTC.
    """
    places = [place for place in incident.told_so_far if step in place.steps]
    # Of one that waits or is quiet nobody has heard.
    if not places or waits(incident, now):
        return []
    last = await tx.fetch_row(LAST_ALERT, incident.id)
    if last is None:
        return []
    facts = {"incident_id": incident.id, "step": step, "severity": incident.severity}
    alert = deliveries.following(last, to_micros(now), **facts)
    said = say(_said(incident, alert.notification, now))
    return [_for_place(alert, said, place) for place in places]


def _said(incident: Incident, text: str, now: datetime) -> Notification:
    """Read what was said last of an incident; of what another release has written only what it is about."""
    bare = Notification(
        step=Step.CHANGED,
        rule=incident.rule,
        severity=incident.severity,
        blueprint=incident.blueprint,
        entity=incident.entity,
        title=incident.entity,
        change=None,
        at=now,
        opened_at=incident.opened_at,
    )
    return (notification_of(text) or bare).named(incident.entity)


def _for_place(alert: NewDelivery, said: Notification, place: Route) -> NewDelivery:
    """Address what is said in the words of an alert, which may be another place's."""
    if place.queue != alert.queue:
        said = said.but(instead="", at_any_time=place.at_any_time)
    text = notification_json(said)
    return alert._replace(destination=place.destination, queue=place.queue, notification=text)


async def put_later(tx: Transaction, incident: Incident, later: Iterable[Later], now: datetime) -> None:
    """Write what is to be said later of an incident, in the words of its last alert."""
    last = await tx.fetch_row(LAST_ALERT, incident.id)
    if last is None:
        return
    said_last = _said(incident, last[3], now).but(acknowledged=None, version=incident.version, **UNMOVED)
    alerts, told = [], {place.queue: place for place in incident.told_so_far}
    for step, route, after, due_at in later:
        said = said_last.but(step=step, at=due_at, window=after if step is Step.ESCALATED else None)
        at = UNTIL_RELEASED if incident.quiet else to_micros(due_at)
        facts = {"incident_id": incident.id, "step": step, "severity": incident.severity, "due_at": at}
        facts |= {"waiting_since": at, "repeat_after": after // MICRO}
        alert = deliveries.following(last, to_micros(now), **facts)
        alerts.append(_for_place(alert, said, told.get(route.queue, route)))
    await deliveries.insert(tx, alerts)


async def put_told(tx: Transaction, incident: Incident) -> None:
    """Write where an incident was told."""
    await tx.execute("UPDATE incidents SET told = $1 WHERE id = $2", told_json(incident.told), incident.id)


async def locked(tx: Transaction, names: Sequence[str], more: Collection[EntityKey] = ()) -> list[Incident]:
    """Read those of some incidents, by id, that are open; until the end they stay as they are.

    So do those of `more` entities.
    """
    where = "FROM incidents WHERE id = ANY($1) AND resolved_at IS NULL ORDER BY id"
    entities = await tx.fetch(  # and of what they are tied to: it may end with them
        "SELECT incidents.blueprint, incidents.entity, ties.blueprint, ties.entity FROM incidents"
        " LEFT JOIN incident_ties AS ties ON ties.incident_id = incidents.id"
        " WHERE incidents.id = ANY($1) AND resolved_at IS NULL",
        list(names),
    )
    if not entities:
        return []
    pairs = {key for row in entities for key in ((row[0], row[1]), (row[2], row[3])) if key[0]}
    await tx.lock(pairs.union(more))
    below = await causes.below(tx, names)
    await tx.lock_rows("incidents", sorted({*names, *below}))
    return [incident_of(row) for row in await tx.fetch(f"SELECT {INCIDENT} {where}", list(names))]


def _incident_row_of(row: Row) -> IncidentRow:
    *columns, text, cause = row
    return IncidentRow(incident_of(columns), None if text is None else notification_of(text), cause or "")
