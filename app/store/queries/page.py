"""The SQL of what people look at besides changes: deliveries, incidents, counts, quarantine, trail."""

from collections.abc import Sequence
from datetime import datetime

from app.model.delivery import State
from app.model.notification import Notification
from app.model.report import RUNS
from app.store.columns import micros_or_none
from app.store.transaction import Session
from app.store.view_rows import (
    AUDIT,
    FIRST_BYTES,
    INCIDENTS,
    QUARANTINE,
    SEEN,
    WORST,
    attempt_row_of,
    audit_page,
    deliveries_page,
    delivery_row_of,
    incident_row_of,
    incidents_page,
    news_in,
    number_of,
    quarantine_page,
    quarantine_row_of,
    start_of_deliveries,
    start_of_incidents,
)
from app.store.views import AttemptRow, AuditRow, Counts, DeliveryRow, IncidentRow, Page, QuarantineRow

DELIVERIES = (
    "SELECT deliveries.id, changes.key, queue, deliveries.destination, deliveries.state, on_hold,"
    "  notification, created_at, ended_at, greatest(next_at, due_at),"
    "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
    "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
    "  change_id, incident_id"
    " FROM deliveries JOIN queues ON queues.name = queue JOIN changes ON changes.id = change_id"
)
# A change of a message is not an alert, but one that failed must be seen.
SHOWN = "(message_id IS NULL OR deliveries.state = 'dead')"
IN_DOUBT = 1000
"""Among so many of the last numbers there may be some that are not committed yet, on PostgreSQL."""


async def deliveries(db: Session, state: State | None, before: str | None, limit: int) -> Page[DeliveryRow]:
    """Return deliveries, those of the newest change first."""
    values: list[object] = [*start_of_deliveries(before), limit + 1]
    where = f"(change_id, deliveries.id) < ($1, $2) AND {SHOWN}"
    if state is not None:
        where += " AND deliveries.state = $4"
        values.append(str(State.PENDING if state is State.ON_HOLD else state))
        if state in (State.ON_HOLD, State.PENDING):
            where += f" AND on_hold IS {'NOT NULL' if state is State.ON_HOLD else 'NULL'}"
    rows = await db.fetch(
        f"{DELIVERIES} WHERE {where} ORDER BY change_id DESC, deliveries.id DESC LIMIT $3", *values
    )
    return deliveries_page(rows, limit)


async def deliveries_of(db: Session, changes: Sequence[int]) -> list[DeliveryRow]:
    """Return the deliveries of changes, oldest first."""
    rows = await db.fetch(
        f"{DELIVERIES} WHERE change_id = ANY($1) AND ({SHOWN} OR deliveries.destination = '{RUNS}')"
        " ORDER BY deliveries.id LIMIT 1000",
        list(changes),
    )
    return [delivery_row_of(*row) for row in rows]


async def delivery(db: Session, number: int) -> DeliveryRow | None:
    """Return one delivery."""
    row = await db.fetchrow(f"{DELIVERIES} WHERE deliveries.id = $1", number)
    return delivery_row_of(*row) if row else None


async def attempts(db: Session, numbers: Sequence[int]) -> list[AttemptRow]:
    """Return every attempt of deliveries, oldest first."""
    rows = await db.fetch(
        "SELECT delivery_id, outcome, detail, started_at, ended_at FROM attempts"
        " WHERE delivery_id = ANY($1) ORDER BY id LIMIT 5000",
        list(numbers),
    )
    return [attempt_row_of(*row) for row in rows]


async def worst(db: Session, limit: int) -> list[IncidentRow]:
    """Return open incidents: the worst first, of those the oldest."""
    rows = await db.fetch(f"{INCIDENTS} WHERE resolved_at IS NULL ORDER BY {WORST} LIMIT $1", limit)
    return [incident_row_of(*row) for row in rows]


async def incident(db: Session, name: str) -> IncidentRow | None:
    """Return one incident."""
    row = await db.fetchrow(f"{INCIDENTS} WHERE id = $1", name)
    return incident_row_of(*row) if row else None


