"""What is read of other entities' incidents before changes are decided, under the locks of these entities."""

from collections.abc import Collection, Iterable, Sequence

from app.model.incident import Tie
from app.store.group import Group
from app.store.kin.state import FamilyState
from app.store.queries.last_known import find_last_known
from app.store.rows import Incoming
from app.store.transaction import EntityKey, Transaction


async def entities_above(tx: Transaction, batch: Sequence[tuple[EntityKey, Incoming]]) -> set[EntityKey]:
    """Read which entities' incidents may explain those of changes: their locks are needed, too."""
    if tx.one_writer or not batch:
        return set()
    concerned = {entity for entity, incoming in batch if incoming.kins}
    vague = {
        entity
        for entity, incoming in batch
        if incoming.watched and any(kin.is_vague for kin in incoming.kins)
    }
    known = await find_last_known(tx, vague) if vague else {}
    keys = {
        tie.key for entity, incoming in batch for kin in incoming.kins for tie in kin.ties(known.get(entity))
    }
    # What they are tied to so far is perhaps not what the change says.
    rows = await tx.fetch_each(
        "SELECT ties.blueprint, ties.entity FROM incident_ties AS ties"
        " JOIN incidents ON incidents.id = ties.incident_id"
        " WHERE incidents.blueprint = $1 AND incidents.entity = $2 AND resolved_at IS NULL",
        ("text", "text"),
        sorted(concerned),
    )
    return {(blueprint, entity) for _, blueprint, entity in keys} | {(row[0], row[1]) for row in rows}


async def look_up(tx: Transaction, batch: Sequence[tuple[EntityKey, Incoming]], group: Group) -> None:
    """Read into a group what is open above the entities of its changes, now that it is locked."""
    state = group.family = group.family or FamilyState()
    keys = {
        tie.key
        for entity, incoming in batch
        for kin in incoming.kins
        for tie in kin.ties(group.known.get(entity))
    }
    if keys:
        rows = await tx.fetch_each(
            "SELECT rule, blueprint, entity, id, quiet FROM incidents"
            " WHERE rule = $1 AND blueprint = $2 AND entity = $3 AND resolved_at IS NULL",
            ("text", "text", "text"),
            sorted(keys),
        )
        state.open = {(rule, blueprint, entity): id_ for rule, blueprint, entity, id_, _ in rows}
        state.above = {id_: quiet for *_, id_, quiet in rows}
        if any(state.above.values()):
            state.above = await chains(tx, state.above)


async def look_up_ties(
    tx: Transaction, batch: Sequence[tuple[EntityKey, Incoming]], incidents: Collection[str], group: Group
) -> dict[str, tuple[Tie, ...]]:
    """Read the ties of the incidents of changes, by id, into a group; one that has none is left out."""
    if not incidents or not any(incoming.kins for _, incoming in batch):
        return {}
    group.family = FamilyState(tied=await ties_of(tx, incidents))
    return group.family.tied


async def ties_of(tx: Transaction, incidents: Collection[str]) -> dict[str, tuple[Tie, ...]]:
    """Read the ties of incidents, by id; one that has none is left out."""
    rows = await tx.fetch(
        "SELECT incident_id, rule, blueprint, entity, quiets, counts_from, field FROM incident_ties"
        " WHERE incident_id = ANY($1) ORDER BY incident_id",
        list(incidents),
    )
    tied: dict[str, tuple[Tie, ...]] = {}
    for incident_id, rule, blueprint, entity, quiets, counts_from, field in rows:
        tie = Tie(rule, blueprint, entity, bool(quiets), counts_from, field)
        tied[incident_id] = tuple(sorted((*tied[incident_id], tie))) if incident_id in tied else (tie,)
    return tied


async def chains(tx: Transaction, incidents: Iterable[str]) -> dict[str, str | None]:
    """Read under which incident each of some open ones is quiet, and each of those, and so on, by id."""
    rows = await tx.fetch(
        "WITH RECURSIVE chain (id, above) AS ("
        " SELECT id, quiet FROM incidents WHERE id = ANY($1) AND resolved_at IS NULL"
        " UNION SELECT incidents.id, incidents.quiet FROM incidents JOIN chain ON incidents.id = chain.above"
        "  WHERE incidents.resolved_at IS NULL) SELECT id, above FROM chain",
        sorted(incidents),
    )
    return dict(map(tuple, rows))


async def below(tx: Transaction, batch: Sequence[tuple[EntityKey, Incoming]]) -> list[str]:
    """Read the incidents, by id, that those of changes may explain: they are to be locked with them."""
    if tx.one_writer:
        return []
    leading = {entity for entity, incoming in batch if any(kin.leads for kin in incoming.kins)}
    if not leading:
        return []
    rows = await tx.fetch_each(
        "SELECT incident_id FROM incident_ties WHERE blueprint = $1 AND entity = $2",
        ("text", "text"),
        sorted(leading),
    )
    return [row[0] for row in rows]
