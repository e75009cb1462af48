"""What the messages of an incident say of now: what is quiet because of it, open in its group, its value."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from app.model.digest import STILL
from app.model.notification import Notification, one_line
from app.model.times import Micros
from app.rules.last_known import LastKnown
from app.store.queries.last_known import LAST_KNOWN, known_of
from app.store.rows import Waiting
from app.store.transaction import Transaction

MAX_STATES = 4
MAX_MEMBERS = 10
MAX_MEMBER_CHARS = 60
WORST_MEMBER = "CASE part.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END"
CAUSE = (
    "(SELECT blueprint || ' ' || entity || ', rule ' || rule FROM incidents AS cause"
    " WHERE cause.id = incidents.quiet)"
)
"""The column that says what an incident is quiet because of."""
BELOW = (
    "WITH RECURSIVE chain (cause, id) AS ("
    " SELECT quiet, id FROM incidents WHERE quiet = $1 AND resolved_at IS NULL"
    " UNION SELECT chain.cause, incidents.id FROM incidents JOIN chain ON incidents.quiet = chain.id"
    "  WHERE resolved_at IS NULL)"
    " SELECT lower(state), count(*) FROM chain JOIN incidents ON incidents.id = chain.id"
    " GROUP BY 1 ORDER BY 2 DESC, 1"
)
MEMBERS = (
    "FROM incidents AS whole JOIN incident_ties AS ties ON ties.rule = whole.rule"
    "  AND ties.blueprint = whole.blueprint AND ties.entity = whole.entity"
    " JOIN incidents AS part ON part.id = ties.incident_id WHERE whole.id = $1 AND counts_from <= $2"
)


KNOWN_NOW = (
    f"SELECT id, changed_at, {', '.join(f'last_known.{name}' for name in LAST_KNOWN.split(', '))}"
    " FROM incidents JOIN last_known ON last_known.blueprint = incidents.blueprint"
    " AND last_known.entity = incidents.entity WHERE id = ANY($1) AND resolved_at IS NULL AND NOT gone"
)
TOP = (
    " AND incidents.quiet IS NULL AND NOT EXISTS (SELECT 1 FROM incident_ties AS ties JOIN incidents AS whole"
    " ON whole.rule = ties.rule AND whole.blueprint = ties.blueprint AND whole.entity = ties.entity"
    " AND whole.resolved_at IS NULL WHERE ties.incident_id = incidents.id AND counts_from IS NOT NULL)"
)
"""The condition that no other open incident stands for one."""


async def below(tx: Transaction, incidents: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Read which open incidents others stand for, by id: what is quiet because of them, or open in a group.

    Args:
        tx: The transaction.
        incidents: The ids of those that stand for others.
        limit: How many at most.

    Returns:
        For each the id of the one that stands for it, and its own.
    """
    rows = await tx.fetch(
        "SELECT quiet, id FROM incidents WHERE quiet = ANY($1) AND resolved_at IS NULL"
        " UNION SELECT whole.id, ties.incident_id FROM incidents AS whole JOIN incident_ties AS ties"
        "  ON ties.rule = whole.rule AND ties.blueprint = whole.blueprint AND ties.entity = whole.entity"
        "  AND counts_from IS NOT NULL WHERE whole.id = ANY($1) AND whole.resolved_at IS NULL"
        " ORDER BY 1, 2 LIMIT $2",
        list(incidents),
        limit,
    )
    return [(cause, incident_id) for cause, incident_id in rows]


async def with_others(
    tx: Transaction, notifications: Sequence[tuple[str, Notification]], now: Micros
) -> list[Notification]:
    """Put what is to be said of other incidents now into notifications, each with its incident's id."""
    texts: dict[str, dict[str, object]] = {}
    for incident_id, notification in notifications:
        if notification.below is not None and incident_id not in texts:
            if notification.members is None:
                texts[incident_id] = await _below(tx, incident_id)
            else:
                texts[incident_id] = await _members(tx, incident_id, now)
    return [notification.but(**texts.get(incident_id, {})) for incident_id, notification in notifications]


