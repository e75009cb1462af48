"""Groups: one incident for many, counted in the transaction of the changes that open and end its members."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

import orjson

from app.model.change import ENTITY, UPDATE, CatalogChange, key_at
from app.model.incident import Incident
from app.model.times import MICRO, from_micros, to_micros
from app.rules.decide import MEMORY, Decision, EntityState, decide
from app.rules.kin.group import enough, groups_in, needed, state_of
from app.rules.kin.quiet import waits
from app.rules.kin.ties import Kin
from app.rules.match import Hit, Match
from app.rules.rule import Rule
from app.store.group import Group
from app.store.kin.state import FamilyState, TieKey
from app.store.rows import Accepted, Incoming
from app.store.transaction import Row, Transaction

COUNTED_ANEW = timedelta(minutes=5)
"""How old the number of all entities of a group may be: to count them is to read them all."""


async def take_in(
    tx: Transaction,
    group: Group,
    accepted: list[Accepted],
    columns: str,
    incident_of: Callable[[Row], Incident],
) -> list[Accepted]:
    """Decide on the groups whose members changed, and give what became of the changes now.

    Args:
        tx: The transaction, which holds the locks of these groups.
        group: The changes, decided, and not written yet.
        accepted: What became of them so far.
        columns: The columns of an incident.
        incident_of: Reads an incident from these.
    """
    state = group.family
    if state is None or not state.touched:
        return accepted
    touched = [_Touched.of(key, group.changes[number][0]) for key, number in sorted(state.touched.items())]
    touched = [replace(place, total=await _total(tx, place)) for place in touched]
    touched = await _count(tx, state, touched)
    # As under load: there is no more to be known of one that stays open.
    state.stirred |= {state.open[place.key] for place in touched if place.stays_open(state)}
    touched = [place for place in touched if not place.stays_open(state)]
    if not touched:
        return accepted
    since = to_micros(group.changes[-1][0].change.at - MEMORY)
    rows = await tx.fetch_each(
        f"SELECT {columns}, at_least, until FROM incidents WHERE rule = $1 AND blueprint = $2 AND entity = $3"
        " AND (resolved_at IS NULL OR resolved_at >= $4) ORDER BY id",
        ("text", "text", "text", "bigint"),
        [(*place.key, since) for place in touched],
    )
    if rows:
        await tx.lock_rows("incidents", sorted(row[0] for row in rows))
    limits = {row[0]: (row[-2], row[-1]) for row in rows}
    incidents = [incident_of(row[:-2]) for row in rows]
    decided = await _decide_groups(tx, group, state, touched, incidents, limits)
    return [change.with_alerts(decided.get(change.key)) for change in accepted]


async def _decide_groups(
    tx: Transaction,
    group: Group,
    state: FamilyState,
    touched: Sequence["_Touched"],
    incidents: Iterable[Incident],
    limits: Mapping[str, tuple[int, int]],
) -> dict[str, Decision]:
    """Open and end the incidents of the groups whose members changed, and give the decisions.

    Args:
        tx: The transaction, which holds the locks of these groups.
        group: The changes, decided, and not written yet.
        state: What they led to for others.
        touched: The groups.
        incidents: Their incidents that are open or ended lately.
        limits: Of each its limits as they are stored.

    Returns:
        What each change led to for groups, by its key.
    """
    past: dict[TieKey, dict[str, Incident]] = {place.key: {} for place in touched}
    for incident in incidents:
        past[incident.rule, incident.blueprint, incident.entity][incident.id] = incident
    starts = {place.key: await _starts(tx, state, place) for place in touched}
    decisions: dict[str, Decision] = {}
    # One that ends because members do not count yet may begin again when they will.
    for place in [group for group in touched for _ in range(1 if group.kin.rule.wait is None else 2)]:
        mine, number, change = past[place.key], state.touched[place.key], place.incoming.change
        is_open = next((incident for incident in mine.values() if incident.resolved_at is None), None)
        decision, here = place.decide(mine, is_open, starts[place.key]), place.limits
        for incident in decision.incidents if decision else filter(None, [is_open]):
            if here and limits.get(incident.id) != here:
                state.limits[incident.id] = here
        if decision is None:
            state.stirred |= {is_open.id} if is_open else set()
            continue
        for incident in decision.incidents:
            state.move(number, mine.get(incident.id), incident, leads=True, how="is resolved", replaced=True)
        group.lead_to(change.key, mine, decision, to_micros(place.incoming.received_at))
        before = group.changes[number][1]
        reason, alerts = f"{before.reason}; {decision.reason}", before.alerts + decision.alerts
        decisions[change.key] = replace(before, reason=reason, alerts=alerts)
        group.changes[number] = place.incoming, decisions[change.key]
    return decisions


@dataclass(frozen=True, slots=True)
class _Touched:
    """A group whose members changed.

    Attributes:
        key: What its incident is found by.
        incoming: The change that did so last.
        kin: What the change's rule has to do with others.
        rule: The group's rule.
        total: How many entities there are; 0: that is not known, or not asked for.
        count: How many members are open now, as far as that must be known.
    """

    key: TieKey
    incoming: Incoming
    kin: Kin
    rule: Rule
    total: int = 0
    count: int = 0

    @classmethod
    def of(cls, key: TieKey, incoming: Incoming) -> Self:
        pairs = ((kin, rule) for kin in incoming.kins for rule in kin.groups)
        kin, rule = next((kin, rule) for kin, rule in pairs if rule.name == key[0])
        return cls(key, incoming, kin, rule)

    def most(self, state: FamilyState) -> int:
        """Give how many open members must be counted to decide."""
        ends = enough(self.rule, self.total)
        is_open = self.key in state.open and self.kin.rule.wait is None
        return ends if is_open else max(needed(self.rule, self.total), ends)

    def stays_open(self, state: FamilyState) -> bool:
        """Tell whether it is open, and has so many members that it stays so; not all such are recognized."""
        plain = self.kin.rule.wait is None and self.rule.share is None
        return plain and self.key in state.open and self.count > enough(self.rule, 0)

    @property
    def limits(self) -> tuple[int, int] | None:
        """How many open members open it, and how many end it; None: that is not known."""
        is_known = self.rule.share is None or self.total > 0
        return (needed(self.rule, self.total), enough(self.rule, self.total)) if is_known else None

    def decide(
        self,
        incidents: Mapping[str, Incident],
        is_open: Incident | None,
        starts: Sequence[int] | None,
    ) -> Decision | None:
        """Decide on the group's incident; None: it stays as it is.

        Args:
            incidents: Its incidents that are open or ended lately.
            is_open: The one that is open.
            starts: From when on each counts, as many as need be known, the first ones first; None: at once.
        """
        rule, change, now = self.rule, self.incoming.change, self.incoming.received_at
        known, least, due_at = self.limits is not None, needed(rule, self.total), None
        all_ = count = self.count
        waits_ = waits(is_open, now)
        if starts is not None:
            all_, count = len(starts), sum(start <= to_micros(now) for start in starts)
            due_at = from_micros(starts[least - 1]) if count < least <= all_ else None
        # A change that only shows that a member is well again says nothing of where the group's would go.
        asked = self.kin.asked.get(rule.name)
        opens = (
            asked is not None
            and known
            and all_ >= least
            and (is_open is None or (waits_ and is_open.due_at != due_at))
        )
        limit = least - 1 if waits_ else enough(rule, self.total)
        ends = is_open is not None and (all_ == 0 or (known and (all_ if waits_ else count) <= limit))
        if not (opens or ends):
            return None
        count = count if ends else max(count, least)
        _, blueprint, name = self.key
        about = CatalogChange(
            key=key_at(change.at, "\0".join((change.key, *self.key)).encode()),
            action=UPDATE,
            resource=ENTITY,
            blueprint=blueprint,
            entity=name,
            title=name,
            teams=(name,) if rule.by and rule.by.team else change.teams,
            before=None,
            after=None,
            actor="",
            origin="",
            at=change.at,
        )
        kin = Kin(rule, leads=True, due_at=due_at)
        hit = (asked or Hit(rule, matches=False, resolves=True)).but(
            matches=opens, resolves=ends, state=f"{count:,} open" if ends else state_of(rule), kin=kin
        )
        match = Match(about, (), (hit,), f"rule {rule.name!r}: {count:,} open in {blueprint} {name}")
        return decide(match, EntityState(incidents=tuple(incidents.values())), now)


async def _count(tx: Transaction, state: FamilyState, touched: Sequence[_Touched]) -> list[_Touched]:
    """Count the open members of groups, as they will be when all is written.

    Of a group that has more than it needs to be known, not all are counted.
    """
    more, gone = Counter[TieKey](), Counter[TieKey]()
    for id_, incident in state.moved.items():
        # One that is only quiet while the group's is open has a tie, too, and is no member.
        before = {tie.key for tie in state.tied.get(id_, ()) if tie.counts_from is not None}
        after = {tie.key for tie in incident.ties if tie.counts_from is not None}
        more.update(after - before)
        gone.update(before - after)
    rows = await tx.fetch_each(
        "SELECT count(*) FROM (SELECT 1 FROM incident_ties WHERE rule = $1 AND blueprint = $2"
        " AND entity = $3 AND counts_from IS NOT NULL LIMIT $4) AS members",
        ("text", "text", "text", "bigint"),
        [(*place.key, place.most(state) + gone[place.key] + 1) for place in touched],
    )
    counts = [number for (number,) in rows]
    return [
        replace(place, count=number - gone[place.key] + more[place.key])
        for place, number in zip(touched, counts, strict=True)
    ]


async def _starts(tx: Transaction, state: FamilyState, place: _Touched) -> list[int] | None:
    """Read from when on the members of a group count that do so first; None: each does once it opens."""
    if place.kin.rule.wait is None:
        return None
    most = place.most(state)
    rows = await tx.fetch(
        "SELECT incident_id, counts_from FROM incident_ties WHERE rule = $1 AND blueprint = $2"
        " AND entity = $3 AND counts_from IS NOT NULL ORDER BY counts_from LIMIT $4",
        *place.key,
        most + len(state.moved),
    )
    ties = (tie for incident in state.moved.values() for tie in incident.ties)
    moved = [tie.counts_from for tie in ties if tie.key == place.key and tie.counts_from is not None]
    return sorted([*moved, *(start for id_, start in rows if id_ not in state.moved)])[:most]


async def _total(tx: Transaction, group: _Touched) -> int:
    """Count all entities of a group, if its rule asks for a share; 0: their last known states lack some."""
    rule, kin, now = group.rule, group.kin, to_micros(group.incoming.received_at)
    if rule.share is None:
        return 0
    counted_at, numbers = kin.totals.get(rule.name, (None, {}))
    if counted_at is None or abs(now - counted_at) >= COUNTED_ANEW // MICRO:
        numbers = await count_entities(tx, rule, kin.rule.blueprint)
        kin.totals[rule.name] = now, numbers
    return numbers.get(group.key[2], 0)


async def count_entities(tx: Transaction, rule: Rule, blueprints: Sequence[str]) -> dict[str, int]:
    """Count the entities of each group of a rule, by the last known states; empty: these lack some.

    Args:
        tx: The transaction.
        rule: The group's rule.
        blueprints: The blueprints of the rule that it counts the incidents of.
    """
    counter, names = Counter[str](), list(blueprints)
    known = await tx.fetch_value("SELECT count(*) FROM baselines WHERE blueprint = ANY($1)", names)
    if known == len(set(names)) and rule.by is not None:
        states = "SELECT state FROM last_known WHERE blueprint = ANY($1) AND NOT gone"
        async for (text,) in tx.stream(states, names):
            counter.update(groups_in(orjson.loads(text).get(rule.by.field)))
    return dict(counter)
