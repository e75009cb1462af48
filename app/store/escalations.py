"""Escalations that are sent: from then on their places hear of the incident."""

from collections.abc import Mapping
from datetime import datetime

from app.model.incident import Route
from app.model.times import to_micros
from app.store.queries.incidents import locked, put_told
from app.store.transaction import Transaction


async def reach(tx: Transaction, escalations: Mapping[int, str], now: datetime) -> set[int]:
    """Note that escalations are sent now: from here on their places are told of the incident to its end.

    Args:
        tx: The transaction.
        escalations: The incident of each delivery, by its number.
        now: The time, UTC.

    Returns:
        The deliveries that nobody needs any more: somebody looks after the incident, or it is over.
    """
    attended = {incident.id: incident for incident in await locked(tx, sorted({*escalations.values()}))}
    rows = await tx.fetch(
        "SELECT id, incident_id, destination, queue FROM deliveries WHERE id = ANY($1)"
        f" AND {tx.waits} ORDER BY id",
        [*escalations],
    )
    needless = set(escalations)
    for number, incident_id, destination, queue in rows:
        incident = attended.get(incident_id)
        if incident is None or incident.acknowledged:
            continue
        needless.discard(number)
        place = next((place for place in incident.told if place.queue == queue), Route(destination, queue))
        attended[incident_id] = incident.reaching(place)
        await put_told(tx, attended[incident_id])
    await tx.execute(
        f"UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE id = ANY($1) AND {tx.waits}",
        sorted(needless),
        to_micros(now),
    )
    return needless
