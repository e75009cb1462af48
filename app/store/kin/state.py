"""What incidents have to do with those of other entities, while a group of changes is decided.

A change that opens or moves an incident which another may explain holds the lock of that one's entity, too:
nobody else opens or ends it meanwhile.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.model.change import DELETE
from app.model.incident import Incident, Tie
from app.rules.decide import Decision
from app.rules.kin.quiet import Causes
from app.rules.kin.ties import Kin
from app.rules.last_known import LastKnown
from app.store.rows import Incoming

TieKey = tuple[str, str, str]


@dataclass(slots=True)
class FamilyState:
    """What is known of other entities' incidents.

    Attributes:
        open: The open incidents above those of a group, by what they are found by.
        above: The incident that each quiet incident is quiet under, by id; None: it is not quiet.
        tied: The ties of incidents as they are stored.
        moved: The incidents that moved, as they are now, by id.
        leads: Those of `moved` that may explain others, and how those that ended did.
        hushed: The incidents that became quiet though they were to alert, and under which.
        released: Those that were quiet, and are not any more, with the reason.
        stirred: The incidents of which what is quiet under them, or open in them, changed.
        fresh: Those of `moved` that opened and may be quiet, with the number of the change that opened each:
            nobody was alerted of them yet.
        touched: The groups whose members changed, with the number of the change that did so last; of those
            that say where the group's incident would be alerted, if there are any.
        limits: Of open incidents of groups how many open members open and end them, by id, where it changed.
    """

    open: dict[TieKey, str] = field(default_factory=dict)
    above: dict[str, str | None] = field(default_factory=dict)
    tied: dict[str, tuple[Tie, ...]] = field(default_factory=dict)
    moved: dict[str, Incident] = field(default_factory=dict)
    leads: dict[str, str] = field(default_factory=dict)
    hushed: dict[str, str] = field(default_factory=dict)
    released: dict[str, str] = field(default_factory=dict)
    stirred: set[str] = field(default_factory=set)
    fresh: dict[str, int] = field(default_factory=dict)
    touched: dict[TieKey, int] = field(default_factory=dict)
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)

    def causes(self, kins: Iterable[Kin], known: LastKnown | None, own: Mapping[str, Incident]) -> Causes:
        """Give what is open above an entity, but for what is itself quiet under its incidents."""
        causes = {}
        for key in {tie.key for kin in kins for tie in kin.ties(known)}:
            incident_id = self.open.get(key)
            if incident_id is not None and not self._is_below(incident_id, own):
                causes[key] = incident_id
        return causes

    def _is_below(self, incident_id: str | None, others: Mapping[str, Incident]) -> bool:
        seen = set()
        while incident_id is not None and incident_id not in seen:
            if incident_id in others:
                return True
            seen.add(incident_id)
            incident_id = self.above.get(incident_id)
        return False

    def take(
        self, number: int, incoming: Incoming, incidents: Mapping[str, Incident], decision: Decision
    ) -> None:
        """Take in what a change, the one of this number, leads to, given its entity's incidents before."""
        for after in decision.incidents if incoming.kins else ():
            before = incidents.get(after.id)
            leads = any(kin.leads and kin.rule.name == after.rule for kin in incoming.kins)
            how = "was deleted" if incoming.change.action == DELETE else "is resolved"
            self.move(number, before, after, leads=leads, how=how, replaced=after.id in decision.cancel)
            self._touch(number, incoming, (*(before.ties if before else ()), *after.ties))

    def leave(self, number: int, incoming: Incoming, merged: Incident) -> None:
        """Take in that an incident ends since another one, of its entity's new name, goes on for it."""
        self.moved[merged.id] = merged.but(ties=())
        self._touch(number, incoming, merged.ties)

    def _touch(self, number: int, incoming: Incoming, ties: Iterable[Tie]) -> None:
        # Those of a rule that is gone are closed by who reads the rules.
        asked = {group.name: group.name in kin.asked for kin in incoming.kins for group in kin.groups}
        for tie in ties:
            if asked.get(tie.rule) or (tie.rule in asked and tie.key not in self.touched):
                self.touched[tie.key] = number

    def move(
        self, number: int, before: Incident | None, after: Incident, *, leads: bool, how: str, replaced: bool
    ) -> None:
        """Take in that an incident opened or moved.

        Args:
            number: The number of the change that it did so by.
            before: The incident before; None: it is new.
            after: The incident now.
            leads: It may explain others.
            how: How it ended, if it did.
            replaced: Its alerts were replaced.
        """
        key, is_open = (after.rule, after.blueprint, after.entity), after.resolved_at is None
        was_open = before is not None and before.resolved_at is None
        if is_open:
            self.open[key], self.above[after.id] = after.id, after.quiet
        else:
            self.open.pop(key, None)
            self.above.pop(after.id, None)
        self.moved[after.id] = after
        if leads:
            self.leads[after.id] = "" if is_open else how
        if not any(tie.quiets for tie in after.ties):  # too bad to be quiet, or nothing could explain it
            self.fresh.pop(after.id, None)
        elif is_open and not was_open and not after.flapping:
            self.fresh[after.id] = number
        quiet = before.quiet if before is not None and was_open else None
        self.stirred |= {cause for cause in (quiet, after.quiet) if cause is not None}
        # Where its alerts were replaced they are as they should be.
        if not (is_open and was_open) or replaced or quiet == after.quiet:
            self.hushed.pop(after.id, None)
            self.released.pop(after.id, None)
        elif after.quiet is not None:
            self.hushed[after.id] = after.quiet
            self.released.pop(after.id, None)
        else:
            self.released[after.id] = "it depends on something else now"
            self.hushed.pop(after.id, None)
