"""Deliveries: written, tried, cancelled, retried, reminded of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from app.model.delivery import Alert, Outcome, State
from app.model.incident import Step
from app.model.notification import Notification
from app.model.times import MICRO, Micros, micros_or_none, to_micros
from app.store.columns import UNTIL_RELEASED
from app.store.rows import NewDelivery, notification_json, notification_of
from app.store.transaction import Columns, Row, Transaction

DELIVERY_COLUMNS: Columns = {
    name: "text" if str in (kind, *get_args(kind)) else "bigint"
    for name, kind in NewDelivery.__annotations__.items()
}
AGAIN = "UPDATE deliveries SET state = 'pending', ended_at = NULL, waiting_since = $1"
"""Lets deliveries that had ended wait again; their patience counts from a time."""
PENDING, CANCELLED = State.PENDING.value, State.CANCELLED.value
COPIED = "change_id, queue, destination, notification, rule, step, severity"
"""What a delivery that follows another has from it: the first columns of `NewDelivery`."""


def of_alert(alert: Alert, change_id: int, now: Micros, *, ended_at: Micros | None = None) -> NewDelivery:
    """Make the delivery of an alert.

    Args:
        alert: The alert.
        change_id: The number of the change that led to it.
        now: When it is stored.
        ended_at: Since when it is cancelled already; None: it is pending.
    """
    due_at, notification = micros_or_none(alert.due_at) or Micros(0), alert.notification
    return NewDelivery(
        change_id,
        alert.queue,
        alert.destination,
        notification_json(notification),
        notification.rule,
        notification.step,
        notification.severity,
        now,
        max(now, due_at),
        due_at=due_at,
        incident_id=alert.incident_id,
        repeat_after=None if alert.repeat is None else alert.repeat // MICRO,
        state=PENDING if ended_at is None else CANCELLED,
        ended_at=ended_at,
    )


def following(copied: Sequence[Any], now: Micros, **fields: Any) -> NewDelivery:
    """Make a delivery that follows another one, in the same words.

    Args:
        copied: The columns `COPIED` of the other one.
        now: When it is stored.
        fields: What differs.
    """
    change_id, queue, destination, notification, rule, step, severity = copied
    return NewDelivery(change_id, queue, destination, notification, rule, step, severity, now, now)._replace(
        **fields
    )


async def insert(tx: Transaction, deliveries: Sequence[NewDelivery]) -> None:
    """Write deliveries in their order, and make the queues that there are not yet."""
    if deliveries:
        await make_queues(tx, {delivery.queue: delivery.destination for delivery in deliveries})
        await tx.insert_many("deliveries", DELIVERY_COLUMNS, deliveries)


async def make_queues(tx: Transaction, destinations: Mapping[str, str]) -> None:
    """Make queues, by name with their destination, as far as there are none of these names."""
    await tx.execute_many(
        # Looked for first: to find a conflict is to wait for who has just written there. Locked: it stays.
        "INSERT INTO queues (name, destination) SELECT $1, $2"
        " WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = $1 FOR KEY SHARE)"
        " ON CONFLICT (name) DO NOTHING",
        sorted(destinations.items()),
    )


async def tell_once(
    tx: Transaction, alerts: Sequence[Alert], *, change_key: str, begins: str, since: datetime, now: datetime
) -> bool:
    """Write notices about a rule, unless one that begins alike was written since a time.

    The result tells whether they were written.

    Args:
        tx: The transaction.
        alerts: The notices, with the same text; one at least.
        change_key: The change that they belong to.
        begins: What their text begins with.
        since: The time, UTC.
        now: The time, UTC.
    """
    rule = alerts[0].notification.rule
    await tx.lock({("", rule)})  # else two processes would both find none
    rows = await tx.fetch(
        "SELECT notification FROM deliveries WHERE rule = $1 AND step = 'notice' AND created_at >= $2"
        " AND change_id >= (SELECT min(id) FROM changes WHERE received_at >= $2)",
        rule,
        to_micros(since),
    )
    change_id = await tx.fetch_value("SELECT id FROM changes WHERE key = $1", change_key)
    earlier = filter(None, (notification_of(text) for (text,) in rows))
    if change_id is None or any(notice.title.startswith(begins) for notice in earlier):
        return False
    await insert(tx, [of_alert(alert, change_id, to_micros(now)) for alert in alerts])
    return True


async def cancel_later(tx: Transaction, incidents: Mapping[str, Micros]) -> list[int]:
    """Cancel what was to be sent later of incidents, by id, each from a time on; return its numbers.

    What was never to wait stays.
    """
    # Few incidents have any: one query finds out, where an update of each would cost a trip of its own.
    rows = await tx.fetch_each(
        f"SELECT id, $2 AS since FROM deliveries {tx.later_index} WHERE incident_id = $1 AND {tx.waits}"
        " AND (due_at > 0 OR repeat_after IS NOT NULL) AND (due_at > $2 OR repeat_after IS NOT NULL)",
        ("text", "bigint"),
        list(incidents.items()),
    )
    if rows:
        await tx.execute_many(
            "UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE id = $1 AND state = 'pending'",
            rows,
        )
    return [number for number, _ in rows]


async def rewrite(
    tx: Transaction, incidents: Iterable[str], new: Callable[[str, Notification], Notification]
) -> None:
    """Let what waits of incidents, by id, say something else; `new` makes it of the id and what it says."""
    rows = await tx.fetch(
        # `|| ''`: by the incident; by the state SQLite would read all that waits anywhere.
        "SELECT id, incident_id, notification FROM deliveries WHERE incident_id = ANY($1)"
        " AND state || '' = 'pending' AND kind = 'alert' ORDER BY id",
        sorted(incidents),
    )
    await rewrite_rows(tx, rows, new)


async def rewrite_rows(
    tx: Transaction, rows: Sequence[Row], new: Callable[[str, Notification], Notification]
) -> None:
    """Do the same with rows: a delivery's number, what else `new` is given, and what it says."""
    rewritten = [
        (number, notification_json(new(incident_id, said)))
        for number, incident_id, text in rows
        if (said := notification_of(text))  # else it is given up when its turn comes
    ]
    await tx.execute_many(
        "UPDATE deliveries SET notification = $2 WHERE id = $1 AND state = 'pending'", rewritten
    )


