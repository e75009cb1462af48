"""Numbers of what there is: for the page, the commands and monitoring."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.model.delivery import State
from app.model.times import to_micros
from app.store.transaction import Transaction
from app.store.views import Counts, Tally

SEEN_WITHIN = timedelta(minutes=3)
"""A process notes its connection each minute: one that has not for so long is gone."""
SOCKETS_KEPT_FOR = timedelta(days=1)

GROWING = ("changes", "attempts", "audit", "silences", "quarantine")
"""The tables to which a row is added whenever there is something new to see."""
IN_DOUBT = 1000
"""Among so many of the last numbers there may be some that are not committed yet, on PostgreSQL."""


STANDS = "CASE WHEN state = 'pending' AND on_hold IS NOT NULL THEN 'on_hold' ELSE state END"


async def by_state(tx: Transaction) -> dict[State, int]:
    """Count the alerts by where they stand."""
    rows = await tx.fetch(
        f"SELECT {STANDS}, count(*)"
        " FROM deliveries JOIN queues ON queues.name = queue WHERE kind = 'alert' GROUP BY 1"
    )
    return dict.fromkeys(State, 0) | {State(state): number for state, number in rows}


async def states_of(tx: Transaction, changes: Sequence[int]) -> list[tuple[int, str, int]]:
    """Count the alerts of changes, by their numbers: the change, where they stand, how many."""
    rows = await tx.fetch(
        f"SELECT change_id, {STANDS}, count(*) FROM deliveries JOIN queues ON queues.name = queue"
        " WHERE change_id = ANY($1) AND kind = 'alert' GROUP BY 1, 2 ORDER BY 1, 2",
        list(changes),
    )
    return [(change, state, number) for change, state, number in rows]


async def overview(tx: Transaction, since: datetime) -> Counts:
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
        "SELECT rule, severity, count(*), count(acknowledged_at) FROM incidents WHERE resolved_at IS NULL"
        " GROUP BY rule, severity"
    )
    ((dead, silences, schema),) = await tx.fetch(
        "SELECT (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM silences WHERE starts_at <= $1 AND ends_at > $1 AND NOT settled),"
        " (SELECT max(version) FROM schema_version)",
        to_micros(now),
    )
    by_rule = {(rule, severity): number for rule, severity, number, _ in incidents}
    return Tally(by_rule, sum(number for *_, number in incidents), dead, silences, schema)


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


async def alerts(tx: Transaction, since: datetime) -> dict[tuple[str, str], int]:
    """Count the alerts that were stored since a time, UTC, by rule and destination."""
    rows = await tx.fetch(
        "SELECT rule, destination, count(*) FROM deliveries WHERE created_at >= $1 AND state <> 'cancelled'"
        " AND repeat_after IS NULL AND kind = 'alert' AND rule <> '' GROUP BY 1, 2",
        to_micros(since),
    )
    return {(rule, destination): number for rule, destination, number in rows}


async def note_socket(tx: Transaction, name: str, trouble: str, now: datetime) -> None:
    """Note how a process's connection is.

    Args:
        tx: The transaction.
        name: The process.
        trouble: Why it has none; empty: it has one.
        now: The time, UTC.
    """
    await tx.execute("DELETE FROM sockets WHERE seen_at < $1", to_micros(now - SOCKETS_KEPT_FOR))
    await tx.execute(
        "INSERT INTO sockets (process, trouble, seen_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (process) DO UPDATE SET trouble = excluded.trouble, seen_at = excluded.seen_at",
        name,
        trouble,
        to_micros(now),
    )


async def socket_trouble(tx: Transaction, now: datetime) -> str:
    """Say why no process has a connection; empty: one has, or none is to have any."""
    rows = await tx.fetch(
        "SELECT trouble FROM sockets WHERE seen_at >= $1 ORDER BY seen_at DESC, process",
        to_micros(now - SEEN_WITHIN),
    )
    return str(rows[0][0]) if rows and all(text for (text,) in rows) else ""


async def stuck(tx: Transaction, since: datetime, now: datetime) -> dict[State, list[str]]:
    """Find the open incidents, by id, of which an alert is dead, or due and waiting since a time, UTC.

    What waits in a queue on hold counts at once. The keys are `DEAD` and `PENDING`.
    """
    select = (
        "SELECT DISTINCT incident_id FROM deliveries JOIN queues ON queues.name = queue"
        " JOIN incidents ON incidents.id = incident_id"
        " WHERE resolved_at IS NULL AND kind = 'alert' AND deliveries.state ="
    )
    dead = await tx.fetch(f"{select} 'dead' ORDER BY 1")
    waits = await tx.fetch(
        f"{select} 'pending' AND deliveries.due_at <= $2 AND (on_hold IS NOT NULL OR waiting_since < $1)"
        " ORDER BY 1",
        to_micros(since),
        to_micros(now),
    )
    return {State.PENDING: [name for (name,) in waits], State.DEAD: [name for (name,) in dead]}
