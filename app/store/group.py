"""What a group of changes leads to, decided one after the other before any of it is written.

The same in every store: an earlier change's outcome must be seen by a later one of its entity as if it were
stored already, and the writing of many is done in few statements, which is what makes a group cheap.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.incident import Incident, Step
from app.model.notification import Notification
from app.model.silence import ANY
from app.model.times import Micros, to_micros
from app.rules.decide import MEMORY, Decision, EntityState
from app.rules.kin.quiet import Causes, waits
from app.rules.last_known import LastKnown, gone
from app.store.kin.state import FamilyState
from app.store.rows import Accepted, Incoming
from app.store.transaction import EntityKey

_COPIED = "rule, team, starts_at, ends_at, author, comment"
_ADD = (
    f"INSERT INTO silences (blueprint, entity, {_COPIED}) SELECT $1, $3, {_COPIED} FROM silences"
    f" WHERE NOT settled AND blueprint = '{ANY}' AND entity = $2 AND hours = ''"
)
SILENCES_FOLLOW = (
    _ADD,  # others may have an entity of that name: one of every blueprint stays
    "UPDATE silences SET entity = $3 WHERE NOT settled AND blueprint = $1 AND entity = $2",
)
"""What lets silences follow `Group.renames`."""


def entity_of(change: CatalogChange) -> EntityKey:
    """Take the entity that a change is about, as the stores write it."""
    return _storable(change.blueprint), _storable(change.entity)


def former_of(change: CatalogChange) -> EntityKey | None:
    """Take the entity's key before a change that renamed it; None: it did not."""
    former = change.former
    return None if former is None else (_storable(change.blueprint), _storable(former))


def _storable(name: str) -> str:
    # As PostgreSQL stores it: the same entity must be found again.
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ends(incident: Incident, change: CatalogChange, now: datetime) -> list[Alert]:
    """Tell, wherever it was told, that another incident goes on for it: pagers know each by its own id."""
    if waits(incident, now):
        return []
    about = Notification.about(
        change, None, (), rule=incident.rule, step=Step.RESOLVED, severity=incident.severity
    )
    closing = about.but(opened_at=incident.opened_at, version=incident.version)
    closing = closing.closing("its entity has another name, under which an incident is open", change.at)
    places = [place for place in incident.told_so_far if Step.RESOLVED in place.steps]
    return [Alert.to(place, closing, incident.id) for place in places]


