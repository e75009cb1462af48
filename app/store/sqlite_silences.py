"""The SQL of silences, each function a part of one transaction on the connection given."""

import sqlite3
from collections.abc import Iterable
from datetime import datetime

from app.alerts.incident import Step
from app.alerts.silence import Silence
from app.store.columns import silence_from, silence_values, to_micros


def add(db: sqlite3.Connection, silence: Silence) -> int:
    """Write a silence, and return its number."""
    number = db.execute(
        "INSERT INTO silences (rule, blueprint, entity, team, starts_at, ends_at, author, comment)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        silence_values(silence),
    ).lastrowid
    return number or 0


def select(db: sqlite3.Connection, *, active_at: datetime) -> list[Silence]:
    """Return the silences that are active at a time; how much they have silenced is not counted."""
    now = to_micros(active_at)
    rows = db.execute(
        "SELECT id, rule, blueprint, entity, team, starts_at, ends_at, author, comment, 0 FROM silences"
        " WHERE NOT settled AND ends_at > ? AND starts_at <= ?",
        (now, now),
    )
    return [silence_from(*row) for row in rows]


def listed(db: sqlite3.Connection, active_at: datetime | None) -> list[Silence]:
    """Return the silences that have not ended at a time, or all, newest first."""
    rows = db.execute(
        "SELECT id, rule, blueprint, entity, team, starts_at, ends_at, author, comment,"
        "  (SELECT count(*) FROM deliveries WHERE silence_id = silences.id)"
        " FROM silences WHERE ends_at > ? ORDER BY id DESC",
        (-1 if active_at is None else to_micros(active_at),),
    )
    return [silence_from(*row) for row in rows]


def end(db: sqlite3.Connection, number: int, now: datetime) -> bool:
    """Let a silence end; False if there is none of this number that has not ended."""
    micros = to_micros(now)
    changed = db.execute(
        "UPDATE silences SET ends_at = ?, starts_at = min(starts_at, ?) WHERE id = ? AND ends_at > ?",
        (micros, micros, number, micros),
    )
    return changed.rowcount > 0


def ended_among(db: sqlite3.Connection, numbers: Iterable[int]) -> set[int]:
    """Return which of some silences have ended, and are settled: what one kept back now nobody would tell."""
    found = (db.execute("SELECT id FROM silences WHERE settled AND id = ?", (one,)) for one in numbers)
    return {number for rows in found for (number,) in rows}


def settle(db: sqlite3.Connection, now: datetime) -> None:
    """Let what is still open be told, once, of what silences that have ended kept back."""
    micros = to_micros(now)
    ended = db.execute("SELECT id FROM silences WHERE NOT settled AND ends_at <= ?", (micros,)).fetchall()
    for (number,) in ended:
        # The last alert of each open incident and lane, unless something later was told.
        db.execute(
            "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = 0, waiting_since = :now,"
            "  notification = json_set(notification, '$.step', :step, '$.at', :at)"
            " WHERE id IN ("
            "  SELECT max(kept.id) FROM deliveries AS kept JOIN incidents ON incidents.id = incident_id"
            "  WHERE silence_id = :number AND kept.state = 'silenced' AND resolved_at IS NULL"
            "  AND NOT EXISTS (SELECT 1 FROM deliveries AS later WHERE later.incident_id = kept.incident_id"
            "    AND later.lane = kept.lane AND later.id > kept.id"
            "    AND later.state IN ('delivered', 'silenced'))"
            "  GROUP BY incident_id, lane)",
            {"now": micros, "step": Step.REMINDED, "at": now.isoformat(), "number": number},
        )
        db.execute("UPDATE silences SET settled = 1 WHERE id = ?", (number,))
