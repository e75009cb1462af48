"""Alerts of a destination on hold, for its fallback: each once, marked, and to the end of its incident."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from app.model.incident import CATALOG_QUEUES, Route, Step, place_of
from app.model.notification import Notification
from app.model.times import Micros, to_micros
from app.store.columns import told_json
from app.store.queries import deliveries, messages
from app.store.queries.accept import INCIDENT, incident_of
from app.store.rows import Attempt, Claim, NewDelivery, notification_json, notification_of
from app.store.transaction import Row, Transaction

COPIES_AT_ONCE = 100
"""How many are copied in one transaction: a backlog must not keep what comes in waiting."""
UNCOPIED = "state = 'pending' AND copied_at IS NULL"
# An alert that the fallback gets by the rules, or got for another destination already, is the same one.
KNOWN = (
    "SELECT 1 FROM deliveries WHERE change_id = $1 AND (queue = $2 OR destination = $7) AND rule = $3"
    " AND step = $4 AND created_at = $5 AND incident_id IS NOT DISTINCT FROM CAST($6 AS text)"
)
# Each place that a rule reminds goes on by itself, from when it was reminded last.
REMINDED = (
    "SELECT 1 FROM deliveries WHERE incident_id = $1 AND (queue = $2 OR destination = $3)"
    " AND repeat_after IS NOT NULL AND state <> 'cancelled' LIMIT 1"
)

# A job destination has several queues. Where one is on hold, what waits in another for its next attempt waits
# for the same broken receiver. But each channel that the catalog names is one of its own.
BROKEN = (
    "SELECT name, NULL, on_hold FROM queues WHERE on_hold IS NOT NULL"
    " UNION ALL SELECT resting.name, resting.destination, min(broken.on_hold) FROM queues AS broken"
    " JOIN queues AS resting ON resting.destination = broken.destination"
    " WHERE broken.on_hold IS NOT NULL AND broken.name NOT LIKE '%' || $1"
    f"  AND NOT (substr(resting.name, 1, 1) IN {CATALOG_QUEUES})"
    "  AND resting.on_hold IS NULL AND resting.next_at > $2"
    " GROUP BY resting.name, resting.destination ORDER BY 1"
)


async def copy_on_hold(tx: Transaction, routes: Mapping[str, Route], now: datetime) -> None:
    """Copy what waits for destinations on hold, and was not copied yet, into the queues of the fallbacks.

    From then on the fallback is told of the incident to its end, as every place is that was told.

    Args:
        tx: The transaction.
        routes: The fallback's route, by the name of the destination.
        now: The time, UTC.
    """
    if not routes:
        return
    waiting: list[tuple[str, Sequence[Row]]] = []
    for queue, destination, reason in await tx.fetch(BROKEN, messages.UPDATES, to_micros(now)):
        found = await tx.fetch(
            f"SELECT id, incident_id FROM deliveries WHERE queue = $1 AND due_at <= $2 AND {UNCOPIED}"
            " AND kind = 'alert' AND rule <> '' AND destination = ANY($3) ORDER BY id LIMIT $4",
            queue,
            to_micros(now),
            list(routes) if destination is None else [destination],
            COPIES_AT_ONCE,
        )
        if found:
            waiting.append((reason, found))
    # Incidents first, as everywhere, and of all queues at once: who decides of them must see whom we tell.
    incidents = {incident for _, pairs in waiting for _, incident in pairs if incident is not None}
    if incidents:
        await tx.lock_rows("incidents", sorted(incidents))
    for reason, pairs in waiting:
        rows = await tx.fetch(
            f"SELECT id, {deliveries.COPIED}, created_at, incident_id, repeat_after FROM deliveries"
            f" WHERE id = ANY($1) AND {UNCOPIED} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
            [number for number, _ in pairs],
        )
        await _copy(tx, rows, routes, reason, to_micros(now))


async def _copy(
    tx: Transaction, rows: Sequence[Row], routes: Mapping[str, Route], why: str, now: Micros
) -> None:
    copies: list[NewDelivery] = []
    for number, *copied, created_at, incident_id, repeat_after in rows:
        change_id, queue, destination, text, rule, step, _ = copied
        route = routes[destination]
        await tx.execute("UPDATE deliveries SET copied_at = $1 WHERE id = $2", now, number)
        known = (change_id, route.queue, rule, step, created_at, incident_id, _alike(route))
        if route.queue == queue or await tx.fetch_value(KNOWN, *known):
            continue
        reminded = (incident_id, route.queue, _alike(route))
        if repeat_after is not None and step == Step.REMINDED and await tx.fetch_value(REMINDED, *reminded):
            continue
        notification = notification_of(text)
        if notification is None:  # it is given up when its turn comes
            continue
        if notification.step.of_job(ended=notification.ended) not in route.steps:
            continue
        marked = notification.but(
            instead=notification.instead or f"for {place_of(destination, queue)}, which is on hold: {why}"
        )
        await _tell_to_the_end(tx, incident_id, route)
        copies.append(
            deliveries.following(
                (change_id, route.queue, route.destination, notification_json(marked), *copied[4:]),
                now,
                # As old as the alert, so that it is known again: no two fallbacks send it to and fro.
                created_at=created_at,
                incident_id=incident_id,
            )
        )
    await deliveries.insert(tx, copies)


def _alike(route: Route) -> str:
    """Give the destination to tell by whether a place was told: a job may have been in another queue.

    It is empty, which none is called, where each queue is a place of its own.
    """
    return "" if route.queue.startswith(CATALOG_QUEUES) else route.destination


async def move(tx: Transaction, queue: str, ids: Sequence[int], route: Route, now: Micros) -> None:
    """Move alerts that wait, by their numbers, into another queue; what that has already is cancelled here.

    The other place has their incidents to the end, in the place of this one, with what has come since. The
    incidents are locked.
    """
    await deliveries.make_queues(tx, {route.queue: route.destination})
    later = await tx.fetch(
        "SELECT later.id FROM deliveries AS sent JOIN deliveries AS later"
        " ON later.incident_id = sent.incident_id WHERE sent.id = ANY($1) AND later.queue = $2",
        *(list(ids), queue),
    )
    rows = await tx.fetch(
        "SELECT id, change_id, rule, step, created_at, incident_id, notification FROM deliveries"
        " WHERE id = ANY($1) AND state = 'pending' ORDER BY id",
        [*{*ids, *(number for (number,) in later)}],
    )
    for number, change_id, rule, step, created_at, incident_id, text in rows:
        known = (change_id, route.queue, rule, step, created_at, incident_id, _alike(route))
        notification = Notification.read(text).but(instead=route.why)
        await _tell_to_the_end(tx, incident_id, route, instead_of=queue)
        if (
            await tx.fetch_value(KNOWN, *known)
            or notification.step.of_job(ended=notification.ended) not in route.steps
        ):
            await tx.execute(
                "UPDATE deliveries SET state = 'cancelled', ended_at = $1 WHERE id = $2", now, number
            )
            continue
        await tx.execute(
            "UPDATE deliveries SET queue = $1, destination = $2, notification = $3 WHERE id = $4",
            route.queue,
            route.destination,
            notification_json(notification),
            number,
        )


async def _tell_to_the_end(
    tx: Transaction, incident_id: str | None, route: Route, *, instead_of: str = ""
) -> None:
    row = await tx.fetch_row(
        f"SELECT {INCIDENT} FROM incidents WHERE id = $1 AND resolved_at IS NULL", incident_id
    )
    if row is None:
        return
    before = incident_of(row)
    kept = tuple(place for place in before.told if place.queue != instead_of)
    told = replace(before, told=kept).reaching(route).told
    if told != before.told:
        await tx.execute("UPDATE incidents SET told = $1 WHERE id = $2", told_json(told), incident_id)


async def notify(tx: Transaction, claim: Claim, attempt: Attempt, now: Micros) -> None:
    """Tell the fallback that a destination is on hold, once for all its queues."""
    others = await tx.fetch_value(
        "SELECT 1 FROM queues WHERE destination = $1 AND on_hold IS NOT NULL AND name NOT IN ($2, $3)",
        claim.destination,
        claim.queue,
        claim.queue + messages.UPDATES,
    )
    if others or attempt.notice is None:
        return
    first = claim.deliveries[0].id
    change_id = await tx.fetch_value("SELECT change_id FROM deliveries WHERE id = $1", first)
    await deliveries.insert(tx, [deliveries.of_alert(attempt.notice, change_id, now)])
