"""Reports: what a run in Port shows of the change that it brought.

Each is a delivery of the kind ``report`` with the run's id. So what waits for one run goes out as one, and
nothing of it counts as an alert.
"""

from collections.abc import Sequence
from typing import Any

from app.model.incident import Step
from app.model.notification import Message
from app.model.report import Fate, Report, ReportedAlert
from app.model.times import Micros, from_micros
from app.store.queries import deliveries, messages
from app.store.transaction import Transaction

REPORTED = f"kind = 'alert' AND repeat_after IS NULL AND step <> '{Step.NOTICE}'"
"""Which of a change's deliveries a report is about: alerts, without reminders and the listener's notices."""


async def put(tx: Transaction, report: Report, change_id: int, now: Micros) -> None:
    """Write the report of a change that is stored, unless its run has one of the same change."""
    known = "SELECT 1 FROM deliveries WHERE change_id = $1 AND run = $2"
    if not await tx.fetch_value(known, change_id, report.run):
        delivery = deliveries.of_alert(report.delivery, change_id, now)
        await deliveries.insert(tx, [delivery._replace(kind="report", run=report.run)])


async def announce(tx: Transaction, ended: Sequence[int], now: Micros) -> None:
    """Write a further report for each run of whose change nothing waits any more.

    Args:
        tx: The transaction.
        ended: The numbers of deliveries that have ended.
        now: The time.
    """
    # Ordered, so that PostgreSQL takes the index, also while it has no statistics.
    runs = "SELECT run FROM deliveries WHERE run IS NOT NULL ORDER BY run LIMIT 1"
    if not ended or not await tx.fetch_value(runs):
        return  # no run waits for a report
    # Two queues may end a change's last two deliveries at the same moment: the second waits here,
    # and then sees, with its next statement, what the first has written.
    rows = await tx.fetch(
        f"SELECT id, change_id, run, {deliveries.COPIED} FROM deliveries"
        " WHERE run IS NOT NULL AND change_id IN ("
        f"  SELECT change_id FROM deliveries WHERE id = ANY($1) AND {REPORTED})"
        " ORDER BY id FOR NO KEY UPDATE",
        list(ended),
    )
    first: dict[tuple[int, str], list[Any]] = {}
    for _, change_id, run, *copied in rows:
        first.setdefault((change_id, run), copied)
    for (change_id, run), copied in first.items():
        if not await tx.fetch_value(
            f"SELECT 1 FROM deliveries WHERE change_id = $1 AND {tx.waits} AND {REPORTED} LIMIT 1", change_id
        ):
            report = deliveries.following(copied, now, kind="report", run=run)
            await deliveries.insert(tx, [report])


async def fate(tx: Transaction, run: str) -> Fate | None:
    """Read what became of the change that a run has brought; None: nothing is known of the run."""
    change = await tx.fetch_row(
        "SELECT changes.id, received_at, reason, min(deliveries.created_at),"
        "  count(*) FILTER (WHERE state = 'pending') FROM deliveries JOIN changes ON changes.id = change_id"
        " WHERE run = $1 GROUP BY changes.id ORDER BY changes.id DESC LIMIT 1",
        run,
    )
    if change is None:
        return None
    change_id, received_at, reason, asked_at, waiting = change
    rows = await tx.fetch(
        "SELECT destination, state,"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
        "  channel, ts"
        " FROM deliveries"
        # What belongs to no incident has no row there: its message was posted when it was delivered.
        f" LEFT JOIN messages ON messages.id = coalesce(({messages.NEWEST}), (SELECT posted.id"
        "   FROM messages AS posted WHERE posted_at = ended_at AND posted.queue = deliveries.queue))"
        f" WHERE change_id = $1 AND {REPORTED} ORDER BY deliveries.id",
        change_id,
    )
    alerts = (
        ReportedAlert(destination, state, detail or "", None if ts is None else Message(channel, ts))
        for destination, state, detail, channel, ts in rows
    )
    # The first report of a change is stored with it, at the same time: later, the change had come before.
    again = asked_at > received_at
    return Fate(from_micros(received_at), reason, tuple(alerts), again=again, reports=waiting)
