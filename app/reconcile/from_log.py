"""What Port's audit log has of changes that never came: each goes through the same decide and store.

It tells what a comparison cannot see: who did it, when, and what was in between. Where it does not answer, or
not in a way that can be understood, comparing does.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from app.errors import PortError, UnreadableChange
from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.diff import diff
from app.port.audit_log import Missed, missed_changes
from app.port.client import PortClient
from app.receive.intake import Listener, match_and_route
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import OVERTAKEN, Decision, EntityState, decide
from app.rules.last_known import NEARBY, heard, micros, told_by_log
from app.rules.match import Match
from app.rules.watched import Watched
from app.store.rows import Incoming

log = structlog.get_logger(__name__)

LONGEST = timedelta(days=1)
"""How far back the log is asked."""
OVERLAP = timedelta(minutes=5)
"""Before the last run began: the log may be behind. What is known of it is not told again."""
GRACE = timedelta(seconds=5)
"""What happened so shortly ago is left to its webhook, which may be on its way."""
RUNS = 100
AT_ONCE = 50


@dataclass(slots=True)
class AuditLog:
    """Tells the changes that Port's audit log has, and the store has not.

    Attributes:
        listener: Its rules decide, its store keeps.
        client: Port's API; a patient one.
    """

    listener: Listener
    client: PortClient
    _said: bool = False

    async def tell(self) -> AsyncIterator[int]:
        """Let each through the rules, oldest first, and yield, from time to time, how many were news.

        Raises:
            StoreUnavailable: The store cannot do it now; what was yielded before is stored.
        """
        missed = await self.missed()
        until = _until(missed)
        for start in range(0, len(missed), AT_ONCE):
            some = zip(missed[start : start + AT_ONCE], until[start : start + AT_ONCE], strict=True)
            found = [await self._incoming(one, lasted) for one, lasted in some]
            batch = [one for one in found if one is not None]
            accepted = await self.listener.store.accept(batch) if batch else []
            if any(one.alerts and not one.duplicate for one in accepted):
                self.listener.wake()
            stored = [one for one in accepted if one.stored and not one.duplicate]
            for one in stored:
                log.info("missed change told", change=one.key, alerts=one.alerts)
            # Of some a comparison has told before, and has counted them.
            yield sum(not one.noticed for one in stored)
            await asyncio.sleep(0)

    async def missed(self) -> list[Missed]:
        """Return the changes that the log has and the store has not, oldest first; none where it says none.

        Only those since the last comparison, and since their blueprint was read: older ones are no news.

        Raises:
            StoreUnavailable: The store cannot do it now.
        """
        now, watched = self.listener.clock(), self.listener.book.watched
        learned = await self.listener.store.reconciling.learned()
        names = [name for name in watched if name in learned]
        since, until = await self._since(now), now - GRACE
        if not names or since >= until:
            return []
        try:
            told = await missed_changes(self.client, names, since, until)
        except (PortError, UnreadableChange) as error:
            if not self._said:
                log.info("Port's audit log does not tell what was missed: comparing does", reason=str(error))
            self._said = True
            return []
        self._said = False
        keys = {one.change.key for one in told}
        return [
            one
            for one in told
            if one.change.at >= learned[one.change.blueprint]
            and not await self._stored(one.change, watched[one.change.blueprint], keys)
        ]

    async def _since(self, now: datetime) -> datetime:
        """Return the time up to which all is known."""
        runs = await self.listener.store.reconciling.runs(limit=RUNS)
        last = next((one.started_at for one in runs if one.ended_at and not one.error), now - LONGEST)
        return max(last - OVERLAP, now - LONGEST)

    async def _stored(self, change: CatalogChange, watched: Watched, keys: Collection[str]) -> bool:
        """Tell whether the store has a change, be it in other words than the log's, which have these keys."""
        near = timedelta(microseconds=NEARBY)
        stored = await self.listener.store.reconciling.stored(
            change.blueprint, change.entity, since=change.at - near, until=change.at + near
        )
        if change.key in stored:
            return True
        others = (parse_event(Signed(body, change.at)) for key, body in stored.items() if key not in keys)
        return any(_essence(one, watched) == _essence(change, watched) for one in others)

    async def _incoming(self, one: Missed, until: datetime | None) -> Incoming | None:
        """Return a change on its way into the store; `until`: when the next one of its entity happened."""
        listener, change = self.listener, one.change
        now = listener.clock()
        matched = await match_and_route(change, one.body, listener.book, listener.evaluate, listener.look_up)
        watched = matched.watched
        if watched is None:  # the rules were replaced meanwhile
            return None

        def decided(state: EntityState) -> Decision:
            if heard(state.known, change, matched.changes, watched):
                return OVERTAKEN
            # As it would have been decided then: `for` and `flap` go by the times of what happened.
            decision = decide(matched, state, change.at)
            alerts = tuple(replace(alert, due_at=_due_at(alert, until, now)) for alert in decision.alerts)
            return _told(replace(decision, alerts=alerts), matched, state)

        return Incoming(change, one.body, now, decided, watched=True)


def _told(decision: Decision, matched: Match, state: EntityState) -> Decision:
    """Return a decision that says where its change comes from, and that remembers what it told."""
    decision = replace(decision, reason=f"from Port's audit log; {decision.reason}")
    known = decision.known or state.known
    if known is None:
        return decision
    known = told_by_log(known, matched.change, [hit.rule for hit in matched.hits])
    version, moved_at = (state.known.version, state.known.moved_at) if state.known else (0, 0)
    # It moved when it happened, not now: what Port lists from now on is no older than that.
    moved_at = max(moved_at, micros(matched.change.at))
    return replace(decision, known=replace(known, version=version + 1, moved_at=moved_at))


def _until(missed: Sequence[Missed]) -> list[datetime | None]:
    """Return for each change when the next one of its entity happened; None: it was the last."""
    following: dict[tuple[str, str], datetime] = {}
    until = []
    for one in reversed(missed):
        entity = (one.change.blueprint, one.change.entity)
        until.append(following.get(entity))
        following[entity] = one.change.at
    return until[::-1]


def _due_at(alert: Alert, until: datetime | None, now: datetime) -> datetime | None:
    """Return when to tell what was to be told some time after its change, which may be long ago by now."""
    if alert.due_at is None:
        return None
    if alert.repeat:
        return max(alert.due_at, now + alert.repeat)
    if alert.due_at <= (until or now):
        return None  # nothing came in between
    return max(alert.due_at, now + GRACE)  # the next change, which comes at once, may take it back


def _essence(change: CatalogChange, watched: Watched) -> tuple[str, list[tuple[object, ...]]]:
    """Return what two tellings of one change have in common."""
    changes = diff(change.before, change.after) if change.before and change.after else ()
    return change.action, [
        (one.path, one.before, one.after) for one in changes if ".".join(one.path[:2]) in watched
    ]
