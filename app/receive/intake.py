"""The use case: a request's bytes in, a stored change out."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from zlib import crc32

import structlog
from opentelemetry.trace import Tracer

from app.errors import SignatureRejected, StoreUnavailable, UnreadableChange
from app.model.change import ENTITY, CatalogChange
from app.model.incident import Step
from app.model.report import RUNS, Report
from app.observe.tracing import OFF, note, span, traceparent
from app.observe.watch import NOBODY, Watch
from app.receive.payload import bare_event, parse_event
from app.receive.signature import Claim, Signed, parse_headers, verify
from app.rules.decide import Decision, EntityState, decide
from app.rules.match import Hit, Match, Route, match
from app.rules.rule import RuleSet
from app.rules.targets import ByPort, ByTemplate, PortLookup, route
from app.rules.watched import Watched
from app.store.base import Store
from app.store.rows import Accepted, Incoming

Evaluate = Callable[[Sequence[str], Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Runs jq programs on an event; gives what each came to, without those that failed."""
LookUp = Callable[[CatalogChange, PortLookup], Awaitable[str | None]]
"""Asks Port for a destination's name; None if it has none, or does not answer in time."""


class Wake(Protocol):
    """Whoever delivers."""

    def __call__(self, queues: Collection[str] = ()) -> None:
        """Look for work now: in these queues, or, if none is named, anywhere."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Where the alerts for a destination wait.

    Attributes:
        name: The queue's name, shared by destinations that are the same channel.
        number: How many queues there are, by hash of the entity.
        steps: What of an incident the destination hears of.
        fallback: The destination that hears of it when this one is on hold.
    """

    name: str
    number: int = 1
    steps: frozenset[Step] = frozenset(Step)
    fallback: str | None = None

    def of(self, entity: str) -> str:
        """Return the queue for an entity's alerts."""
        return self.name if self.number == 1 else f"{self.name}/{crc32(entity.encode()) % self.number}"


