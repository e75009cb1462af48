"""Silences: added, changed, ended, and settled once they have ended."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta

from app.model.digest import is_over
from app.model.incident import ALL_STEPS, Step
from app.model.notification import Notification
from app.model.silence import Silence, SilencePreview
from app.model.times import from_micros, micros_or_none, to_micros
from app.store.queries import incidents
from app.store.queries.accept import told_of
from app.store.transaction import Row, Transaction

PREVIEWED = timedelta(hours=24)
MOST_PREVIEWED = 20_000
"""Of so many open incidents, and of so many entities with alerts, a preview looks at the first."""
SILENCE = "id, rule, blueprint, entity, team, starts_at, ends_at, author, comment"


async def add(tx: Transaction, silence: Silence) -> int:
    """Store a silence, and give its number."""
    number: int = await tx.fetch_value(
        "INSERT INTO silences (rule, blueprint, entity, team, starts_at, ends_at, author, comment)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
        silence.rule,
        silence.blueprint,
        silence.entity,
        silence.team,
        to_micros(silence.starts_at),
        to_micros(silence.ends_at),
        silence.author,
        silence.comment,
    )
    return number


async def active(tx: Transaction, now: datetime) -> list[Silence]:
    """Read the silences that are active at a time, UTC; how many alerts they have silenced is not counted."""
    rows = await tx.fetch(
        f"SELECT {SILENCE}, 0 FROM silences WHERE NOT settled AND ends_at > $1 AND starts_at <= $1"
        " ORDER BY id",
        to_micros(now),
    )
    return [_silence_of(row) for row in rows]


async def silences(tx: Transaction, *, active_at: datetime | None) -> list[Silence]:
    """Read the silences that have not ended at a time, UTC, or all there are; newest first."""
    rows = await tx.fetch(
        f"SELECT {SILENCE}, (SELECT count(*) FROM deliveries WHERE silence_id = silences.id)"
        " FROM silences WHERE ends_at > $1 ORDER BY id DESC",
        -1 if active_at is None else to_micros(active_at),
    )
    return [_silence_of(row) for row in rows]


async def preview(tx: Transaction, silence: Silence, now: datetime) -> SilencePreview:
    """Count what a silence's patterns fit: the open incidents, and the alerts of the last 24 hours."""
    rows = await incidents.worst(tx, MOST_PREVIEWED)
    alerts = await tx.fetch(
        "SELECT deliveries.rule, changes.blueprint, changes.entity, teams, count(*)"
        " FROM changes JOIN deliveries ON change_id = changes.id"
        " WHERE received_at >= $1 AND kind = 'alert' AND step <> $2"
        " GROUP BY deliveries.rule, changes.blueprint, changes.entity, teams LIMIT $3",
        to_micros(now - PREVIEWED),
        Step.NOTICE,
        MOST_PREVIEWED,
    )
    return SilencePreview(
        sum(row.last is not None and silence.covers(row.last) for row in rows),
        sum(
            number
            for rule, blueprint, entity, teams, number in alerts
            if silence.fits(rule, blueprint, entity, json.loads(teams))
        ),
    )


async def revise(
    tx: Transaction,
    number: int,
    now: datetime,
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    comment: str | None = None,
) -> Silence | None:
    """Change a silence that has not ended; None: there is none of this number.

    Args:
        tx: The transaction.
        number: Its number.
        now: The time, UTC.
        starts_at: From when on, UTC, where it has not begun; None: as it is.
        ends_at: Until when, UTC; None: as it is.
        comment: Why; None: as it is.

    Raises:
        ValueError: It would end before it begins.
    """
    row = await tx.fetch_row(
        "UPDATE silences SET ends_at = coalesce($3, ends_at), comment = coalesce($4, comment),"
        "  starts_at = CASE WHEN starts_at > $2 THEN coalesce($5, starts_at) ELSE starts_at END"
        f" WHERE id = $1 AND ends_at > $2 AND NOT settled RETURNING {SILENCE}, 0",
        number,
        to_micros(now),
        micros_or_none(ends_at),
        comment,
        micros_or_none(starts_at),
    )
    if row is None:
        return None
    silence = _silence_of(row)
    if silence.ends_at <= max(silence.starts_at, now):
        raise ValueError("a silence must end in the future, and after it begins")
    return silence


