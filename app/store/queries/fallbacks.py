"""Alerts of a destination on hold, for its fallback: each once, marked, and to the end of its incident."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import ValidationError

from app.model.incident import Route
from app.model.notification import Notification
from app.model.times import Micros, to_micros
from app.store.queries import deliveries
from app.store.rows import Attempt, Claim, NewDelivery
from app.store.transaction import Row, Transaction

COPIES_AT_ONCE = 100
"""How many are copied in one transaction: a backlog must not keep what comes in waiting."""
ALERT = f"SELECT id, {deliveries.COPIED}, created_at, incident_id FROM deliveries"
# An alert that the fallback gets by the rules, or got for another destination already, is the same one.
KNOWN = (
    "SELECT 1 FROM deliveries WHERE change_id = $1 AND queue = $2 AND rule = $3 AND step = $4"
    " AND created_at = $5 AND incident_id IS NOT DISTINCT FROM CAST($6 AS text)"
)


async def copy_on_hold(tx: Transaction, routes: Mapping[str, Route], now: datetime) -> None:
    """Copy what waits in queues on hold, and was not copied yet, into the queues of the fallbacks.

    Args:
        tx: The transaction.
        routes: The fallback's route, by the name of the destination.
        now: The time, UTC.
    """
    held = await tx.fetch("SELECT name, on_hold FROM queues WHERE on_hold IS NOT NULL ORDER BY name")
    for queue, reason in held if routes else ():
        rows = await tx.fetch(
            f"{ALERT} WHERE queue = $1 AND state = 'pending' AND due_at <= $2 AND copied_at IS NULL"
            " AND kind = 'alert' AND rule <> '' AND destination = ANY($3)"
            " ORDER BY id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED",
            queue,
            to_micros(now),
            list(routes),
            COPIES_AT_ONCE,
        )
        await _copy(tx, rows, routes, f"is on hold: {reason}", to_micros(now))


async def copy_later(tx: Transaction, ids: Sequence[int], route: Route, now: Micros) -> None:
    """Copy alerts that their destination has got: those of incidents of which its fallback was told before.

    Args:
        tx: The transaction.
        ids: The alerts' numbers.
        route: The fallback's route.
        now: The time.
    """
    rows = await tx.fetch(
        f"{ALERT} WHERE id = ANY($1) AND copied_at IS NULL AND kind = 'alert' AND rule <> ''"
        " AND EXISTS (SELECT 1 FROM deliveries AS before WHERE before.incident_id = deliveries.incident_id"
        "   AND before.queue = deliveries.queue AND before.copied_at IS NOT NULL)"
        " ORDER BY id",
        list(ids),
    )
    await _copy(tx, rows, {row[3]: route for row in rows}, "was on hold", now)


async def _copy(
    tx: Transaction, rows: Sequence[Row], routes: Mapping[str, Route], why: str, now: Micros
) -> None:
    copies: list[NewDelivery] = []
    for number, *copied, created_at, incident_id in rows:
        change_id, queue, destination, text, rule, step, _ = copied
        route = routes[destination]
        await tx.execute("UPDATE deliveries SET copied_at = $1 WHERE id = $2", now, number)
        known = (change_id, route.queue, rule, step, created_at, incident_id)
        if route.queue == queue or step not in route.steps or await tx.fetch_value(KNOWN, *known):
            continue
        try:
            notification = Notification.model_validate_json(text)
        except ValidationError:  # written by another release: it is given up when its turn comes
            continue
        marked = notification.model_copy(update={"instead": notification.instead or f"{destination} {why}"})
        copies.append(
            deliveries.following(
                (change_id, route.queue, route.destination, marked.model_dump_json(), *copied[4:]),
                now,
                # As old as the alert, so that it is known again: no two fallbacks send it to and fro.
                created_at=created_at,
                incident_id=incident_id,
            )
        )
    await deliveries.insert(tx, copies)


async def notify(tx: Transaction, claim: Claim, attempt: Attempt, now: Micros) -> None:
    """Tell the fallback that a destination is on hold, once for all its queues."""
    others = await tx.fetch_value(
        "SELECT 1 FROM queues WHERE destination = $1 AND on_hold IS NOT NULL AND name <> $2",
        claim.destination,
        claim.queue,
    )
    if others or attempt.notice is None:
        return
    first = claim.deliveries[0].id
    change_id = await tx.fetch_value("SELECT change_id FROM deliveries WHERE id = $1", first)
    await deliveries.insert(tx, [deliveries.of_alert(attempt.notice, change_id, now)])