async def put_attempts(
    tx: Transaction, ids: Sequence[int], outcome: Outcome, detail: str, started_at: Micros, ended_at: Micros
) -> list[str]:
    """Write how an attempt at deliveries ended; give the incidents, by id, that became quiet meanwhile.

    Args:
        tx: The transaction.
        ids: The deliveries' numbers.
        outcome: How it ended.
        detail: What the destination said, or the reason.
        started_at: When it began.
        ended_at: When it ended.
    """
    if not ids:
        return []
    await tx.execute(
        "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
        " SELECT id, $2, $3, $4, $5 FROM deliveries WHERE id = ANY($1)",
        list(ids),
        outcome,
        detail,
        started_at,
        ended_at,
    )
    if outcome in (Outcome.DELIVERED, Outcome.DEAD, Outcome.SILENCED):
        update = "UPDATE deliveries SET state = $2, ended_at = $3 WHERE id = ANY($1)"
        rows = await tx.fetch(f"{update} RETURNING incident_id, due_at", list(ids), outcome, ended_at)
        return [incident_id for incident_id, due_at in rows if due_at >= UNTIL_RELEASED]
    return []


async def put_reminders(tx: Transaction, ids: Sequence[int], now: datetime) -> None:
    """Write the next reminder after each of these deliveries that is one, as long as its incident is open."""
    reminders = await tx.fetch(
        "SELECT id FROM deliveries WHERE id = ANY($1) AND repeat_after IS NOT NULL AND step <> 'escalated'",
        list(ids),
    )
    if not reminders:  # as nearly always; what follows takes long for a thousand, and keeps accepting waiting
        return
    rows = await tx.fetch(
        # Of an incident and a queue one at a time.
        f"SELECT {COPIED}, incident_id, repeat_after FROM deliveries WHERE id IN ("
        "  SELECT min(sent.id) FROM deliveries AS sent JOIN incidents ON incidents.id = incident_id"
        "  WHERE sent.id = ANY($1) AND resolved_at IS NULL AND acknowledged_at IS NULL AND NOT EXISTS ("
        "    SELECT 1 FROM deliveries WHERE incident_id = sent.incident_id AND queue = sent.queue"
        f"   AND {tx.waits} AND repeat_after IS NOT NULL)"
        "  GROUP BY sent.incident_id, sent.queue) ORDER BY id",
        [number for (number,) in reminders],
    )
    again = []
    for *copied, incident_id, after in rows:
        due_at = now + timedelta(microseconds=after)
        times = {"waiting_since": to_micros(due_at), "due_at": to_micros(due_at), "repeat_after": after}
        # What was held may have gone out as a beginning; to be repeated, it is none.
        reminder = following(copied, to_micros(now), incident_id=incident_id, step=Step.REMINDED, **times)
        if said := notification_of(reminder.notification):
            text = notification_json(said.but(at=due_at, step=Step.REMINDED, was_quiet=""))
            again.append(reminder._replace(notification=text))
    await insert(tx, again)