async def end(tx: Transaction, number: int, now: datetime) -> bool:
    """End a silence now, UTC; False: there is none of this number that has not ended."""
    ended = await tx.fetch_value(
        "UPDATE silences SET ends_at = $1, starts_at = CASE WHEN starts_at < $1 THEN starts_at ELSE $1 END"
        " WHERE id = $2 AND ends_at > $1 RETURNING true",
        to_micros(now),
        number,
    )
    return bool(ended)


async def settled(tx: Transaction, numbers: Collection[int]) -> set[int]:
    """Give those of some silences that are settled; no other of them is until this transaction has ended."""
    await tx.lock_rows("silences", list(numbers), shared=True)
    rows = await tx.fetch("SELECT id FROM silences WHERE id = ANY($1) AND settled", list(numbers))
    return {number for (number,) in rows}


async def settle(tx: Transaction, now: datetime) -> None:
    """Alert once on what silences that have ended suppressed: what is open, and the end of what was told."""
    ended = await tx.fetch(
        "SELECT id FROM silences WHERE NOT settled AND ends_at <= $1 ORDER BY id FOR UPDATE SKIP LOCKED",
        to_micros(now),
    )
    for (number,) in ended:
        # The last alert of each incident and queue, unless something later went out.
        rows = await tx.fetch(
            "SELECT deliveries.id, deliveries.notification, heard.notification, resolved_at IS NULL,"
            "  incidents.entity, incidents.told, deliveries.queue FROM (SELECT max(kept.id) AS kept_id,"
            "   (SELECT max(id) FROM deliveries AS sent WHERE sent.incident_id = kept.incident_id"
            "     AND sent.queue = kept.queue AND sent.state = 'delivered') AS heard_id"
            "   FROM deliveries AS kept WHERE silence_id = $1 AND kept.state = 'silenced'"
            "   AND NOT EXISTS (SELECT 1 FROM deliveries AS later WHERE later.incident_id = kept.incident_id"
            "     AND later.queue = kept.queue AND later.id > kept.id"
            "     AND later.state IN ('delivered', 'silenced'))"
            "   GROUP BY kept.incident_id, kept.queue) AS suppressed"
            " JOIN deliveries ON deliveries.id = kept_id"
            " JOIN incidents ON incidents.id = deliveries.incident_id"
            " LEFT JOIN deliveries AS heard ON heard.id = heard_id"
            " WHERE resolved_at IS NULL OR heard_id IS NOT NULL ORDER BY deliveries.id",
            number,
        )
        for delivery_id, text, heard, is_open, entity, places, queue in rows:
            reminder = Notification.model_validate_json(text).named(entity)
            if is_over(reminder):
                # Where nobody was alerted to the trouble, its end is no news.
                if heard is None or is_over(Notification.model_validate_json(heard)):
                    continue
            elif is_open:
                reminder = _reminder(reminder, heard is not None, places, queue, now)
            else:
                continue
            await tx.execute(
                "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = 0, waiting_since = $1,"
                "  step = $2, notification = $3 WHERE id = $4",
                to_micros(now),
                reminder.step,
                reminder.model_dump_json(),
                delivery_id,
            )
        await tx.execute("UPDATE silences SET settled = true WHERE id = $1", number)


def _reminder(said: Notification, heard: bool, places: str, queue: str, now: datetime) -> Notification:
    """Make what is said after a silence: a reminder; a job that takes none is told as it would have been."""
    steps = next((place.steps for place in told_of(places) if place.queue == queue), ALL_STEPS)
    if Step.REMINDED in steps:
        return said.model_copy(update={"step": Step.REMINDED, "at": now})
    begins = not heard and Step.OPENED in steps
    return said.model_copy(update={"step": Step.OPENED}) if begins else said


def _silence_of(row: Row) -> Silence:
    number, rule, blueprint, entity, team, starts_at, ends_at, author, comment, silenced = row
    times = from_micros(starts_at), from_micros(ends_at)
    return Silence(rule, blueprint, entity, team, *times, author, comment, number, silenced)