RUN_QUEUES = Queues(RUNS, 4)
"""So that a run of which Port never answers does not keep all others waiting."""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules in force, the queues of the destinations that they may name, and what is watched in Port."""

    rules: RuleSet
    queues: Mapping[str, Queues]
    watched: Mapping[str, Watched] = field(default_factory=dict)

    @property
    def fallbacks(self) -> dict[str, Route]:
        """Who hears of it when a destination is on hold, by its name."""
        named = ((name, way.fallback) for name, way in self.queues.items())
        return {name: Route(one, self.queues[one].of("")) for name, one in named if one}


@dataclass(slots=True)
class Listener:
    """Receives changes.

    Attributes:
        store: Where they are kept.
        book: What decides whether they matter; may be replaced at any time.
        secrets: The client secrets that Port may sign with.
        accept_unsigned: Without a secret, verify nothing.
        tolerance: How old a signature may be.
        clock: Gives the time, UTC.
        evaluate: Runs jq programs.
        look_up: Asks Port.
        wake: Called when there is something new to deliver, with the queues in which it is, if they are known.
        reports: Whether runs in Port that wait for it are told what became of their changes.
        watch: Hears of what happens.
        tracer: Makes spans of it.
    """

    store: Store
    book: Rulebook
    secrets: Sequence[str]
    accept_unsigned: bool
    tolerance: timedelta
    clock: Callable[[], datetime]
    evaluate: Evaluate
    look_up: LookUp
    wake: Wake
    reports: bool = False
    watch: Watch = NOBODY
    tracer: Tracer = OFF
    # Kept, because to make one for each change takes as long as to read the change.
    _log: structlog.typing.FilteringBoundLogger = field(
        default_factory=lambda: structlog.get_logger(__name__).bind(), init=False
    )

    def check_headers(self, headers: Mapping[str, str]) -> Claim | None:
        """Refuse what cannot become a signed request, before its body is read; return what it claims.

        Args:
            headers: The request's headers; names in lower case.

        Raises:
            SignatureRejected: The signature is missing, or stale.
        """
        if self._unsigned:
            return None
        try:
            return parse_headers(headers, self.clock(), self.tolerance)
        except SignatureRejected as error:
            self._log.warning("signature rejected", reason=str(error))
            self.watch.signature_failed(error.cause)
            raise

    async def receive(self, body: bytes, claim: Claim | None) -> Accepted:
        """Verify, parse, decide and store one request.

        Args:
            body: The bytes as they arrived.
            claim: What `check_headers` returned.

        Raises:
            SignatureRejected: Not proven to come from Port; nothing is stored.
            UnreadableChange: From Port, but not a change; it is in quarantine.
            StoreUnavailable: It could not be stored; Port must hear that.
            Exception: A fault of ours; the body is in quarantine.
        """
        now = self.clock()
        try:
            signed = Signed(body, now)
            if claim is not None:
                with span(self.tracer, "verify", body_bytes=len(body)):
                    signed = verify(body, claim, self.secrets)
        except SignatureRejected as error:
            self._log.warning("signature rejected", reason=str(error), body_bytes=len(body))
            self.watch.signature_failed(error.cause)
            raise
        try:
            return await self.accept(signed)
        except UnreadableChange as error:
            self._log.warning("unreadable change quarantined", reason=error.reason, path=error.path)
            await self.store.quarantine(
                signed.body, signed_at=signed.at, received_at=now, path=error.path, reason=error.reason
            )
            raise
        except StoreUnavailable:  # no fault of ours, and no room for quarantine either
            raise
        except Exception as error:  # Port does not send it again: it is kept until the fault is mended
            reason = f"a fault in this program: {type(error).__name__}"
            self._log.error("a change raised, quarantined", reason=reason)  # who answers logs the rest
            await self.store.quarantine(
                signed.body, signed_at=signed.at, received_at=now, path="", reason=reason
            )
            raise

    @property
    def _unsigned(self) -> bool:
        return self.accept_unsigned and not self.secrets

    async def accept(self, signed: Signed) -> Accepted:
        """Parse, decide and store a body that is known to come from Port.

        Raises:
            UnreadableChange: It is not a change; nothing is stored.
            StoreUnavailable: It could not be stored.
        """
        structlog.contextvars.unbind_contextvars("change")
        with span(self.tracer, "parse"):
            change = parse_event(signed)
        # Not only until this returns: whoever answers the request may have something to log as well.
        structlog.contextvars.bind_contextvars(change=change.key)
        with span(self.tracer, "decide and store", change=change.key, action=change.action) as stored:
            matched = await match_and_route(change, signed.body, self.book, self.evaluate, self.look_up)
            now = self.clock()

            def decided(state: EntityState) -> Decision:
                return decide(matched, state, now)

            watched, report = matched.watched is not None, self._report(change)
            incoming = Incoming(
                change, signed.body, now, decided, traceparent(), watched=watched, report=report
            )
            (accepted,) = await self.store.accept([incoming])
            note(stored, alerts=accepted.alerts, duplicate=accepted.duplicate)
        if report:
            self.wake()
        elif accepted.alerts and not accepted.duplicate:
            self.wake({route.queue for hit in matched.hits for route in hit.routes})
        if accepted.noticed:
            self.watch.came_after()
        if not accepted.duplicate:
            self._count(matched)
        self._log.info(
            "change accepted",
            action=change.action,
            resource=change.resource,
            blueprint=change.blueprint,
            entity=change.entity,
            alerts=accepted.alerts,
            duplicate=accepted.duplicate,
            # The reason is in the store: it may hold values from the catalog.
            rules=[hit.rule.name for hit in matched.hits if hit.matches],
        )
        return accepted

    def _report(self, change: CatalogChange) -> Report | None:
        if change.report_to is None:
            return None
        if not self.reports:
            self._log.warning("no report to Port: PORT_CLIENT_ID is not set; the run stays in progress")
            return None
        return Report.of(change, RUN_QUEUES.of(change.report_to))

    def _count(self, matched: Match) -> None:
        for hit in matched.hits:
            outcome = "resolves" if hit.resolves else "matches" if hit.matches else "lapses"
            self.watch.decided(hit.rule.name, outcome)
        if not matched.hits:
            self.watch.decided("", "unmatched")


async def match_and_route(
    change: CatalogChange, body: bytes, book: Rulebook, evaluate: Evaluate, look_up: LookUp
) -> Match:
    """Return which rules a change matches, and where their alerts would go.

    Args:
        change: The change.
        body: The body that it was read from.
        book: The rules.
        evaluate: Runs jq programs.
        look_up: Asks Port.
    """
    programs = book.rules.programs(change.blueprint)
    results = await evaluate(programs, bare_event(body)) if programs else {}
    matched = match(book.rules, change, results)
    hits = [hit.to(await _routes(hit, change, body, book, evaluate, look_up)) for hit in matched.hits]
    watched = book.watched.get(change.blueprint) if change.resource == ENTITY else None
    return Match(change, matched.changes, tuple(hits), matched.reason, watched)


async def _routes(
    hit: Hit, change: CatalogChange, body: bytes, book: Rulebook, evaluate: Evaluate, look_up: LookUp
) -> tuple[Route, ...]:
    found: dict[int, object] = {}
    for place, target in enumerate(hit.rule.send):
        if isinstance(target, ByTemplate):
            found[place] = (await evaluate([target.program], bare_event(body))).get(target.program)
        elif isinstance(target, ByPort):
            found[place] = await look_up(change, target.port)
    names = route(hit.rule.send, change, found, book.queues.__contains__)
    ways = ((name, book.queues[name]) for name in names)
    return tuple(Route(name, way.of(change.entity), way.steps) for name, way in ways)