async def as_it_is(tx: Transaction, deliveries: list[Waiting], now: Micros) -> list[Waiting]:
    """Put what is so now into deliveries that are sent now: of other incidents, and the last known value."""
    if any(delivery.notification.below is not None for delivery in deliveries):
        pairs = [(delivery.incident_id or "", delivery.notification) for delivery in deliveries]
        words = await with_others(tx, pairs, now)
        both = zip(deliveries, words, strict=True)
        deliveries = [replace(delivery, notification=notification) for delivery, notification in both]
    still = {
        delivery.incident_id
        for delivery in deliveries
        if delivery.incident_id and delivery.notification.step in STILL
    }
    rows = await tx.fetch(KNOWN_NOW, sorted(still)) if still else ()
    known = {name: (changed_at, known_of(columns)) for name, changed_at, *columns in rows}
    return [
        _with_value(delivery, *known[delivery.incident_id]) if delivery.incident_id in known else delivery
        for delivery in deliveries
    ]


def _with_value(delivery: Waiting, changed_at: Micros, known: LastKnown) -> Waiting:
    """Let what says how it still is tell the number that is known now: on the same side it alerts nobody."""
    notification, said = delivery.notification, delivery.notification.change
    if notification.step not in STILL or said is None:
        return delivery
    head, *inner = said.name.split(".")
    field = f"properties.{head}"
    if known.times.get(field, changed_at) <= changed_at:  # a body that lacks the rest is not recorded
        return delivery
    value = known.values.get(field)
    for key in inner:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return delivery
    change = replace(said, after=value)
    return replace(delivery, notification=notification.but(change=change))


async def _below(tx: Transaction, incident_id: str) -> dict[str, object]:
    numbers = dict(map(tuple, await tx.fetch(BELOW, incident_id)))
    return {"below": f"{sum(numbers.values()):,} below it: {_in_words(numbers)}" if numbers else ""}


async def _members(tx: Transaction, incident_id: str, now: Micros) -> dict[str, object]:
    rows = await tx.fetch(
        f"SELECT lower(part.state), count(*) {MEMBERS} GROUP BY 1 ORDER BY 2 DESC, 1", incident_id, now
    )
    numbers, lines = dict(map(tuple, rows)), []
    if numbers:
        rows = await tx.fetch(
            f"SELECT part.entity, part.state {MEMBERS}"
            f" ORDER BY {WORST_MEMBER}, part.opened_at, part.id LIMIT $3",
            incident_id,
            now,
            MAX_MEMBERS,
        )
        lines = [": ".join(one_line(text, MAX_MEMBER_CHARS) for text in row) for row in rows]
    count = sum(numbers.values())
    if count > len(lines):
        lines.append(f"and {count - len(lines):,} more")
    return {"below": f"{count:,} open now: {_in_words(numbers)}" if numbers else "", "members": tuple(lines)}


def _in_words(numbers: Mapping[str, int]) -> str:
    """Write how many are in which state: ``9 degraded, 2 crashed``."""
    parts = [f"{number:,} {one_line(state, MAX_MEMBER_CHARS)}" for state, number in numbers.items()]
    more = [f"{sum([*numbers.values()][MAX_STATES:]):,} others"] if len(parts) > MAX_STATES else []
    return ", ".join([*parts[:MAX_STATES], *more])


async def affected(tx: Transaction, entity: str, relations: Sequence[str], depth: int) -> list[str]:
    """Read the names of what depends on an entity, by the last known states, nearest first.

    Args:
        tx: The transaction.
        entity: The entity's identifier.
        relations: The relations by which others depend on it.
        depth: How many steps it goes.
    """
    fields = [f"relations.{name}" for name in relations]
    depending: dict[str, dict[str, str]] = {}
    async for name, text in tx.stream("SELECT entity, state FROM last_known WHERE NOT gone ORDER BY entity"):
        if not any(field in text for field in fields):  # to parse all would take long
            continue
        state = orjson.loads(text)
        for field in fields:
            value = state.get(field)
            for other in value if isinstance(value, list) else (value,):
                if isinstance(other, str):
                    depending.setdefault(other, {})[name] = state.get("title") or name
    names: dict[str, str] = {}
    nearest = [entity]
    for _ in range(depth):
        found = {name: title for near in nearest for name, title in depending.get(near, {}).items()}
        nearest = [name for name in found if name not in names and name != entity]
        names |= {name: found[name] for name in nearest}
    return list(names.values())
