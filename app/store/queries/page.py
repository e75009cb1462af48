"""What the page, the API and the commands read, newest first unless said otherwise.

`before` is the `next` of a `Page`; each raises ValueError for one that no page has given.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from app.model.delivery import Outcome, State
from app.model.incident import Step
from app.model.notification import Notification
from app.model.times import EPOCH, from_micros, micros_or_none, time_or_none, to_micros
from app.store.queries.accept import INCIDENT, incident_of
from app.store.queries.queues import UNREADABLE
from app.store.transaction import Row, Transaction
from app.store.views import (
    AuditEntry,
    Counts,
    Delivery,
    DeliveryAttempt,
    IncidentRow,
    Page,
    Quarantined,
    QueueState,
    Tally,
)

_T = TypeVar("_T")

LAST = 2**63 - 1
"""Greater than every number and time of a row."""
DELIVERY = (
    "SELECT deliveries.id, change_id, changes.key, incident_id, queue, deliveries.destination, state,"
    "  on_hold, notification, created_at, ended_at, CASE WHEN next_at > due_at THEN next_at ELSE due_at END,"
    "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
    "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
    " FROM deliveries JOIN queues ON queues.name = queue JOIN changes ON changes.id = change_id"
)
SHOWN = "(kind = 'alert' OR state = 'dead')"
"""An update of a message is no alert, but one that failed must be seen."""
LAST_NOTIFICATION = (
    "(SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    " ORDER BY deliveries.id DESC LIMIT 1)"
)
WORST_FIRST = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at"
QUARANTINE = "length(body), signed_at, received_at, path, reason FROM quarantine"
FIRST_BYTES = 2_000
"""How much of a quarantined body a list shows."""
GROWING = ("changes", "attempts", "audit", "silences", "quarantine")
"""The tables to which a row is added whenever there is something new to see."""
IN_DOUBT = 1000
"""Among so many of the last numbers there may be some that are not committed yet, on PostgreSQL."""


def number_of(cursor: str | None) -> int:
    """Read a page's `next` as a number; without one, a number beyond all.

    Raises:
        ValueError: No page has given it.
    """
    if cursor is None:
        return LAST
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValueError("no page has given this cursor")
    return int(cursor)


def _page(
    rows: Sequence[Row], limit: int, read: Callable[[Row], _T], cursor: Callable[[_T], str]
) -> Page[_T]:
    """Make a page of rows, of which one more than `limit` was asked for."""
    readable = [read(row) for row in rows[:limit]]
    return Page(readable, cursor(readable[-1]) if len(rows) > limit else None)


async def deliveries(
    tx: Transaction, *, state: State | None = None, before: str | None = None, limit: int
) -> Page[Delivery]:
    """Read deliveries, all or those that stand somewhere; those of the newest change first."""
    change, _, delivery = (before or f"{LAST}.{LAST}").partition(".")
    start = (LAST, LAST) if before is None else (number_of(change), number_of(delivery))
    values: list[object] = [*start, limit + 1]
    where = f"(change_id, deliveries.id) < ($1, $2) AND {SHOWN}"
    if state is not None:
        where += " AND state = $4"
        values.append(str(State.PENDING if state is State.ON_HOLD else state))
    if state in (State.ON_HOLD, State.PENDING):
        where += f" AND on_hold IS {'NOT NULL' if state is State.ON_HOLD else 'NULL'}"
    rows = await tx.fetch(
        f"{DELIVERY} WHERE {where} ORDER BY change_id DESC, deliveries.id DESC LIMIT $3", *values
    )
    return _page(rows, limit, _delivery_of, lambda last: f"{last.change_id}.{last.id}")


async def deliveries_of(tx: Transaction, changes: Sequence[int]) -> list[Delivery]:
    """Read the deliveries of changes, by their numbers, reports to Port too; oldest first."""
    rows = await tx.fetch(
        f"{DELIVERY} WHERE change_id = ANY($1) AND ({SHOWN} OR kind = 'report')"
        " ORDER BY deliveries.id LIMIT 1000",
        list(changes),
    )
    return [_delivery_of(row) for row in rows]


async def delivery(tx: Transaction, number: int) -> Delivery | None:
    """Read one delivery."""
    row = await tx.fetch_row(f"{DELIVERY} WHERE deliveries.id = $1", number)
    return _delivery_of(row) if row else None


async def count(tx: Transaction) -> dict[State, int]:
    """Count the alerts by where they stand."""
    rows = await tx.fetch(
        "SELECT CASE WHEN state = 'pending' AND on_hold IS NOT NULL THEN 'on_hold' ELSE state END, count(*)"
        " FROM deliveries JOIN queues ON queues.name = queue WHERE kind = 'alert' GROUP BY 1"
    )
    return dict.fromkeys(State, 0) | {State(state): number for state, number in rows}


async def attempts(tx: Transaction, numbers: Sequence[int]) -> list[DeliveryAttempt]:
    """Read every attempt of deliveries, by their numbers, oldest first."""
    rows = await tx.fetch(
        "SELECT delivery_id, outcome, detail, started_at, ended_at FROM attempts"
        " WHERE delivery_id = ANY($1) ORDER BY id LIMIT 5000",
        list(numbers),
    )
    return [
        DeliveryAttempt(id_, Outcome(outcome), detail, from_micros(started_at), from_micros(ended_at))
        for id_, outcome, detail, started_at, ended_at in rows
    ]


async def queues(tx: Transaction, now: datetime) -> list[QueueState]:
    """Read how every queue is at a time, UTC; by name."""
    rows = await tx.fetch(
        "SELECT name, destination,"
        "  (SELECT count(*) FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1),"
        "  (SELECT waiting_since FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1"
        "   ORDER BY id LIMIT 1),"
        "  on_hold, failures, next_at, delivered_at FROM queues ORDER BY name",
        to_micros(now),
    )
    return [
        QueueState(
            name,
            destination,
            waiting,
            time_or_none(oldest_at),
            on_hold,
            failures,
            from_micros(next_at),
            time_or_none(delivered_at),
        )
        for name, destination, waiting, oldest_at, on_hold, failures, next_at, delivered_at in rows
    ]


async def worst(tx: Transaction, limit: int) -> list[IncidentRow]:
    """Read open incidents: the worst first, of those the oldest."""
    rows = await tx.fetch(
        f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE resolved_at IS NULL"
        f" ORDER BY {WORST_FIRST} LIMIT $1",
        limit,
    )
    return [_incident_row_of(row) for row in rows]


async def incident(tx: Transaction, name: str) -> IncidentRow | None:
    """Read one incident."""
    row = await tx.fetch_row(f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE id = $1", name)
    return _incident_row_of(row) if row else None


async def incidents(
    tx: Transaction,
    *,
    is_open: bool | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    since: datetime | None = None,
    before: str | None = None,
    limit: int,
) -> Page[IncidentRow]:
    """Read incidents, those that opened last first.

    Args:
        tx: The transaction.
        is_open: Only those that are open, or only those that have ended.
        blueprint: With `entity`: only this entity's.
        entity: The entity's identifier.
        since: Only those that were open at or after this time, UTC.
        before: A page's `next`.
        limit: How many at most.
    """
    opened_at, _, name = (before or f"{LAST}.").partition(".")
    values: list[object] = [LAST if before is None else number_of(opened_at), name, limit + 1]
    where = "(opened_at, id) < ($1, $2)"
    if is_open is not None:
        where += f" AND resolved_at IS {'NULL' if is_open else 'NOT NULL'}"
    if since is not None:
        values.append(micros_or_none(since))
        where += f" AND (resolved_at IS NULL OR resolved_at >= ${len(values)})"
    if blueprint is not None and entity is not None:
        values += (blueprint, entity)
        where += f" AND blueprint = ${len(values) - 1} AND entity = ${len(values)}"
    rows = await tx.fetch(
        f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE {where}"
        " ORDER BY opened_at DESC, id DESC LIMIT $3",
        *values,
    )
    return _page(
        rows, limit, _incident_row_of, lambda last: f"{to_micros(last.incident.opened_at)}.{last.incident.id}"
    )


async def news(tx: Transaction, since: datetime, limit: int) -> list[Notification]:
    """Read what was decided since a time, UTC, once for each change and rule, oldest first.

    Reminders are no news, and are left out; of more than `limit` deliveries the oldest are.
    """
    rows = await tx.fetch(
        "SELECT change_id, notification FROM ("
        "  SELECT id, change_id, notification, created_at FROM deliveries ORDER BY id DESC LIMIT $1)"
        " AS newest WHERE created_at >= $2 ORDER BY id DESC",
        limit,
        to_micros(since),
    )
    first: dict[tuple[int, str], Notification] = {}
    for change_id, text in rows:
        notification = _readable(text)
        if notification is not None and notification.step not in (Step.REMINDED, Step.NOTICE):
            first.setdefault((change_id, notification.rule), notification)
    return sorted(first.values(), key=lambda notification: notification.at)


async def counts(tx: Transaction, since: datetime) -> Counts:
    """Count what came and ended since a time, UTC, and what is open or waits now."""
    ended = await tx.fetch(
        "SELECT state, count(*) FROM deliveries WHERE ended_at >= $1 AND kind = 'alert' GROUP BY state",
        to_micros(since),
    )
    ((changes, pending, dead, open_, quarantined),) = await tx.fetch(
        "SELECT (SELECT count(*) FROM changes WHERE received_at >= $1),"
        " (SELECT count(*) FROM deliveries WHERE state = 'pending' AND kind = 'alert'),"
        " (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM incidents WHERE resolved_at IS NULL),"
        " (SELECT count(*) FROM quarantine)",
        to_micros(since),
    )
    by_state = dict.fromkeys(State, 0) | {State(state): number for state, number in ended}
    return Counts(changes, by_state, pending, dead, open_, quarantined)


async def tally(tx: Transaction, now: datetime) -> Tally:
    """Count for monitoring; each number has an index that holds little else, so that it is quick."""
    incidents = await tx.fetch(
        "SELECT rule, severity, count(*) FROM incidents WHERE resolved_at IS NULL GROUP BY rule, severity"
    )
    ((dead, silences, schema),) = await tx.fetch(
        "SELECT (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM silences WHERE starts_at <= $1 AND ends_at > $1 AND NOT settled),"
        " (SELECT max(version) FROM schema_version)",
        to_micros(now),
    )
    return Tally({(rule, severity): number for rule, severity, number in incidents}, dead, silences, schema)


async def newest(tx: Transaction) -> tuple[int, ...]:
    """Read numbers that grow whenever there is something new to see; cheap enough for every second.

    A number may be committed after a greater one, so that it is also said how many of the last there are.
    """
    numbers = (
        f"coalesce((SELECT max(id) FROM {table}), 0),"
        f" (SELECT count(*) FROM {table} WHERE id > (SELECT max(id) FROM {table}) - {IN_DOUBT})"
        for table in GROWING
    )
    (row,) = await tx.fetch(f"SELECT {', '.join(numbers)}")
    return tuple(row)


async def quarantine(tx: Transaction, *, before: str | None = None, limit: int) -> Page[Quarantined]:
    """Read what is in quarantine, each body cut."""
    rows = await tx.fetch(
        f"SELECT id, substr(body, 1, {FIRST_BYTES}), {QUARANTINE} WHERE id < $1 ORDER BY id DESC LIMIT $2",
        number_of(before),
        limit + 1,
    )
    return _page(rows, limit, _quarantined_of, lambda last: str(last.id))


async def quarantined(tx: Transaction, number: int) -> Quarantined | None:
    """Read one body that is in quarantine, whole."""
    row = await tx.fetch_row(f"SELECT id, body, {QUARANTINE} WHERE id = $1", number)
    return _quarantined_of(row) if row else None


async def leave_quarantine(tx: Transaction, ids: Sequence[int]) -> None:
    """Delete from the quarantine what has been replayed."""
    await tx.execute("DELETE FROM quarantine WHERE id = ANY($1)", list(ids))


async def write_audit(tx: Transaction, entry: AuditEntry) -> int:
    """Write down what somebody did, and give the entry's number."""
    number: int = await tx.fetch_value(
        "INSERT INTO audit (at, who, what, details) VALUES ($1, $2, $3, $4) RETURNING id",
        to_micros(entry.at),
        entry.who,
        entry.what,
        entry.details,
    )
    return number


