"""Silences: added, changed, ended, and settled once they have ended."""

import json
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import takewhile

from app.model.delivery import Outcome
from app.model.digest import STILL, is_over
from app.model.hours import held
from app.model.incident import ALL_STEPS, Step
from app.model.notification import Notification
from app.model.silence import Silence, SilencePreview
from app.model.times import from_micros, micros_or_none, to_micros
from app.store.clock import END_HOURS
from app.store.columns import acknowledgement_of, told_of
from app.store.queries import deliveries, incidents, messages, reports
from app.store.rows import notification_json, notification_of
from app.store.transaction import Row, Transaction

ESCAPED = re.compile(r"\[([*?[])\]")
"""A character in a pattern that stands for itself, as `glob.escape` writes it."""
PREVIEWED = timedelta(hours=24)
MOST_PREVIEWED = 20_000
"""Of so many open incidents, and of so many entities with alerts, a preview looks at the first."""
SILENCE = "id, rule, blueprint, entity, team, starts_at, ends_at, author, comment, incident_id"
BEHIND = (
    "SELECT true FROM deliveries AS later WHERE later.incident_id = deliveries.incident_id"
    " AND later.queue = deliveries.queue AND later.id > deliveries.id AND later.state = 'pending' LIMIT 1"
)
"""Whether something waits after an alert, of its incident and for its queue."""
HEARD = (
    "(state = 'delivered' OR (state = 'silenced' AND sent_at IS NOT NULL"
    " AND step NOT IN ('resolved', 'settled', 'noticed')))"
)
"""Whether a place has heard an alert, or may have; of an end that it may have heard it is told again."""
ENDED_WITH_INCIDENT = (
    "incident_id IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM incidents WHERE incidents.id = incident_id AND resolved_at IS NULL)"
)


