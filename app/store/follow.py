"""What is open follows the rules in force, whenever these are read."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from app.model.incident import Incident
from app.model.times import to_micros
from app.rules.rule import RuleSet
from app.store.queries import audit
from app.store.queries.accept import INCIDENT, incident_of
from app.store.queries.incidents import close, locked
from app.store.transaction import Transaction
from app.store.views import AuditEntry

RULES_FILE = "rules file"
"""Who closes the incidents of a rule that is gone, in the audit trail."""
SAID_BY_ANOTHER = timedelta(minutes=2)
"""As long ago another replica may have read the same rules file."""


async def follow(tx: Transaction, rules: RuleSet, now: datetime, *, limit: int) -> list[Incident]:
    """Let open incidents follow the rules in force.

    Those whose rule can never end them are closed, with an entry in the audit trail. Those that still wait
    for their first alert wait as long as their rule says now.

    Args:
        tx: The transaction.
        rules: The rules in force.
        now: The time, UTC.
        limit: How many are closed at most, so that no transaction is long.

    Returns:
        Those that were closed.
    """
    rows = await tx.fetch(f"SELECT {INCIDENT} FROM incidents WHERE resolved_at IS NULL ORDER BY id")
    incidents = [incident_of(row) for row in rows]
    pairs = {(incident.rule, incident.blueprint) for incident in incidents}
    gone = {pair: why for pair in sorted(pairs) if (why := rules.why_gone(*pair))}
    over = [incident for incident in incidents if (incident.rule, incident.blueprint) in gone][:limit]
    moved = [
        incident.id
        for incident in incidents
        if (incident.rule, incident.blueprint) not in gone
        and _due_anew(incident, rules, now) != incident.due_at
    ]
    # All in one go: two processes that read the rules again must not wait for each other in a circle.
    for incident in await locked(tx, [*moved, *(incident.id for incident in over)]):
        if incident.id in moved and (due_at := _due_anew(incident, rules, now)):
            await _wait_until(tx, incident, due_at)
    closed: list[Incident] = []
    for pair, why in gone.items():
        names = [incident.id for incident in over if (incident.rule, incident.blueprint) == pair]
        closed += await close(tx, names, why, now)
    for incident in closed:
        about = f"{incident.blueprint} {incident.entity}: {gone[incident.rule, incident.blueprint]}"
        await audit.write(tx, AuditEntry(now, RULES_FILE, "close incident", f"Incident of {about}."))
    return closed


async def leave(tx: Transaction, destinations: Sequence[str], now: datetime) -> dict[str, int]:
    """Note in the audit trail which open incidents destinations, by name, cannot be told the end of any more.

    Args:
        tx: The transaction.
        destinations: Those that are at another address from now on.
        now: The time, UTC.

    Returns:
        How many there are of each, where there is one.
    """
    await tx.lock([("move destination",)])  # every replica reads the file: one of them says so
    written = await tx.fetch(
        "SELECT details FROM audit WHERE what = 'move destination' AND at >= $1",
        to_micros(now - SAID_BY_ANOTHER),
    )
    rows = await tx.fetch(f"SELECT {INCIDENT} FROM incidents WHERE resolved_at IS NULL")
    told = Counter(name for row in rows for name in {place.destination for place in incident_of(row).told})
    left = {
        name: told[name]
        for name in destinations
        if told[name] and not any(text.startswith(f"{name} has another address") for (text,) in written)
    }
    for name, number in left.items():
        details = f"{name} has another address: its old one is not told the end of {number} open incidents."
        await audit.write(tx, AuditEntry(now, RULES_FILE, "move destination", details))
    return left


def _due_anew(incident: Incident, rules: RuleSet, now: datetime) -> datetime | None:
    """Say when an incident alerts first by the rules in force, if it waits to."""
    wait = rules.by_name[incident.rule].wait
    if incident.due_at is None or incident.due_at <= now:
        return incident.due_at
    return max(now, incident.opened_at + wait) if wait else now


async def _wait_until(tx: Transaction, incident: Incident, due_at: datetime) -> None:
    """Let an incident alert first at another time, and move what is to be said after that."""
    await tx.execute("UPDATE incidents SET due_at = $2 WHERE id = $1", incident.id, to_micros(due_at))
    await tx.execute(
        "UPDATE deliveries SET due_at = due_at + $2, waiting_since = waiting_since + $2"
        f" WHERE incident_id = $1 AND {tx.waits} AND due_at >= $3",
        incident.id,
        to_micros(due_at) - to_micros(incident.due_at or due_at),
        to_micros(incident.due_at or due_at),
    )
