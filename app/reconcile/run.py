"""One run: every entity of Port that the rules name is compared with its last known state."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from app.errors import PortError, UnreadableChange
from app.port.client import PortClient
from app.port.listing import DescribedBlueprint, ListedEntity, read_blueprint, read_entity
from app.receive.event import Json
from app.receive.intake import Intake, Reconciled
from app.receive.signature import Signed
from app.reconcile.difference import EntityDifference, compare, compare_absent
from app.rules.last_known import LastKnown, canonical
from app.rules.watched import Watched
from app.store import queries
from app.store.views import ReconcileProgress

log = structlog.get_logger(__name__)

PAGE_ENTITIES = 1_000  # the most that Port gives
WHOLE_PAGE_ENTITIES = 200  # with all that they have, entities may be large
ENTITIES_BETWEEN_PAUSES = 50  # requests wait no longer than comparing these takes
STATES_AT_ONCE = 500
ASKED_AT_ONCE = 100
SECONDS_BETWEEN_REPORTS = 10.0
COMPARE_TRIES = 3


@dataclass(slots=True)
class ReconcileRun:
    """One run over all blueprints that the rules name.

    Attributes:
        intake: Its rules decide, its store keeps.
        client: Port's API; a patient one.
        dry: Store nothing and alert nobody.
        alert: In a blueprint that is read for the first time, alert of what is wrong, too.
        share: The share of its time that the process gives to this; the rest is for its requests.
        expected: How many entities there were the last time; 0: not known.
        progress: How far it is.
    """

    intake: Intake
    client: PortClient
    dry: bool = False
    alert: bool = False
    share: float = 1.0
    expected: int = 0
    progress: ReconcileProgress = field(default_factory=ReconcileProgress)

    async def differences(self) -> AsyncGenerator[EntityDifference, None]:
        """Compare, and yield each difference once it is stored.

        Raises:
            PortError: Port does not answer, or refuses; what was yielded before is stored.
            StoreUnavailable: The store cannot do it now.
        """
        # The rules may be replaced meanwhile: the next run goes by the new ones.
        book = self.intake.book
        store = self.intake.store
        # What no rule names any more is forgotten, a part at a time: other writes need not wait long.
        forgotten = 0 if self.dry else 1
        while forgotten:
            forgotten = await store.write(
                queries.last_known.forget_others, book.watched, limit=STATES_AT_ONCE
            )
        baselines = await store.read(queries.reconcile.baselines)
        for name, watched in book.watched.items():
            blueprint = await self.client.get_blueprint(name)
            if blueprint is None:
                log.warning("blueprint_not_in_port", blueprint=name)
                continue
            new = name not in baselines
            reading = _BlueprintReading(self, name, watched, read_blueprint(blueprint), new)
            async for difference in reading.differences():
                yield difference
            # Only after its end: a first reading that was stopped is a first reading again.
            if not self.dry:
                await store.write(queries.reconcile.mark_baseline, name)

    def count(self, **more: int) -> None:
        """Add to the progress."""
        now = self.progress
        self.progress = replace(now, **{name: getattr(now, name) + number for name, number in more.items()})


@dataclass(slots=True)
class _BlueprintReading:
    """The part of a run that is about one blueprint; `new`: it was never read to its end before."""

    run: ReconcileRun
    name: str
    watched: Watched
    described: DescribedBlueprint
    new: bool
    _seen: set[str] = field(default_factory=set)
    _worked_seconds: float = 0.0

    async def differences(self) -> AsyncIterator[EntityDifference]:
        began = logged = time.monotonic()
        async for asked_at, entities in self._pages():
            for start in range(0, len(entities), ENTITIES_BETWEEN_PAUSES):
                worked = time.perf_counter()
                listed = self._read(entities[start : start + ENTITIES_BETWEEN_PAUSES])
                self._worked_seconds += time.perf_counter() - worked
                async for difference in self._compare(listed, asked_at):
                    yield difference
                self.run.count(entities=len(listed))
                await self._rest()
            if time.monotonic() - logged > SECONDS_BETWEEN_REPORTS:
                logged = time.monotonic()
                self._log_progress(logged - began)
        async for difference in self._look_for_the_missing():
            yield difference

    def _log_progress(self, seconds: float) -> None:
        done, expected = self.run.progress.entities, self.run.expected
        left = round(seconds / done * (expected - done)) if done and expected > done else None
        log.info(
            "reconcile_progress", blueprint=self.name, entities=done, of=expected or None, seconds_left=left
        )

    async def _pages(self) -> AsyncIterator[tuple[datetime, list[Json]]]:
        search, include = self.run.client.search_entities, self.described.include(self.watched)
        limit = PAGE_ENTITIES if include else WHOLE_PAGE_ENTITIES
        after: str | None = None
        while True:
            # Before the request: a change during it is judged by the next run.
            asked_at = self.run.intake.clock()
            page = await search(self.name, [], limit=limit, after=after, include=include)
            yield asked_at, page.entities
            after = page.next
            if not after:
                return

    def _read(self, entities: Sequence[Json]) -> dict[str, ListedEntity]:
        """Read entities by identifier; one that cannot be read is left out, but it counts as seen."""
        readable = {}
        for entity in entities:
            # Else the next step would take it for deleted.
            if isinstance(entity, dict):
                self._seen.add(str(entity.get("identifier")))
            try:
                listed = read_entity(entity, self.name)
            except UnreadableChange as error:
                log.warning("entity_unreadable", blueprint=self.name, reason=str(error))
                continue
            readable[listed.entity.identifier] = listed
        return readable

    async def _rest(self) -> None:
        """Leave the process to its requests, for as long as the share asks for."""
        pause = self._worked_seconds * (1 / self.run.share - 1)
        self._worked_seconds = 0.0
        await asyncio.sleep(pause)

    async def _compare(
        self, listed: Mapping[str, ListedEntity], asked_at: datetime
    ) -> AsyncIterator[EntityDifference]:
        store, whole = self.run.intake.store, self.watched.fields is None
        worked = time.perf_counter()
        pending = {name: canonical(self.watched.values(entity.entity)) for name, entity in listed.items()}
        self._worked_seconds += time.perf_counter() - worked
        for _ in range(COMPARE_TRIES):
            states = await store.read(queries.last_known.differing, self.name, pending, whole=whole)
            worked = time.perf_counter()
            to_record, differing = self._judge(states, listed, asked_at)
            self._worked_seconds += time.perf_counter() - worked
            # Where a change came in between, once more: after a first reading all must have a state.
            pending = {entity: pending[entity] for entity in await self._record(to_record)}
            async for difference in self._take_in(differing):
                yield difference
            if not pending:
                return

    def _judge(
        self, states: Mapping[str, LastKnown | None], listed: Mapping[str, ListedEntity], asked_at: datetime
    ) -> tuple[dict[str, LastKnown], list[EntityDifference]]:
        """Compare entities; return the states to record, and the differences."""
        to_record: dict[str, LastKnown] = {}
        differing = []
        now = self.run.intake.clock()
        for entity, known in states.items():
            compared = compare(
                known,
                listed[entity],
                self.watched,
                asked_at=asked_at,
                first=self.new,
                alert=self.run.alert,
                now=now,
                ahead=self.run.client.ahead,
                computed=self.described.computed,
            )
            if isinstance(compared, LastKnown):
                to_record[entity] = compared
            elif compared is not None:
                differing.append(compared)
        return to_record, differing

    async def _record(self, states: Mapping[str, LastKnown]) -> list[str]:
        """Record states; return the entities of which a change came in between."""
        late: list[str] = []
        if states and not self.run.dry:
            late = await self.run.intake.store.write(queries.last_known.record_states, self.name, states)
        new = (entity for entity, state in states.items() if state.version == 1 and entity not in late)
        self.run.count(recorded=sum(1 for _ in new))
        return late

    async def _look_for_the_missing(self) -> AsyncIterator[EntityDifference]:
        """Ask for those that have a state and were not listed; a page that moved may have left one out."""
        store, last = self.run.intake.store, ""
        while page := await store.read(
            queries.last_known.last_known_after, self.name, last, limit=STATES_AT_ONCE
        ):
            last = page[-1][0]
            absent = {entity: known for entity, known in page if entity not in self._seen}
            names = list(absent)
            for start in range(0, len(names), ASKED_AT_ONCE):
                asked = {name: absent[name] for name in names[start : start + ASKED_AT_ONCE]}
                async for difference in self._ask_for(asked):
                    yield difference
            await asyncio.sleep(0)  # a page with nothing absent asks Port nothing, and would never wait

    async def _ask_for(self, absent: Mapping[str, LastKnown]) -> AsyncIterator[EntityDifference]:
        asked_at = self.run.intake.clock()
        include = self.described.include(self.watched)
        rule = {"property": "$identifier", "operator": "in", "value": list(absent)}
        page = await self.run.client.search_entities(self.name, [rule], limit=PAGE_ENTITIES, include=include)
        listed = self._read(page.entities)
        async for difference in self._compare(listed, asked_at):
            yield difference
        gone: dict[str, LastKnown] = {}
        differing = []
        for entity, known in absent.items():
            if entity in self._seen:
                continue
            record_only = self.new and not self.run.alert
            compared = compare_absent(
                self.name,
                entity,
                known,
                asked_at=asked_at,
                now=self.run.intake.clock(),
                record_only=record_only,
                ahead=self.run.client.ahead,
            )
            if isinstance(compared, LastKnown):
                gone[entity] = compared
            elif compared is not None:
                differing.append(compared)
        # One is enough to see whether the search can be trusted.
        if gone or differing:
            await self._demand_gone([*gone, *(difference.entity for difference in differing)][0])
        await self._record(gone)
        async for difference in self._take_in(differing):
            yield difference

    async def _demand_gone(self, entity: str) -> None:
        """Ask in another way for one of those that the search does not have: the search may be wrong.

        An index that is being rebuilt, or credentials that may read less, must not end all incidents.

        Raises:
            PortError: It is there.
        """
        if await self.run.client.get_entity(self.name, entity) is not None:
            raise PortError(
                f"search of {self.name}",
                f"it leaves out {entity}, which exists",
                "Nothing is taken for deleted; the next run looks again",
            )

    async def _take_in(self, differing: Sequence[EntityDifference]) -> AsyncIterator[EntityDifference]:
        """Take differences in as changes, and yield those that no other change came before."""
        for difference in differing:
            if self.run.dry or await self._is_taken_in(difference):
                self.run.count(differences=1, missed=difference.missed)
                yield difference

    async def _is_taken_in(self, difference: EntityDifference) -> bool:
        now = self.run.intake.clock()
        reconciled = Reconciled(self.watched, difference.version, first_reading=self.new)
        try:
            # By Port's clock, as of a webhook: ours may be behind, and make it look older than it is.
            signed = Signed(difference.body(now), max(now, difference.at))
            accepted = await self.run.intake.accept(signed, reconciled)
        finally:
            # The run's own log lines are about no change.
            structlog.contextvars.unbind_contextvars("change")
        return accepted.stored and not accepted.duplicate
