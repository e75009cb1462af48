"""Members of groups where no change moves them: somebody closes them, or the rules are others."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.model.incident import Incident, Tie
from app.model.times import Micros, to_micros
from app.rules.kin.quiet import counting
from app.rules.kin.ties import Kin
from app.rules.rule import RuleSet
from app.store.columns import UNTIL_RELEASED
from app.store.kin import causes, relatives
from app.store.kin.state import TieKey
from app.store.queries.last_known import find_last_known
from app.store.transaction import EntityKey, Transaction

Way = tuple[str, str, str]
"""A rule, a blueprint, and the field that leads there."""
MOVED_AWAY = "it depends on something else now"
COUNTED_TIES = (
    "FROM incident_ties AS ties WHERE ties.rule = $1 AND ties.blueprint = $2 AND ties.entity = $3"
    " AND counts_from"
)


async def untie(tx: Transaction, incidents: Sequence[str], now: Micros) -> dict[str, str]:
    """Untie incidents that are closed, by id, and give those of groups that end by it, each with the reason.

    The messages of what stood for them are updated soon.
    """
    rows = await tx.fetch(
        "DELETE FROM incident_ties WHERE incident_id = ANY($1)"
        " RETURNING rule, blueprint, entity, counts_from IS NOT NULL",
        list(incidents),
    )
    stirred = await tx.fetch(
        "SELECT DISTINCT quiet FROM incidents WHERE id = ANY($1) AND quiet IS NOT NULL ORDER BY 1",
        list(incidents),
    )
    keys = {(rule, blueprint, entity) for rule, blueprint, entity, counts in rows if counts}
    groups = await counted(tx, keys, now)
    if names := [*(row[0] for row in stirred), *(name for name, why in groups.items() if not why)]:
        await causes.refresh(tx, names, now)
    return {name: why for name, why in groups.items() if why}


async def counted(tx: Transaction, keys: Collection[TieKey], now: Micros) -> dict[str, str]:
    """Count the members of groups that are open, and give the groups' incidents, each with why it ends.

    The reason is empty if it does not: one that would open again with those that count later stays, and one
    that waits does so until enough count.
    """
    if not keys:
        return {}
    ordered = sorted(keys)
    rows = await tx.fetch_each(
        "SELECT rule, blueprint, entity, id, at_least, due_at,"
        " CASE WHEN due_at > $4 THEN at_least - 1 ELSE until END,"
        f" (SELECT count(*) {COUNTED_TIES} IS NOT NULL), (SELECT count(*) {COUNTED_TIES} <= $4)"
        # What only explains others, and groups nothing, has none: it does not end with them.
        " FROM incidents WHERE rule = $1 AND blueprint = $2 AND entity = $3 AND resolved_at IS NULL"
        " AND at_least IS NOT NULL",
        ("text", "text", "text", "bigint"),
        [(*key, now) for key in ordered],
    )
    reasons = {}
    for *key, name, at_least, due_at, until, all_, count in rows:
        reasons[name] = few(count) if all_ < at_least and count <= (until or 0) else ""
        if due_at is not None and due_at > now and all_ >= at_least:
            enough_at: Micros = await tx.fetch_value(
                f"SELECT max(counts_from) FROM (SELECT counts_from {COUNTED_TIES} IS NOT NULL"
                " ORDER BY counts_from LIMIT $4) AS first_ones",
                *key,
                at_least,
            )
            await wait_until(tx, name, due_at, max(now, enough_at))
    return reasons


def few(count: int) -> str:
    """Say why a group's incident ends though no change brought that: so many members are open."""
    if not count:
        return "nothing of what it counts is open any more"
    return f"only {count:,} of what it counts {'is' if count == 1 else 'are'} open"


async def wait_until(tx: Transaction, incident_id: str, before: Micros, due_at: Micros) -> None:
    """Let an incident that waits alert first at another time, and move what is to be said after that."""
    if due_at == before:
        return
    await tx.execute(
        "UPDATE incidents SET due_at = $2, escalates_from ="
        f" CASE WHEN escalates_from < {UNTIL_RELEASED} THEN escalates_from + $3 ELSE escalates_from END"
        " WHERE id = $1",
        incident_id,
        due_at,
        due_at - before,
    )
    await tx.execute(
        "UPDATE deliveries SET due_at = due_at + $2, waiting_since = waiting_since + $2"
        f" WHERE incident_id = $1 AND {tx.waits} AND due_at >= $3 AND due_at < {UNTIL_RELEASED}",
        incident_id,
        due_at - before,
        before,
    )