@dataclass(slots=True)
class Group:
    """Changes with what they lead to.

    Attributes:
        last_at: When the newest change of each entity happened.
        incidents: Of each entity those that are open or remembered, by id.
        known: The last known state of the entities that are watched.
        changes: What is to be stored, with the decision.
        new: The entities of which nothing was stored before.
        moved: The incidents that opened or moved, by id.
        cancelled: The incidents whose later alerts are cancelled, by id, and since when.
        alerts: What is to be sent: the change's key, the alert, and the time.
        ended: Which of these, by place, are cancelled already, and since when.
        last_known: The last known state of entities from now on.
        renamed: The incidents whose entity was renamed, by id, with the change that did it.
        family: What incidents have to do with those of other entities; None: nothing.
    """

    last_at: dict[EntityKey, datetime | None] = field(default_factory=dict)
    incidents: dict[EntityKey, dict[str, Incident]] = field(default_factory=dict)
    known: dict[EntityKey, LastKnown] = field(default_factory=dict)
    changes: list[tuple[Incoming, Decision]] = field(default_factory=list)
    new: set[EntityKey] = field(default_factory=set)
    moved: dict[str, Incident] = field(default_factory=dict)
    cancelled: dict[str, Micros] = field(default_factory=dict)
    alerts: list[tuple[str, Alert, Micros]] = field(default_factory=list)
    ended: dict[int, Micros] = field(default_factory=dict)
    last_known: dict[EntityKey, LastKnown] = field(default_factory=dict)
    renamed: dict[str, CatalogChange] = field(default_factory=dict)
    family: FamilyState | None = None
    _later: dict[str, list[int]] = field(default_factory=dict, init=False)

    def take(self, batch: Sequence[tuple[EntityKey, Incoming]], seen: dict[str, int]) -> list[Accepted]:
        """Decide on each change in turn, and give what became of it.

        Args:
            batch: The changes, with their entities as the store writes them.
            seen: How many alerts each change has that is stored, by its key; what is new is added.
        """
        accepted = []
        for entity, incoming in batch:
            key = incoming.change.key
            if key in seen:
                accepted.append(Accepted(key, seen[key], duplicate=True))
                continue
            decision = self._decide(entity, incoming)
            if decision.overtaken:
                accepted.append(Accepted(key, 0, duplicate=False, stored=False))
                continue
            seen[key] = len(decision.alerts)
            accepted.append(
                Accepted(
                    key,
                    seen[key],
                    duplicate=False,
                    already_alerted=decision.already_alerted,
                    queues=frozenset([alert.queue for alert in decision.alerts]),
                )
            )
        return accepted

    @property
    def moves(self) -> list[Incident]:
        """The incidents that moved, those that ended first: of a rule an entity has one that is open."""
        return sorted(self.moved.values(), key=lambda incident: (incident.resolved_at is None, incident.id))

    @property
    def renames(self) -> list[tuple[str, str, str]]:
        """The blueprint, the former and the new name of each entity that was renamed, as patterns."""
        changes = (taken.change for taken, _ in self.changes)
        pairs = ((former, entity_of(each)[1]) for each in changes if (former := former_of(each)))
        return [(glob.escape(former[0]), glob.escape(former[1]), glob.escape(name)) for former, name in pairs]

    def _decide(self, entity: EntityKey, incoming: Incoming) -> Decision:
        change, last_at = incoming.change, self.last_at.get(entity)
        incidents = self.incidents.setdefault(entity, {})
        since = change.at - MEMORY
        remembered = tuple(
            [each for each in incidents.values() if not each.resolved_at or each.resolved_at >= since]
        )
        known = self.known.get(entity) if incoming.watched else None
        causes: Causes = {}
        if self.family is not None and incoming.kins:
            causes = self.family.causes(incoming.kins, known, incidents)
        former, state = former_of(change), EntityState(last_at, remembered, known, causes, incoming.step)
        if former is not None and former != entity:
            return self._renamed(entity, former, incoming, state)
        return self._take_in(entity, incoming, incoming.decide(state))

    def _renamed(
        self, entity: EntityKey, former: EntityKey, incoming: Incoming, state: EntityState
    ) -> Decision:
        """Decide on a change that renamed its entity: what is open and known goes on under the new name."""
        change, known = incoming.change, state.known
        here = {incident.rule: incident for incident in state.incidents if incident.resolved_at is None}
        taken: dict[str, Incident] = {}
        ends: list[Alert] = []
        for incident in self.incidents.get(former, {}).values():
            if incident.resolved_at is not None:
                continue
            taken[incident.id] = incident.but(entity=entity[1])
            if other := here.get(incident.rule):  # an entity has one that is open: it ends for both
                taken[incident.id] = taken[incident.id].over(change.at).but(version=incident.version + 1)
                ends += _ends(incident, change, incoming.received_at)
                # A job has a queue by the entity's name: the same one must not be told in two.
                taken[other.id] = other.told_as(incident)
        if (before := self.known.get(former)) and not before.gone and (known is None or known.gone):
            known = replace(before, version=known.version + 1 if known else 1)
        incidents = {incident.id: incident for incident in state.incidents} | taken
        decision = incoming.decide(replace(state, incidents=tuple(incidents.values()), known=known))
        if decision.overtaken:
            return decision
        for name, incident in taken.items():
            self.incidents[former].pop(name, None)
            if incident.resolved_at:  # the one that is left has its own
                self._merge(incoming, incident)
        self.incidents[entity].update(taken)
        self.moved.update(taken)
        self.renamed |= dict.fromkeys(taken, change)
        self.alerts = [
            (key, replace(alert, notification=alert.notification.renamed(change)), at)
            if alert.incident_id in taken
            else (key, alert, at)
            for key, alert, at in self.alerts
        ]
        if incoming.watched and before and not before.gone:
            at = to_micros(change.at)
            self.known[former] = self.last_known[former] = gone(before, at, to_micros(incoming.received_at))
            if known is not None:
                self.known[entity] = self.last_known[entity] = known
        reason = f"renamed from {former[1]!r}: what was open goes on; {decision.reason}"
        decision = decision.but(alerts=(*ends, *decision.alerts), reason=reason)
        return self._take_in(entity, incoming, decision)

    def _merge(self, incoming: Incoming, incident: Incident) -> None:
        """Let an incident end that goes on as another one."""
        self._cancel(incident.id, to_micros(incoming.received_at))
        if self.family is not None:
            self.family.leave(len(self.changes), incoming, incident)

    def _take_in(self, entity: EntityKey, incoming: Incoming, decision: Decision) -> Decision:
        """Take what a change leads to into the group."""
        if decision.overtaken:
            return decision
        change, last_at, incidents = incoming.change, self.last_at.get(entity), self.incidents[entity]
        self.changes.append((incoming, decision))
        if last_at is None:
            self.new.add(entity)
        self.last_at[entity] = max(change.at, last_at or change.at)
        if self.family is not None:
            self.family.take(len(self.changes) - 1, incoming, incidents, decision)
        self.lead_to(change.key, incidents, decision, to_micros(incoming.received_at))
        if decision.known is not None:
            self.known[entity] = self.last_known[entity] = decision.known
        return decision

    def lead_to(
        self, key: str, incidents: dict[str, Incident], decision: Decision, received_at: Micros
    ) -> None:
        """Take in what a decision leads to.

        Args:
            key: The change that it belongs to.
            incidents: The incidents of the entity that it is about, by id.
            decision: The decision.
            received_at: When the change arrived.
        """
        for incident_id in decision.cancel:
            if incident_id in incidents:  # a new one has no alerts to cancel
                self._cancel(incident_id, received_at)
        for incident in decision.incidents:
            incidents[incident.id] = self.moved[incident.id] = incident
        for alert in decision.alerts:
            if alert.incident_id and (alert.due_at or alert.repeat):
                self._later.setdefault(alert.incident_id, []).append(len(self.alerts))
            self.alerts.append((key, alert, received_at))

    def _cancel(self, incident_id: str, now: Micros) -> None:
        """Cancel an incident's later alerts; an alert that was never to wait goes out."""
        self.cancelled[incident_id] = min(now, self.cancelled.get(incident_id, now))
        for place in self._later.get(incident_id, ()):
            _, alert, _ = self.alerts[place]
            if alert.repeat is not None or (alert.due_at and to_micros(alert.due_at) > now):
                self.ended.setdefault(place, now)