async def incidents(
    db: Session,
    is_open: bool | None,
    of: tuple[str, str] | None,
    since: datetime | None,
    before: str | None,
    limit: int,
) -> Page[IncidentRow]:
    """Return incidents, those that opened last first; `of` a blueprint's entity."""
    opened_at, name = start_of_incidents(before)
    values: list[object] = [opened_at, name, limit + 1]
    where = "(opened_at, id) < ($1, $2)"
    if is_open is not None:
        where += f" AND resolved_at IS {'NULL' if is_open else 'NOT NULL'}"
    if since is not None:
        values.append(micros_or_none(since))
        where += f" AND (resolved_at IS NULL OR resolved_at >= ${len(values)})"
    if of is not None:
        values += of
        where += f" AND blueprint = ${len(values) - 1} AND entity = ${len(values)}"
    rows = await db.fetch(f"{INCIDENTS} WHERE {where} ORDER BY opened_at DESC, id DESC LIMIT $3", *values)
    return incidents_page(rows, limit)


async def told_since(db: Session, since: int, limit: int) -> list[Notification]:
    """Return what was decided to be told since then, micros, once for each change and rule, oldest first."""
    rows = await db.fetch(
        "SELECT change_id, notification FROM ("
        "  SELECT id, change_id, notification, created_at FROM deliveries ORDER BY id DESC LIMIT $1)"
        " AS newest"
        " WHERE created_at >= $2 ORDER BY id DESC",
        limit,
        since,
    )
    return news_in(rows)


async def counts(db: Session, since: int) -> Counts:
    """Return counts of the time since then, micros; a change of a message is no alert."""
    ended = await db.fetch(
        "SELECT state, count(*) FROM deliveries WHERE ended_at >= $1 AND message_id IS NULL GROUP BY state",
        since,
    )
    changes, *others = await db.fetchrow(
        "SELECT (SELECT count(*) FROM changes WHERE received_at >= $1),"
        " (SELECT count(*) FROM deliveries WHERE state = 'pending' AND message_id IS NULL),"
        " (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM incidents WHERE resolved_at IS NULL),"
        " (SELECT count(*) FROM quarantine)",
        since,
    )
    by_state = dict.fromkeys(State, 0) | {State(state): number for state, number in ended}
    return Counts(changes, by_state, *others)


async def newest(db: Session) -> tuple[int, ...]:
    """Return numbers that grow whenever there is something new to see.

    A number may be committed after a greater one, so that it is also said how many of the last there are.
    """
    numbers = (
        f"coalesce((SELECT max(id) FROM {table}), 0),"
        f" (SELECT count(*) FROM {table} WHERE id > (SELECT max(id) FROM {table}) - {IN_DOUBT})"
        for table in SEEN
    )
    return tuple(await db.fetchrow(f"SELECT {', '.join(numbers)}"))


async def quarantine(db: Session, before: str | None, limit: int) -> Page[QuarantineRow]:
    """Return what is in quarantine, each body cut, newest first."""
    rows = await db.fetch(
        f"SELECT id, substr(body, 1, {FIRST_BYTES}), {QUARANTINE} WHERE id < $1 ORDER BY id DESC LIMIT $2",
        number_of(before),
        limit + 1,
    )
    return quarantine_page(rows, limit)


async def quarantined(db: Session, number: int) -> QuarantineRow | None:
    """Return one body that is in quarantine, whole."""
    row = await db.fetchrow(f"SELECT id, body, {QUARANTINE} WHERE id = $1", number)
    return quarantine_row_of(*row) if row else None


async def audit(db: Session, before: str | None, limit: int) -> Page[AuditRow]:
    """Return what was done, newest first."""
    rows = await db.fetch(f"{AUDIT} WHERE id < $1 ORDER BY id DESC LIMIT $2", number_of(before), limit + 1)
    return audit_page(rows, limit)
