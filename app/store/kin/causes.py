"""Incidents that explain others: what is quiet under them, until they end."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from app.model.incident import Tie
from app.model.times import Micros, from_micros, to_micros
from app.store.columns import UNTIL_RELEASED
from app.store.group import Group, entity_of, former_of
from app.store.kin.relatives import chains
from app.store.kin.state import FamilyState
from app.store.queries import messages
from app.store.transaction import Columns, Transaction

TIE_COLUMNS: Columns = {
    "incident_id": "text",
    "rule": "text",
    "blueprint": "text",
    "entity": "text",
    "quiets": "boolean",
    "counts_from": "bigint",
    "field": "text",
}
REFRESH_AFTER = timedelta(seconds=5)
"""So long the message of an incident waits for more news of what is quiet under it, before it is updated."""
LAST_CHANGE = (1 << 63) - 1
"""Greater than the number of any change."""
OF_QUIET = "incident_id = ANY($1) AND kind = 'alert' AND deliveries.due_at >= $2"


async def settle(tx: Transaction, state: FamilyState, ids: Sequence[int], now: Micros) -> None:
    """Write what changes led to for the incidents of other entities, now that all else of them is written.

    Args:
        tx: The transaction.
        state: What they led to.
        ids: The changes as the store numbers them, in their order.
        now: The time.
    """
    moved = {id_: incident.ties for id_, incident in state.moved.items()}
    await put_ties(tx, moved, state.tied)
    if limits := [(id_, *numbers) for id_, numbers in state.limits.items()]:
        await tx.execute_many("UPDATE incidents SET at_least = $2, until = $3 WHERE id = $1", limits)
    fresh = {id_: ids[number] for id_, number in state.fresh.items()}
    await hush(tx, state.hushed, now, {})
    await release(tx, state.released, now)
    for incident_id, how in state.leads.items():
        if not how:
            await _hush_below(tx, state, incident_id, now, fresh)
    if ended := {incident_id: how for incident_id, how in state.leads.items() if how}:
        await end(tx, ended, now)
    if state.stirred:
        loud = all(state.above.get(id_, "") is None for id_ in state.stirred)
        await refresh(tx, state.stirred, now, loud=loud)


async def put_ties(
    tx: Transaction, ties: Mapping[str, tuple[Tie, ...]], before: Mapping[str, tuple[Tie, ...]]
) -> None:
    """Write the ties of incidents, by id, given what they were."""
    changed = {id_: tied for id_, tied in ties.items() if tied != before.get(id_, ())}
    if old := [(id_,) for id_ in changed if id_ in before]:
        await tx.execute_many("DELETE FROM incident_ties WHERE incident_id = $1", old)
    if new := [(id_, *tie) for id_, tied in changed.items() for tie in tied]:
        await tx.insert_many("incident_ties", TIE_COLUMNS, new)


async def _hush_below(
    tx: Transaction, state: FamilyState, incident_id: str, now: Micros, fresh: Mapping[str, int]
) -> None:
    """Let the incidents that wait to alert be quiet, where one that has opened explains them."""
    cause = state.moved[incident_id]
    rows = await tx.fetch(
        "SELECT incidents.id FROM incident_ties AS ties JOIN incidents ON incidents.id = ties.incident_id"
        " WHERE ties.rule = $1 AND ties.blueprint = $2 AND ties.entity = $3 AND quiets"
        " AND resolved_at IS NULL AND quiet IS NULL AND (due_at > $4 OR incidents.id = ANY($5))"
        " AND incidents.id <> $6 ORDER BY 1",
        cause.rule,
        cause.blueprint,
        cause.entity,
        now,
        sorted(fresh),
        cause.id,
    )
    # In a circle of relations the first one alerts.
    above = await chains(tx, [cause.id]) if rows and cause.quiet else {}
    hushed = {id_: cause.id for (id_,) in rows if id_ not in above}
    await hush(tx, hushed, now, fresh)
    state.stirred |= {cause.id} if hushed else set()


async def hush(tx: Transaction, incidents: Mapping[str, str], now: Micros, fresh: Mapping[str, int]) -> None:
    """Let incidents that wait to alert, or are fresh, be quiet, each under another one, by id.

    Of a fresh one what was to be said before the change that opened it is said: it is about an earlier time.
    """
    if not incidents:
        return
    told = await tx.fetch(
        # By the clock of another process its time had come already.
        "SELECT incident_id FROM deliveries JOIN incidents ON incidents.id = incident_id"
        " WHERE incident_id = ANY($1) AND deliveries.state = 'delivered'"
        " AND deliveries.due_at = incidents.due_at",
        sorted(incidents),
    )
    loud = {name for (name,) in told}
    pairs = sorted((id_, cause) for id_, cause in incidents.items() if id_ not in loud)
    await tx.execute_many(
        "UPDATE incidents SET quiet = $2, escalates_from = CASE WHEN escalates_from IS NULL THEN NULL"
        f" ELSE {UNTIL_RELEASED} END WHERE id = $1",
        pairs,
    )
    await tx.execute_many(
        f"UPDATE deliveries SET due_at = {UNTIL_RELEASED}, waiting_since = {UNTIL_RELEASED}"
        f" WHERE incident_id = $1 AND {tx.waits} AND kind = 'alert' AND (due_at > $2 OR change_id >= $3)",
        [(id_, now, fresh.get(id_, LAST_CHANGE)) for id_, _ in pairs],
    )


async def end(tx: Transaction, incidents: Mapping[str, str], now: Micros) -> None:
    """Let go what is quiet under incidents that have ended.

    Args:
        tx: The transaction.
        incidents: The ids of those that have ended, with how they did: ``is resolved``.
        now: The time.
    """
    rows = await tx.fetch(
        "SELECT below.id, cause.id, cause.blueprint, cause.entity, cause.rule FROM incidents AS below"
        " JOIN incidents AS cause ON cause.id = below.quiet"
        " WHERE below.quiet = ANY($1) AND below.resolved_at IS NULL ORDER BY below.id",
        sorted(incidents),
    )
    why = {
        id_: f"{blueprint} {entity} (rule {rule}) {incidents[cause]}"
        for id_, cause, blueprint, entity, rule in rows
    }
    await let_go(tx, why, now)


async def let_go(tx: Transaction, why: Mapping[str, str], now: Micros) -> None:
    """Let incidents alert that nothing explains any more, each with the reason, unless another one does."""
    if not why:
        return
    others = await tx.fetch(
        "SELECT incident_id, other.id FROM incident_ties AS ties JOIN incidents AS other"
        " ON other.blueprint = ties.blueprint AND other.entity = ties.entity AND other.rule = ties.rule"
        " AND other.resolved_at IS NULL WHERE incident_id = ANY($1) AND quiets"
        "  AND other.id <> (SELECT quiet FROM incidents WHERE id = incident_id) ORDER BY 1, 2",
        sorted(why),
    )
    above = await chains(tx, {other for _, other in others}) if others else {}
    moved = {id_: other for id_, other in reversed(others) if not _leads_to(other, id_, above)}
    await tx.execute_many("UPDATE incidents SET quiet = $2 WHERE id = $1", sorted(moved.items()))
    await release(tx, {id_: reason for id_, reason in why.items() if id_ not in moved}, now)
    if moved:
        await refresh(tx, set(moved.values()), now)


def _leads_to(incident_id: str | None, other: str, above: Mapping[str, str | None]) -> bool:
    seen = set()
    while incident_id is not None and incident_id not in seen:
        if incident_id == other:
            return True
        seen.add(incident_id)
        incident_id = above.get(incident_id)
    return False


async def release(tx: Transaction, incidents: Mapping[str, str], now: Micros) -> None:
    """Let incidents alert that were quiet, each with the reason why it is not any more."""
    if not incidents:
        return
    ids = sorted(incidents)
    rows = await tx.fetch(
        "SELECT deliveries.id, incident_id, notification, repeat_after, incidents.due_at FROM deliveries"
        f" JOIN incidents ON incidents.id = incident_id WHERE {OF_QUIET} AND {_waits(tx)} ORDER BY 1",
        ids,
        UNTIL_RELEASED,
    )
    due = []
    for number, incident_id, text, repeat_after, due_at in rows:
        at = max(now, due_at or 0) + (repeat_after or 0)
        facts: dict[str, Any] = orjson.loads(text) | {"was_quiet": incidents[incident_id]}
        if repeat_after:
            facts["at"] = from_micros(at)
        due.append((number, at, orjson.dumps(facts).decode()))
    await tx.execute(
        "UPDATE incidents SET quiet = NULL, escalates_from = CASE WHEN escalates_from IS NULL THEN NULL"
        " WHEN due_at > $2 THEN due_at ELSE $2 END WHERE id = ANY($1)",
        ids,
        now,
    )
    await tx.execute_many(
        "UPDATE deliveries SET due_at = $2, waiting_since = $2, notification = $3 WHERE id = $1", due
    )


async def end_quiet(tx: Transaction, incidents: Sequence[str], now: Micros) -> None:
    """Let incidents not be quiet that became so while their alert was sent: they were told after all."""
    await release(tx, dict.fromkeys(incidents, ""), now)


def _waits(tx: Transaction) -> str:
    return tx.waits.replace("state", "deliveries.state")


async def below(tx: Transaction, incidents: Sequence[str]) -> list[str]:
    """Read the incidents that are quiet under some, by id."""
    rows = await tx.fetch(
        "SELECT id FROM incidents WHERE quiet = ANY($1) AND resolved_at IS NULL", list(incidents)
    )
    return [row[0] for row in rows]


async def rename(tx: Transaction, group: Group) -> None:
    """Let what depends on entities that changes have renamed depend on them under their new names."""
    merged = {id_: "goes on under another name" for id_ in group.renamed if group.moved[id_].resolved_at}
    await end(tx, merged, to_micros(group.changes[-1][0].received_at))
    changes = group.renamed.values()
    await tx.execute_many(
        "UPDATE incident_ties SET entity = $3 WHERE blueprint = $1 AND entity = $2 AND NOT EXISTS ("
        " SELECT 1 FROM incident_ties AS other WHERE other.incident_id = incident_ties.incident_id"
        " AND other.rule = incident_ties.rule AND other.blueprint = $1 AND other.entity = $3)",
        sorted({(*(former_of(change) or entity_of(change)), entity_of(change)[1]) for change in changes}),
    )


async def refresh(tx: Transaction, incidents: Iterable[str], now: Micros, *, loud: bool = False) -> None:
    """Let the messages of incidents, and of those that they are quiet under, be updated soon, each once.

    If they are `loud`, they are known to be open, and quiet under none.
    """
    above = incidents if loud else await chains(tx, incidents)
    await messages.update_soon(tx, sorted(above), now, to_micros(from_micros(now) + REFRESH_AFTER))
