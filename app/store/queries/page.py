"""The deliveries and queues, as the page, the API and the commands show them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.model.delivery import Outcome, State
from app.model.digest import STILL
from app.model.incident import Step
from app.model.notification import Notification
from app.model.times import EPOCH, Micros, from_micros, micros_or_none, time_or_none, to_micros
from app.store.columns import UNTIL_RELEASED
from app.store.cursor import LAST, number_of, page_of
from app.store.queries.queues import UNREADABLE
from app.store.queue_state import QueueState
from app.store.rows import notification_of
from app.store.transaction import Row, Transaction
from app.store.views import Delivery, DeliveryAttempt, Page

DELIVERY = (
    "SELECT deliveries.id, change_id, changes.key, incident_id, queue, deliveries.destination, state,"
    "  on_hold, notification, created_at, ended_at, CASE WHEN next_at > due_at THEN next_at ELSE due_at END,"
    "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
    "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
    " FROM deliveries JOIN queues ON queues.name = queue JOIN changes ON changes.id = change_id"
)
DUE_IN_QUEUE = "queue = name AND state = 'pending' AND due_at <= $1"
QUIET_DETAIL = "quiet, because another incident explains it"
FORGOTTEN_AFTER = timedelta(days=7)
SHOWN = "(kind = 'alert' OR state = 'dead')"
"""An update of a message is no alert, but one that failed must be seen."""


async def deliveries(
    tx: Transaction,
    *,
    state: State | None = None,
    entity: str | None = None,
    rule: str | None = None,
    destination: str | None = None,
    since: datetime | None = None,
    before: str | None = None,
    limit: int,
) -> Page[Delivery]:
    """Read deliveries, those of the newest change first.

    Args:
        tx: The transaction.
        state: Only those that stand there.
        entity: Only those of the entity with this identifier.
        rule: Only those of this rule.
        destination: Only those for this destination.
        since: Only those that were stored at or after this time, UTC.
        before: A page's `next`.
        limit: How many at most.

    Raises:
        ValueError: No page has given `before`.
    """
    change, _, delivery = (before or f"{LAST}.{LAST}").partition(".")
    start = (LAST, LAST) if before is None else (number_of(change), number_of(delivery))
    values: list[object] = [*start, limit + 1]
    where = f"(change_id, deliveries.id) < ($1, $2) AND {SHOWN}"
    if state is not None:
        where += " AND state = $4"
        values.append(str(State.PENDING if state is State.ON_HOLD else state))
    if state in (State.ON_HOLD, State.PENDING):
        where += f" AND on_hold IS {'NOT NULL' if state is State.ON_HOLD else 'NULL'}"
    wanted = {
        "changes.entity =": entity,
        "deliveries.rule =": rule,
        "deliveries.destination =": destination,
        "deliveries.created_at >=": micros_or_none(since),
    }
    for compared, value in wanted.items():
        if value is not None:
            values.append(value)
            where += f" AND {compared} ${len(values)}"
    rows = await tx.fetch(
        f"{DELIVERY} WHERE {where} ORDER BY change_id DESC, deliveries.id DESC LIMIT $3", *values
    )
    return page_of(rows, limit, _delivery_of, lambda last: f"{last.change_id}.{last.id}")


async def deliveries_of(tx: Transaction, changes: Sequence[int]) -> list[Delivery]:
    """Read the deliveries of changes, by their numbers, reports to Port too; oldest first."""
    rows = await tx.fetch(
        f"{DELIVERY} WHERE change_id = ANY($1) AND ({SHOWN} OR kind = 'report') ORDER BY deliveries.id",
        list(changes),
    )
    return [_delivery_of(row) for row in rows]


async def alerts_of(tx: Transaction, incidents: Sequence[str], now: datetime) -> dict[str, list[Delivery]]:
    """Read, for each incident by id, the alert that counts in each of its queues: who was told, and how.

    It is the last one that was due at a time, UTC; before the first was, the next that will be.
    """
    rows = await tx.fetch(
        f"{DELIVERY} WHERE deliveries.id IN (SELECT coalesce("
        "  max(CASE WHEN state <> 'pending' OR due_at <= $2 THEN id END), min(id)) FROM deliveries"
        "  WHERE incident_id = ANY($1) AND kind = 'alert' AND state <> 'cancelled'"
        "  GROUP BY incident_id, queue) ORDER BY queue",
        list(incidents),
        to_micros(now),
    )
    found: dict[str, list[Delivery]] = {}
    for row in map(_delivery_of, rows):
        found.setdefault(row.incident_id or "", []).append(row)
    return found


async def delivery(tx: Transaction, number: int) -> Delivery | None:
    """Read one delivery."""
    row = await tx.fetch_row(f"{DELIVERY} WHERE deliveries.id = $1", number)
    return _delivery_of(row) if row else None


async def attempts(tx: Transaction, numbers: Sequence[int]) -> dict[int, list[DeliveryAttempt]]:
    """Read every attempt of deliveries, by their numbers, oldest first; what was not tried is left out."""
    rows = await tx.fetch(
        "SELECT delivery_id, outcome, detail, started_at, ended_at FROM attempts"
        " WHERE delivery_id = ANY($1) ORDER BY id",
        list(numbers),
    )
    tried: dict[int, list[DeliveryAttempt]] = {}
    for id_, outcome, detail, *times in rows:
        attempt = DeliveryAttempt(Outcome(outcome), detail, *map(from_micros, times))
        tried.setdefault(id_, []).append(attempt)
    return tried


async def queues(tx: Transaction, now: datetime) -> list[QueueState]:
    """Read how every queue is at a time, UTC; by name. A quiet one of the catalog's is forgotten."""
    at, quiet = to_micros(now), to_micros(now - FORGOTTEN_AFTER)
    rows = await tx.fetch(
        "SELECT name, destination,"
        f"  (SELECT count(*) FROM deliveries WHERE {DUE_IN_QUEUE}),"
        f"  (SELECT waiting_since FROM deliveries WHERE {DUE_IN_QUEUE} ORDER BY id LIMIT 1),"
        "  on_hold, failures, next_at, delivered_at,"
        "  (SELECT detail FROM attempts WHERE delivery_id = ("
        f"   SELECT min(id) FROM deliveries WHERE {DUE_IN_QUEUE}) ORDER BY id DESC LIMIT 1),"
        "  holder IS NOT NULL AND lease_until > $1 FROM queues"
        " WHERE next_at = 0 OR next_at >= $2 OR NOT (name LIKE '#%' OR name LIKE '@%')"
        f"  OR EXISTS (SELECT 1 FROM deliveries WHERE {DUE_IN_QUEUE}) ORDER BY name",
        at,
        quiet,
    )
    states = []
    for name, destination, waiting, oldest_at, on_hold, failures, *times, detail, sending in rows:
        next_at, delivered_at = times
        told, untold = await _who_was_told(tx, name, at) if on_hold is not None and waiting else ((), 0)
        states.append(
            QueueState(
                name,
                destination,
                waiting,
                time_or_none(oldest_at),
                on_hold,
                failures,
                from_micros(next_at),
                time_or_none(delivered_at),
                detail or "",
                bool(sending),
                told,
                untold,
            )
        )
    return states