async def release_hold(tx: Transaction, destination: str, now: datetime) -> int:
    """Let the queues of a destination that are on hold send at once; give how many there were."""
    rows = await tx.fetch(
        "UPDATE queues SET on_hold = NULL, failures = 0, unsure_sends = 0, next_at = $1"
        " WHERE destination = $2 AND on_hold IS NOT NULL RETURNING name",
        to_micros(now),
        destination,
    )
    # While they were on hold nothing could go out: that time does not use up the deliveries' patience.
    await tx.execute_many(
        "UPDATE deliveries SET waiting_since = $1 WHERE queue = $2 AND state = 'pending'",
        [(to_micros(now), name) for (name,) in rows],
    )
    return len(rows)


async def probe_on_hold(tx: Transaction, now: datetime) -> None:
    """Let every queue that is on hold try at once."""
    await tx.execute(
        "UPDATE queues SET next_at = $1 WHERE on_hold IS NOT NULL AND next_at > $1", to_micros(now)
    )


async def retry(
    tx: Transaction,
    *,
    now: datetime,
    ids: Iterable[int] | None = None,
    rule: str | None = None,
    destination: str | None = None,
    since: datetime | None = None,
) -> int:
    """Make dead deliveries pending again, let their queues try at once, and give how many there are.

    One of an incident of which its queue was told something newer says that it is late.

    Args:
        tx: The transaction.
        now: The time, UTC; patience counts from here again.
        ids: Only these, waiting ones too; None: all that are dead.
        rule: Only those of this rule.
        destination: Only those for this destination.
        since: Only those that died from this time on, UTC.
    """
    values: list[object] = [to_micros(now)]
    conditions = ["state = 'dead'" if ids is None else "state IN ('dead', 'pending')"]
    for condition, value in (
        ("id = ANY({})", None if ids is None else list(ids)),
        ("rule = {}", rule),
        ("destination = {}", destination),
        ("ended_at >= {}", micros_or_none(since)),
    ):
        if value is not None:
            values.append(value)
            conditions.append(condition.format(f"${len(values)}"))
    rows = await tx.fetch(
        f"{AGAIN}, due_at = CASE WHEN due_at < $1 THEN due_at ELSE $1 END"
        f" WHERE {' AND '.join(conditions)} RETURNING queue, id",
        *values,
    )
    await tx.execute(
        "UPDATE queues SET next_at = $1 WHERE name = ANY($2)", values[0], sorted({row[0] for row in rows})
    )
    overtaken = await tx.fetch(
        "SELECT id, incident_id, notification FROM deliveries WHERE id = ANY($1) AND EXISTS ("
        " SELECT 1 FROM deliveries AS newer WHERE newer.incident_id = deliveries.incident_id"
        "  AND newer.queue = deliveries.queue AND newer.change_id > deliveries.change_id"
        "  AND newer.state = 'delivered' AND newer.kind = 'alert')",
        [row[1] for row in rows],
    )
    await rewrite_rows(tx, overtaken, lambda _, said: said.but(late=True))
    return len(rows)
