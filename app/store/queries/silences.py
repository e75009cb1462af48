"""The SQL of silences, each function a part of one transaction on the connection given."""

from collections.abc import Iterable
from datetime import datetime

from app.model.incident import Step
from app.model.notification import Notification
from app.model.silence import Silence
from app.store.columns import silence_from, silence_values, to_micros
from app.store.transaction import Session


async def add(db: Session, silence: Silence) -> int:
    """Write a silence, and return its number."""
    number: int = await db.fetchval(
        "INSERT INTO silences (rule, blueprint, entity, team, starts_at, ends_at, author, comment)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
        *silence_values(silence),
    )
    return number


async def select(db: Session, *, active_at: datetime) -> list[Silence]:
    """Return the silences that are active at a time; how much they have silenced is not counted."""
    rows = await db.fetch(
        "SELECT id, rule, blueprint, entity, team, starts_at, ends_at, author, comment, 0 FROM silences"
        " WHERE NOT settled AND ends_at > $1 AND starts_at <= $1",
        to_micros(active_at),
    )
    return [silence_from(*row) for row in rows]


async def listed(db: Session, active_at: datetime | None) -> list[Silence]:
    """Return the silences that have not ended at a time, or all, newest first."""
    rows = await db.fetch(
        "SELECT id, rule, blueprint, entity, team, starts_at, ends_at, author, comment,"
        "  (SELECT count(*) FROM deliveries WHERE silence_id = silences.id)"
        " FROM silences WHERE ends_at > $1 ORDER BY id DESC",
        -1 if active_at is None else to_micros(active_at),
    )
    return [silence_from(*row) for row in rows]


async def end(db: Session, number: int, now: datetime) -> bool:
    """Let a silence end; False if there is none of this number that has not ended."""
    ended = await db.fetchval(
        "UPDATE silences SET ends_at = $1, starts_at = least(starts_at, $1) WHERE id = $2 AND ends_at > $1"
        " RETURNING true",
        to_micros(now),
        number,
    )
    return bool(ended)


async def ended_among(db: Session, numbers: Iterable[int]) -> set[int]:
    """Return which of some silences have ended, and are settled; no other is until we have committed."""
    rows = await db.fetch(
        "SELECT id, settled FROM silences WHERE id = ANY($1) ORDER BY id FOR SHARE", list(numbers)
    )
    return {number for number, settled in rows if settled}


async def settle(db: Session, now: datetime) -> None:
    """Let what is still open be told, once, of what silences that have ended kept back."""
    ended = await db.fetch(
        "SELECT id FROM silences WHERE NOT settled AND ends_at <= $1 FOR UPDATE SKIP LOCKED", to_micros(now)
    )
    for (number,) in ended:
        # The last alert of each open incident and queue, unless something later was told.
        told = await db.fetch(
            "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = 0, waiting_since = $1"
            " WHERE id IN ("
            "  SELECT max(kept.id) FROM deliveries AS kept JOIN incidents ON incidents.id = incident_id"
            "  WHERE silence_id = $2 AND kept.state = 'silenced' AND resolved_at IS NULL"
            "  AND NOT EXISTS (SELECT 1 FROM deliveries AS later WHERE later.incident_id = kept.incident_id"
            "    AND later.queue = kept.queue AND later.id > kept.id"
            "    AND later.state IN ('delivered', 'silenced'))"
            "  GROUP BY incident_id, kept.queue) RETURNING id, notification",
            to_micros(now),
            number,
        )
        for delivery, text in told:
            again = Notification.model_validate_json(text).model_copy(
                update={"step": Step.REMINDED, "at": now}
            )
            await db.execute(
                "UPDATE deliveries SET notification = $1 WHERE id = $2", again.model_dump_json(), delivery
            )
        await db.execute("UPDATE silences SET settled = true WHERE id = $1", number)