async def audit(tx: Transaction, *, before: str | None = None, limit: int) -> Page[AuditEntry]:
    """Read what people did."""
    rows = await tx.fetch(
        "SELECT at, who, what, details, id FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        number_of(before),
        limit + 1,
    )
    return _page(rows, limit, _audit_entry_of, lambda last: str(last.id))


async def audited(tx: Transaction, number: int) -> AuditEntry | None:
    """Read one entry of what people did."""
    row = await tx.fetch_row("SELECT at, who, what, details, id FROM audit WHERE id = $1", number)
    return _audit_entry_of(row) if row else None


async def alert_counts(tx: Transaction, since: datetime) -> dict[tuple[str, str], int]:
    """Count the alerts that were stored since a time, UTC, by rule and destination."""
    rows = await tx.fetch(
        "SELECT rule, destination, count(*) FROM deliveries WHERE created_at >= $1 AND state <> 'cancelled'"
        " AND repeat_after IS NULL AND kind = 'alert' AND rule <> '' GROUP BY 1, 2",
        to_micros(since),
    )
    return {(rule, destination): number for rule, destination, number in rows}


def _delivery_of(row: Row) -> Delivery:
    """Read a row of `DELIVERY`. What waits in a queue on hold is shown as on hold."""
    (id_, change_id, key, incident_id, queue, destination, state, on_hold, *rest) = row
    notification, created_at, ended_at, next_at, attempts_, detail = rest
    waits = state == State.PENDING
    held_back = waits and on_hold is not None
    return Delivery(
        id=id_,
        change_id=change_id,
        change_key=key,
        incident_id=incident_id,
        queue=queue,
        destination=destination,
        state=State.ON_HOLD if held_back else State(state),
        notification=_readable(notification) or _unreadable(),
        created_at=from_micros(created_at),
        ended_at=time_or_none(ended_at),
        attempts=attempts_,
        detail=(on_hold if held_back else detail) or "",
        next_at=from_micros(next_at) if waits else None,
    )


def _incident_row_of(row: Row) -> IncidentRow:
    *columns, text = row
    return IncidentRow(incident_of(columns), None if text is None else _readable(text))


def _quarantined_of(row: Row) -> Quarantined:
    id_, body, size, signed_at, received_at, path, reason = row
    body = bytes(body or b"")
    return Quarantined(id_, body, size, from_micros(signed_at), from_micros(received_at), path, reason)


def _audit_entry_of(row: Row) -> AuditEntry:
    at, who, action, details, id_ = row
    return AuditEntry(from_micros(at), who, action, details, id_)


def _readable(text: str) -> Notification | None:
    try:
        return Notification.model_validate_json(text)
    except ValidationError:  # written by another release
        return None


def _unreadable() -> Notification:
    return Notification(
        step=Step.NOTICED, rule="", blueprint="", entity="?", title=UNREADABLE, change=None, at=EPOCH
    )
