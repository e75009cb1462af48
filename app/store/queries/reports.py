"""The SQL of reports: runs in Port that are told what became of the change which they brought.

A run is kept as a message that can be changed, and a report as a change of it. So what waits for one run goes
out as one, and nothing of it counts as an alert.

Each function is a part of one transaction on the connection given.
"""

from collections.abc import Iterable, Sequence

from app.model.incident import Step
from app.model.report import RUNS, Fate, Report
from app.store.columns import fate_of, to_micros
from app.store.rows import Incoming
from app.store.transaction import Session

ALERT = (
    "deliveries.message_id IS NULL AND deliveries.repeat_after IS NULL"
    f" AND deliveries.notification::json ->> 'step' <> '{Step.NOTICE}'"
)
"""What of a change's deliveries its run is told of: no reminder, and nothing said of another delivery."""
QUEUE = (
    "INSERT INTO queues (name, destination) SELECT $1::text, $2::text"
    # Looked for first: to find the conflict would be to wait for whoever has written to the queue just now.
    " WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = $1) ON CONFLICT (name) DO NOTHING"
)
"""Makes a queue, if there is none of this name, from its name and destination."""
PENDING = "state || '' = 'pending'"  # of a change's few deliveries, without the index of all that wait


async def put(db: Session, batch: Iterable[Incoming]) -> None:
    """Write the reports of changes that are stored, unless their runs have one of the same change."""
    reports: dict[tuple[str, str], tuple[Incoming, Report]] = {}
    for one in batch:
        if one.report:
            reports.setdefault((one.change.key, one.report.run), (one, one.report))
    rows = await db.fetch("SELECT key, id FROM changes WHERE key = ANY($1)", [key for key, _ in reports])
    ids = dict(rows)
    for one, report in reports.values():
        queue, run = report.delivery.queue, report.run
        now = to_micros(one.received_at)
        await db.execute(
            "INSERT INTO messages (queue, channel, ts, posted_at) VALUES ($1, '', $2, $3)"
            " ON CONFLICT (queue, ts) DO NOTHING",
            RUNS,
            run,
            now,
        )
        await db.execute(QUEUE, queue, RUNS)
        await db.execute(
            "INSERT INTO deliveries (change_id, queue, destination, notification, created_at, waiting_since,"
            "  due_at, message_id)"
            " SELECT $1, $2, $3, $4, $5, $5, 0, id FROM messages WHERE queue = $3 AND ts = $6 AND NOT EXISTS ("
            "   SELECT 1 FROM deliveries WHERE change_id = $1 AND message_id = messages.id)",
            ids[one.change.key],
            queue,
            RUNS,
            report.delivery.notification.model_dump_json(),
            now,
            run,
        )


async def tell(db: Session, ended: Sequence[int], now: int) -> None:
    """Let runs hear of it that deliveries have ended, if nothing else of their changes waits any more."""
    if not ended or not await db.fetchval("SELECT true FROM messages WHERE queue = $1 LIMIT 1", RUNS):
        return  # nobody asks for reports
    # Two queues may end a change's last two deliveries at the same moment: whoever comes second waits here,
    # and then sees, with its next statement, what the first has written.
    reports = await db.fetch(
        "SELECT report.id, report.change_id, report.message_id FROM deliveries AS report"
        " JOIN messages ON messages.id = report.message_id WHERE messages.queue = $2 AND report.change_id IN ("
        f"  SELECT change_id FROM deliveries WHERE id = ANY($1) AND {ALERT})"
        " ORDER BY report.id FOR NO KEY UPDATE OF report",
        list(ended),
        RUNS,
    )
    if not reports:
        return
    first: dict[tuple[int, int], int] = {}
    for number, change_id, message_id in reports:
        first.setdefault((change_id, message_id), number)
    await db.execute(
        "INSERT INTO deliveries (change_id, queue, destination, notification, created_at, waiting_since,"
        "  due_at, message_id)"
        " SELECT change_id, queue, destination, notification, $2, $2, 0, message_id FROM deliveries AS report"
        " WHERE id = ANY($1) AND NOT EXISTS ("
        f"  SELECT 1 FROM deliveries WHERE change_id = report.change_id AND {PENDING} AND {ALERT})"
        " ORDER BY id",
        list(first.values()),
        now,
    )


async def fate(db: Session, run: str) -> Fate | None:
    """Return what became of the change that a run has brought."""
    change = await db.fetchrow(
        "SELECT changes.id, received_at, reason, min(report.created_at),"
        "  count(*) FILTER (WHERE report.state = 'pending') FROM messages"
        " JOIN deliveries AS report ON report.message_id = messages.id"
        " JOIN changes ON changes.id = report.change_id"
        " WHERE messages.queue = $1 AND ts = $2 GROUP BY changes.id ORDER BY changes.id DESC LIMIT 1",
        RUNS,
        run,
    )
    if change is None:
        return None
    change_id, *facts = change
    alerts = await db.fetch(
        "SELECT destination, state,"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
        "  channel, ts"
        " FROM deliveries"
        " LEFT JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
        "   AND incident_messages.queue = deliveries.queue"
        # What belongs to no incident has no row there: its message was posted when it was told.
        " LEFT JOIN messages ON messages.id = coalesce(incident_messages.message_id, (SELECT posted.id"
        "   FROM messages AS posted WHERE posted_at = ended_at AND posted.queue = deliveries.queue))"
        f" WHERE change_id = $1 AND {ALERT} ORDER BY deliveries.id",
        change_id,
    )
    return fate_of(facts, alerts)