@dataclass(slots=True)
class Astray:
    """Open incidents that are not tied to what the rules in force tie them to.

    Attributes:
        ties: What they are to be tied to, by id.
        before: What they are tied to.
        loose: Those that nothing explains any more, with the reason.
    """

    ties: dict[str, tuple[Tie, ...]] = field(default_factory=dict)
    before: dict[str, tuple[Tie, ...]] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> set[TieKey]:
        """What the incidents are found by that these were tied to, or are to be."""
        return {tie.key for id_, ties in self.ties.items() for tie in (*ties, *self.before.get(id_, ()))}

    def only(self, keys: Collection[TieKey]) -> "Astray":
        """Take those that are to be tied to no others than these."""
        ties = {id_: tied for id_, tied in self.ties.items() if all(tie.key in keys for tie in tied)}
        loose = {id_: why for id_, why in self.loose.items() if id_ in ties}
        return Astray(ties, self.before, loose)


async def astray(tx: Transaction, incidents: Iterable[Incident], rules: RuleSet, now: datetime) -> Astray:
    """Find out which open incidents new rules tie to something else: a group by another field, say.

    What a rule leads to by the same field as before stays: the last known state may be behind the change that
    tied it. The rest is by that state.

    Args:
        tx: The transaction.
        incidents: The incidents.
        rules: The rules in force.
        now: The time, UTC.
    """
    mine = [incident for incident in incidents if incident.rule in rules.family.fields]
    if not mine:
        return Astray()
    before = await relatives.ties_of(tx, [incident.id for incident in mine])
    names = {incident.rule for incident in mine}
    pairs = ((name, rules.family.kin(rules.by_name[name], None, frozenset())) for name in names)
    kins = {name: kin for name, kin in pairs if kin is not None}
    kept = {each.id: _kept(before.get(each.id, ()), each, kins[each.rule]) for each in mine}
    # To read these takes longest, and keeps accepting waiting: nearly always all ties are there.
    lacking = {_entity(each) for each in mine if kept[each.id][1] is not None}
    known = await find_last_known(tx, lacking) if lacking else {}
    found = Astray(before=before)
    for incident in mine:
        (ties, there), was = kept[incident.id], before.get(incident.id, ())
        if there is not None:
            for tie in kins[incident.rule].ties(known.get(_entity(incident)), incident.severity):
                if _way(tie) not in there:
                    ties[tie.key] = tie._replace(quiets=tie.quiets or tie.key in ties)
        if (anew := _counted_anew(tuple(sorted(ties.values())), was, incident, rules, now)) != was:
            found.ties[incident.id] = anew
    if quiet := {each.id: each.quiet for each in mine if each.quiet and each.id in found.ties}:
        rows = await tx.fetch(
            "SELECT id, rule, blueprint, entity FROM incidents WHERE id = ANY($1)", sorted(quiet.values())
        )
        above = {row[0]: tuple(row[1:]) for row in rows}
        found.loose = {
            id_: MOVED_AWAY
            for id_, cause in quiet.items()
            if all(tie.key != above.get(cause) for tie in found.ties[id_] if tie.quiets)
        }
    return found


def _kept(
    was: Iterable[Tie], incident: Incident, kin: Kin
) -> tuple[dict[TieKey, Tie], Collection[Way] | None]:
    """Give the ties that lead by a field of now, and by which ways they do; None: there are no other ways."""
    ways: dict[Way, Tie] = {}
    for way in kin.ways(incident.severity):
        ways[_way(way)] = way if _way(way) not in ways else way._replace(quiets=True)
    # Where two fields lead to one entity, its tie has the field of the second, and the first may quiet.
    quieting = {(way.rule, way.blueprint) for way in ways.values() if way.quiets}
    ties, there = dict[TieKey, Tie](), set[Way]()
    for tie in was:
        lead = ways.get(_way(tie))
        if lead is not None and (lead.counts_from is None) == (tie.counts_from is None):
            quiets = lead.quiets or (tie.quiets and (tie.rule, tie.blueprint) in quieting)
            ties[tie.key] = tie if tie.quiets is quiets else tie._replace(quiets=quiets)
            there.add(_way(tie))
    return ties, there if ways.keys() - there else None


def _counted_anew(
    ties: tuple[Tie, ...], was: Iterable[Tie], incident: Incident, rules: RuleSet, now: datetime
) -> tuple[Tie, ...]:
    rule = rules.by_name[incident.rule]
    # What counts already goes on to do so; the rest does as its rule's `for` says now.
    starts = [tie.counts_from for tie in was if tie.counts_from is not None]
    if rule.wait is None or any(start <= to_micros(now) for start in starts):
        start = 0 if rule.wait is None else min(starts)
        return tuple(tie if tie.counts_from is None else tie._replace(counts_from=start) for tie in ties)
    return counting(ties, incident, None, rule, now)


def _way(tie: Tie) -> Way:
    return tie.rule, tie.blueprint, tie.field


def _entity(incident: Incident) -> EntityKey:
    return incident.blueprint, incident.entity