async def add(tx: Transaction, silence: Silence) -> int:
    """Store a silence, and give its number."""
    number: int = await tx.fetch_value(
        f"INSERT INTO silences ({SILENCE.removeprefix('id, ')})"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
        *(silence.rule, silence.blueprint, silence.entity, silence.team),
        *(to_micros(silence.starts_at), to_micros(silence.ends_at)),
        *(silence.author, silence.comment, silence.incident_id),
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
    count = "SELECT count(*) FROM deliveries WHERE silence_id = silences.id"
    query = f"SELECT {SILENCE}, ({count}) FROM silences WHERE ends_at > $1 AND hours = '' ORDER BY id DESC"
    rows = await tx.fetch(query, -1 if active_at is None else to_micros(active_at))
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


async def of_hours(tx: Transaction, name: str, begin: datetime) -> int:
    """Give the number of what keeps alerts until hours begin, by their name and that time, UTC.

    It silences nothing by itself: it has no patterns, and begins as it ends.
    """
    at = to_micros(begin)
    same = "SELECT id FROM silences WHERE hours = $1 AND ends_at = $2 AND NOT settled"
    number: int | None = await tx.fetch_value(same, name, at)
    if number is None:
        number = await tx.fetch_value(
            "INSERT INTO silences (rule, blueprint, entity, team, starts_at, ends_at, author, comment, hours)"
            " VALUES ('', '', '', '', $1, $1, '', '', $2) RETURNING id",
            at,
            name,
        )
    return number or 0


async def end_hours(tx: Transaction, now: datetime) -> None:
    """Let what waits for hours be looked at again: they may be others in the rules in force."""
    await tx.execute(END_HOURS, to_micros(now))


async def settled(tx: Transaction, numbers: Collection[int]) -> set[int]:
    """Give those of some silences that are settled; no other of them is until this transaction has ended."""
    await tx.lock_rows("silences", list(numbers), shared=True)
    rows = await tx.fetch("SELECT id FROM silences WHERE id = ANY($1) AND settled", list(numbers))
    return {number for (number,) in rows}


async def settle(tx: Transaction, now: datetime) -> None:
    """Alert once on what silences that have ended suppressed: what is open, and the end of what was told."""
    ended = await tx.fetch(
        "SELECT id, hours, rule, blueprint, entity FROM silences"
        f" WHERE NOT settled AND (ends_at <= $1 OR {ENDED_WITH_INCIDENT}) ORDER BY id FOR UPDATE SKIP LOCKED",
        to_micros(now),
    )
    for number, hours, *about in ended:
        if hours:  # what belongs to no incident is as much news as it was
            loose = "silence_id = $2 AND state = 'silenced' AND incident_id IS NULL"
            again = f"{deliveries.AGAIN} WHERE {loose} RETURNING id, CAST($3 AS text), notification"
            rows = await tx.fetch(again, to_micros(now), number, hours)
            await deliveries.rewrite_rows(tx, rows, held)
        # The last alert of each incident and queue, unless something later went out.
        rows = await tx.fetch(
            "SELECT deliveries.id, deliveries.notification, heard.notification, resolved_at IS NULL,"
            "  incidents.id, incidents.entity, told, deliveries.queue, acknowledged_at, acknowledged_by"
            "  FROM (SELECT max(kept.id) AS kept_id,"
            "   (SELECT max(id) FROM deliveries AS sent WHERE sent.incident_id = kept.incident_id"
            f"     AND sent.queue = kept.queue AND {HEARD}) AS heard_id"
            "   FROM deliveries AS kept WHERE silence_id = $1 AND kept.state = 'silenced'"
            "   AND NOT EXISTS (SELECT 1 FROM deliveries AS later WHERE later.incident_id = kept.incident_id"
            "     AND later.queue = kept.queue AND later.id > kept.id"
            "     AND (later.state IN ('delivered', 'silenced') OR (later.state = 'pending'"
            "      AND kept.step = 'escalated' AND later.step = 'escalated' AND later.due_at <= $2)))"
            "   GROUP BY kept.incident_id, kept.queue) AS suppressed"
            " JOIN deliveries ON deliveries.id = kept_id"
            " JOIN incidents ON incidents.id = deliveries.incident_id"
            " LEFT JOIN deliveries AS heard ON heard.id = heard_id"
            f" WHERE resolved_at IS NULL OR heard_id IS NOT NULL OR EXISTS ({BEHIND}) ORDER BY deliveries.id",
            number,
            to_micros(now),
        )
        for delivery_id, text, heard, is_open, incident_id, entity, places, queue, *person in rows:
            knows = heard is not None and not ((told := notification_of(heard)) and is_over(told))
            if (kept := notification_of(text)) is None:  # it is given up when its turn comes
                await tx.execute(f"{deliveries.AGAIN} WHERE id = $2", to_micros(now), delivery_id)
                continue
            said = kept.named(entity).but(acknowledged=acknowledgement_of(*person))
            if not (is_open or knows):  # of the trouble: its end is no news, whenever it came
                await _keep_back(tx, incident_id, queue, number, now)
                continue
            if (news := _news(said, knows, is_open, hours)) is None:
                continue
            if is_open and not hours and not is_over(news):  # one that is open again ended first
                news = _reminder(news, knows, places, queue, now)
            await tx.execute(
                # An escalation is found by its time again, when an acknowledgement is taken back.
                f"{deliveries.AGAIN}, due_at = CASE WHEN step = 'escalated' THEN due_at ELSE 0 END,"
                " step = $2, notification = $3 WHERE id = $4",
                to_micros(now),
                news.step,
                notification_json(news),
                delivery_id,
            )
        await tx.execute(
            "UPDATE silences SET settled = true, ends_at = CASE WHEN ends_at < $2 THEN ends_at ELSE $2 END"
            " WHERE id = $1",
            *(number, to_micros(now)),
        )
        await _refresh(tx, about, now)


def _news(said: Notification, knows: bool, is_open: bool, hours: str) -> Notification | None:
    """Give what is said of an incident after a silence, or when hours begin; None: it is no news."""
    if hours:
        said = held(hours, said, None if knows else said.opened_at)
    if is_over(said):
        return said if knows else None
    asks = said.step is Step.ESCALATED or (knows and (not hours or said.step in STILL))
    if not is_open or (said.acknowledged and asks):  # for somebody, and here somebody is
        return None
    return said.but(step=Step.OPENED) if hours and not (knows or said.step is Step.ESCALATED) else said


async def _keep_back(tx: Transaction, incident_id: str, queue: str, number: int, now: datetime) -> None:
    """Let a silence that has ended cover the end of an incident, where a queue was told of no trouble."""
    rows = await tx.fetch(
        # At once: what is being sent is one or the other. While it flaps, it may be back at any moment.
        "SELECT id, state, notification FROM deliveries WHERE incident_id = $1 AND queue = $2"
        f" AND ({HEARD} OR {tx.waits})"
        " AND NOT (SELECT flapping FROM incidents WHERE incidents.id = $1) ORDER BY id",
        *(incident_id, queue),
    )
    told = [row for row in rows if row[1] != "pending"]
    if told and not _is_end(told[-1]):
        return
    ends = takewhile(_is_end, (row for row in rows if row[1] == "pending"))  # what began again is told
    waiting, at = [row[0] for row in ends], to_micros(now)
    free = f"SELECT id FROM deliveries WHERE id = ANY($1) AND {tx.waits} ORDER BY id FOR UPDATE SKIP LOCKED"
    ids = [name for (name,) in await tx.fetch(free, waiting)]  # what is just being written down was sent
    await deliveries.put_attempts(tx, ids, Outcome.SILENCED, "over before it could be told", at, at)
    await tx.execute("UPDATE deliveries SET silence_id = $1 WHERE id = ANY($2)", number, ids)
    await reports.announce(tx, ids, at)


def _is_end(row: Row) -> bool:
    return (alert := notification_of(row[2])) is not None and is_over(alert)


async def _refresh(tx: Transaction, patterns: Sequence[str], now: datetime) -> None:
    """Update the messages of an open incident whose silence has ended: they show it."""
    for (name,) in await tx.fetch(
        "SELECT id FROM incidents WHERE resolved_at IS NULL AND rule = $1 AND blueprint = $2 AND entity = $3",
        *(ESCAPED.sub(r"\1", pattern) for pattern in patterns),
    ):
        await messages.refresh(tx, name, to_micros(now))


def _reminder(said: Notification, knows: bool, places: str, queue: str, now: datetime) -> Notification:
    """Make what is said after a silence: a reminder; a job that takes none is told as it would have been."""
    steps = next((place.steps for place in told_of(places) if place.queue == queue), ALL_STEPS)
    if said.step is Step.ESCALATED:
        return said.but(at=now)
    if Step.REMINDED in steps:
        return said.but(step=Step.REMINDED, at=now)
    return said.but(step=Step.OPENED) if not knows and Step.OPENED in steps else said


def _silence_of(row: Row) -> Silence:
    number, rule, blueprint, entity, team, starts_at, ends_at, author, comment, incident_id, silenced = row
    times = from_micros(starts_at), from_micros(ends_at)
    return Silence(rule, blueprint, entity, team, *times, author, comment, number, silenced, incident_id)
