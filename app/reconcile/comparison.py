"""One comparison of Port's entities with their last known state."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from app.errors import PortError, UnreadableChange
from app.port.client import PortClient
from app.port.listing import Described, Listed, chosen, read_blueprint, read_entity
from app.port.request import Json
from app.receive.intake import Listener
from app.reconcile.compare import Found, Verdict, compare, missing
from app.reconcile.difference import Difference, deletion_of, difference_of
from app.reconcile.telling import tell
from app.rules.last_known import Known, canonical
from app.rules.watched import Watched
from app.store.reconciling import Progress

log = structlog.get_logger(__name__)

PAGE = 1_000  # the most that Port gives
PAGE_OF_WHOLE = 200  # entities with all that they have may be large
AT_ONCE = 50  # entities between two pauses: requests wait no longer than these take
KNOWN_AT_ONCE = 500
ASKED_AT_ONCE = 100
SAY_EVERY_SECONDS = 10.0
TRIES = 3


@dataclass(slots=True)
class Comparison:
    """One run over all blueprints that the rules name.

    Attributes:
        listener: Its rules decide, its store keeps.
        client: Port's API; a patient one.
        dry: Store nothing and tell nobody.
        alert: Of a blueprint that is read for the first time, tell what is wrong in it, too.
        share: The share of its time that the process gives to this; the rest is for its requests.
        expected: How many entities there were the last time; 0: nobody knows.
        progress: How far it is.
    """

    listener: Listener
    client: PortClient
    dry: bool = False
    alert: bool = False
    share: float = 1.0
    expected: int = 0
    progress: Progress = field(default_factory=Progress)

    async def differences(self) -> AsyncGenerator[Difference, None]:
        """Compare, and yield each difference once it is stored.

        Raises:
            PortError: Port does not answer, or refuses; what was yielded before is stored.
            StoreUnavailable: The store cannot do it now.
        """
        # The rules may be replaced meanwhile: the next run goes by the new ones.
        book = self.listener.book
        reconciling = self.listener.store.reconciling
        forgotten = 0 if self.dry else 1
        while forgotten:
            forgotten = await reconciling.forget(book.watched, limit=KNOWN_AT_ONCE)
        learned = await reconciling.learned()
        for name, watched in book.watched.items():
            found = await self.client.get_blueprint(name)
            if found is None:
                log.warning("a rule names a blueprint that Port does not have", blueprint=name)
                continue
            one = _Blueprint(self, name, watched, read_blueprint(found), new=name not in learned)
            async for difference in one.differences():
                yield difference
            if not self.dry:
                await reconciling.mark_learned(name)

    def count(self, **more: int) -> None:
        """Add to the progress."""
        now = self.progress
        self.progress = replace(now, **{name: getattr(now, name) + one for name, one in more.items()})


@dataclass(slots=True)
class _Blueprint:
    """The part of a run that is about one blueprint; `new`: it was never read to its end before."""

    run: Comparison
    name: str
    watched: Watched
    described: Described
    new: bool
    _seen: set[str] = field(default_factory=set)
    _worked: float = 0.0

    @property
    def _first(self) -> bool:
        """Whether everything is only learned."""
        return self.new and not self.run.alert

    async def differences(self) -> AsyncIterator[Difference]:
        began = said = time.monotonic()
        async for asked_at, entities in self._pages():
            for start in range(0, len(entities), AT_ONCE):
                worked = time.perf_counter()
                listed = self._read(entities[start : start + AT_ONCE])
                self._worked += time.perf_counter() - worked
                async for difference in self._compare(listed, asked_at):
                    yield difference
                self.run.count(entities=len(listed))
                await self._rest()
            if time.monotonic() - said > SAY_EVERY_SECONDS:
                said = time.monotonic()
                self._say(said - began)
        async for difference in self._look_for_the_missing():
            yield difference

    def _say(self, seconds: float) -> None:
        done, expected = self.run.progress.entities, self.run.expected
        left = round(seconds / done * (expected - done)) if done and expected > done else None
        log.info(
            "comparing with Port", blueprint=self.name, entities=done, of=expected or None, seconds_left=left
        )

    async def _pages(self) -> AsyncIterator[tuple[datetime, list[Json]]]:
        include = self.described.include(self.watched)
        limit = PAGE if include else PAGE_OF_WHOLE
        after: str | None = None
        while True:
            asked_at = self.run.listener.clock()
            page = await self.run.client.search_entities(
                self.name, [], limit=limit, after=after, include=include
            )
            yield asked_at, page.entities
            after = page.next
            if not after:
                return

    def _read(self, entities: Sequence[Json]) -> dict[str, Listed]:
        """Return entities by identifier; one that cannot be read is left out, but it was seen."""
        found = {}
        for entity in entities:
            if isinstance(entity, dict):
                self._seen.add(str(entity.get("identifier")))
            try:
                listed = read_entity(entity, self.name)
            except UnreadableChange as error:
                log.warning("unreadable entity left out", blueprint=self.name, reason=str(error))
                continue
            found[listed.entity.identifier] = listed
        return found

    async def _rest(self) -> None:
        """Leave the process to its requests, for as long as the share asks for."""
        pause = self._worked * (1 / self.run.share - 1)
        self._worked = 0.0
        await asyncio.sleep(pause)

    async def _compare(self, listed: Mapping[str, Listed], asked_at: datetime) -> AsyncIterator[Difference]:
        reconciling, whole = self.run.listener.store.reconciling, self.watched.fields is None
        worked = time.perf_counter()
        pending = {name: canonical(self.watched.values(one.entity)) for name, one in listed.items()}
        self._worked += time.perf_counter() - worked
        for _ in range(TRIES):
            known = await reconciling.differing(self.name, pending, whole=whole)
            learn: dict[str, Known] = {}
            differing = []
            now = self.run.listener.clock()
            worked = time.perf_counter()
            for entity, one in known.items():
                found = compare(
                    one,
                    listed[entity],
                    self.watched,
                    asked_at=asked_at,
                    first=self._first,
                    now=now,
                    computed=self.described.computed,
                )
                if found.verdict is Verdict.LEARN and found.known:
                    learn[entity] = found.known
                elif found.verdict in (Verdict.CREATED, Verdict.UPDATED):
                    differing.append(self._difference(found, one, listed[entity], asked_at))
            self._worked += time.perf_counter() - worked
            # Where a change came in between, once more: after a first run all must be known.
            pending = {entity: pending[entity] for entity in await self._learn(learn)}
            async for difference in self._tell(differing):
                yield difference
            if not pending:
                return

    def _difference(
        self, found: Found, known: Known | None, listed: Listed, asked_at: datetime
    ) -> Difference:
        return difference_of(
            found, known, listed, self.watched, self.described, asked_at=asked_at, first=self.new
        )

    async def _learn(self, known: Mapping[str, Known]) -> list[str]:
        """Take note of states, and return the entities of which a change came in between."""
        late: list[str] = []
        if known and not self.run.dry:
            late = await self.run.listener.store.reconciling.learn(self.name, known)
        new = (entity for entity, one in known.items() if one.version == 1 and entity not in late)
        self.run.count(learned=sum(1 for _ in new))
        return late

    async def _look_for_the_missing(self) -> AsyncIterator[Difference]:
        """Find what is known, and was not listed; a page that moved under us may have left one out."""
        reconciling, last = self.run.listener.store.reconciling, ""
        while page := await reconciling.known_after(self.name, last, limit=KNOWN_AT_ONCE):
            last = page[-1][0]
            absent = {entity: known for entity, known in page if entity not in self._seen}
            names = list(absent)
            for start in range(0, len(names), ASKED_AT_ONCE):
                some = {name: absent[name] for name in names[start : start + ASKED_AT_ONCE]}
                async for difference in self._ask_for(some):
                    yield difference
            await asyncio.sleep(0)

    async def _ask_for(self, absent: Mapping[str, Known]) -> AsyncIterator[Difference]:
        asked_at = self.run.listener.clock()
        include = self.described.include(self.watched)
        page = await self.run.client.search_entities(
            self.name, chosen(list(absent)), limit=PAGE, include=include
        )
        listed = self._read(page.entities)
        async for difference in self._compare(listed, asked_at):
            yield difference
        gone: dict[str, Known] = {}
        differing = []
        for entity, known in absent.items():
            if entity in self._seen:
                continue
            found = missing(known, asked_at=asked_at, first=self._first)
            if found.verdict is Verdict.LEARN and found.known:
                gone[entity] = found.known
            elif found.verdict is Verdict.DELETED:
                differing.append(deletion_of(self.name, entity, known, asked_at))
        if gone or differing:
            await self._demand_gone([*gone, *(one.entity for one in differing)][0])
        await self._learn(gone)
        async for difference in self._tell(differing):
            yield difference

    async def _demand_gone(self, entity: str) -> None:
        """Ask in another way for one of those that the search does not have: it may be what is wrong.

        An index that is being built anew, or credentials that may read less, must not end all incidents.

        Raises:
            PortError: It is there.
        """
        if await self.run.client.get_entity(self.name, entity) is not None:
            raise PortError(
                f"search of {self.name}",
                f"it leaves out {entity}, which exists",
                "Nothing is taken for deleted; the next run looks again",
            )

    async def _tell(self, differing: Sequence[Difference]) -> AsyncIterator[Difference]:
        """Let differences through decide and store, and yield those that nothing came before."""
        for difference in differing:
            if self.run.dry or await tell(self.run.listener, difference, self.watched, first=self.new):
                self.run.count(differences=1, missed=difference.missed)
                yield difference