async def _who_was_told(tx: Transaction, queue: str, now: Micros) -> tuple[tuple[str, ...], int]:
    """Read which destinations got alerts that wait in a queue, and how many of these nobody got."""
    rows = await tx.fetch(
        "SELECT other.destination, count(*) FROM deliveries AS waits LEFT JOIN deliveries AS other"
        "   ON other.change_id = waits.change_id AND other.rule = waits.rule AND other.step = waits.step"
        "   AND other.queue <> waits.queue AND other.state = 'delivered'"
        " WHERE waits.queue = $1 AND waits.state = 'pending' AND waits.due_at <= $2"
        "   AND waits.kind = 'alert' AND waits.rule <> '' GROUP BY 1",
        queue,
        now,
    )
    told = sorted(destination for destination, _ in rows if destination is not None)
    untold = sum(number for destination, number in rows if destination is None)
    return tuple(told), untold


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
        notification = notification_of(text)
        if notification is not None and notification.step not in (Step.NOTICE, *STILL):
            first.setdefault((change_id, notification.rule), notification)
    return sorted(first.values(), key=lambda notification: notification.at)


def _delivery_of(row: Row) -> Delivery:
    """Read a row of `DELIVERY`. What waits in a queue on hold is shown as on hold."""
    (id_, change_id, key, incident_id, queue, destination, state, on_hold, *rest) = row
    notification, created_at, ended_at, next_at, attempts_, detail = rest
    waits = state == State.PENDING
    quiet = waits and next_at >= UNTIL_RELEASED
    held_back = waits and on_hold is not None
    return Delivery(
        id=id_,
        change_id=change_id,
        change_key=key,
        incident_id=incident_id,
        queue=queue,
        destination=destination,
        state=State.ON_HOLD if held_back else State(state),
        notification=notification_of(notification) or _unreadable(),
        created_at=from_micros(created_at),
        ended_at=time_or_none(ended_at),
        attempts=attempts_,
        detail=QUIET_DETAIL if quiet else (on_hold if held_back else detail) or "",
        next_at=from_micros(next_at) if waits and not quiet else None,
    )


def _unreadable() -> Notification:
    return Notification(
        step=Step.NOTICED, rule="", blueprint="", entity="?", title=UNREADABLE, change=None, at=EPOCH
    )
