"""Takes a change in: match, route, decide, store, wake the dispatcher.

Every change comes through here: webhooks, differences that reconciling found, what a person replays.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from opentelemetry.trace import Tracer

from app.errors import StoreUnavailable
from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.incident import Step
from app.model.notification import Notification, one_line
from app.model.report import RUNS, Report
from app.observe.tracing import OFF, note, span, traceparent
from app.observe.watch import NOBODY, Watch
from app.receive.payload import parse_event
from app.receive.routing import Evaluate, LookUp, match_and_route
from app.receive.signature import Signed
from app.rules.condition import JqError
from app.rules.decide import OVERTAKEN, Decision, EntityState, decide
from app.rules.match import Failure, Match
from app.rules.rulebook import Queues, Rulebook
from app.rules.targets import DEFAULT_DESTINATION, choose, plain
from app.rules.watched import Watched
from app.store import queries
from app.store.rows import Accepted, Incoming
from app.store.store import Store

NOTICED_WITHIN = timedelta(hours=24)
"""Of a program that fails now and then the rule's destinations are told once in this time."""
MAX_NOTICE_VALUE_CHARS = 100
UNKNOWN = JqError("it did not run")
RUN_QUEUES = Queues(RUNS, 4)
"""So that one run for which Port never answers does not keep all others waiting."""


class Wake(Protocol):
    """Starts the delivery of what waits."""

    def __call__(self, queues: Collection[str] = ()) -> None:
        """Look for work now: in these queues or, if none is named, in all."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What is different about a change that reconciling found.

    Attributes:
        watched: What is compared of the blueprint. The rules may have been reloaded since the run began.
        version: The version of the last known state that the difference rests on; 0: there was none.
        first_reading: The blueprint was never read to its end before: nothing is news that it is well.
    """

    watched: Watched
    version: int
    first_reading: bool


@dataclass(slots=True)
class Intake:
    """Decides on changes and stores them.

    Attributes:
        store: Where they are kept.
        book: The rules in force; may be replaced at any time.
        clock: Gives the time, UTC.
        evaluate: Runs jq programs.
        look_up: Asks Port.
        wake: Called when there is something new to deliver, with its queues, if they are known.
        reports: Whether runs in Port that wait for a report get one.
        watch: Counts what happens.
        tracer: Makes spans of it.
        failing: The jq programs that failed when they ran last, by rule and program.
    """

    store: Store
    book: Rulebook
    clock: Callable[[], datetime]
    evaluate: Evaluate
    look_up: LookUp
    wake: Wake
    reports: bool = False
    watch: Watch = NOBODY
    tracer: Tracer = OFF
    failing: set[tuple[str, str]] = field(default_factory=set)
    _noticed: dict[tuple[str, str], datetime] = field(default_factory=dict, init=False)
    # Kept, because making one for each change takes as long as reading the change.
    _log: structlog.typing.FilteringBoundLogger = field(
        default_factory=lambda: structlog.get_logger(__name__).bind(), init=False
    )

    async def accept(self, signed: Signed, reconciled: Reconciled | None = None) -> Accepted:
        """Parse, decide and store one change, whose body is known to come from Port or was made here.

        What it gives is not `stored` if another change moved the state that a difference rests on.

        Raises:
            UnreadableChange: It is not a change; nothing is stored.
            JqUnavailable: What the rules say of it cannot be found out now; nothing is stored.
            StoreUnavailable: It could not be stored.
        """
        now, stepped = self.clock(), self.store.clock.known  # to look up what it is about takes time
        with span(self.tracer, "parse"):
            try:
                change = parse_event(signed)
            except Exception:
                structlog.contextvars.unbind_contextvars("change")  # of one before
                raise
        # Not only until this returns: the request's other log lines name the change, too.
        structlog.contextvars.bind_contextvars(change=change.key)
        with span(self.tracer, "decide and store", change=change.key, action=change.action) as stored:
            matched = await match_and_route(change, signed.body, self.book, self.evaluate, self.look_up, now)
            if reconciled is not None:
                matched = _for_reconciling(matched, reconciled)
            report = self._report(change)
            incoming = self._incoming(matched, signed, now, reconciled, report, stepped)
            (accepted,) = await self.store.accept([incoming])
            note(stored, alerts=accepted.alerts, duplicate=accepted.duplicate)
        if accepted.stored:
            self._wake(accepted, report)
            self._record(matched, accepted, reconciled)
            if matched.failures or self.failing:
                await self._follow_failures(matched)
        return accepted

    async def _follow_failures(self, matched: Match) -> None:
        """Note which programs fail and which work again; tell the destinations of one that begins to fail."""
        failed = {(failure.rule.name, failure.program): failure for failure in matched.failures}
        for name, program in self.failing - failed.keys():
            if not isinstance(matched.results.get(program, UNKNOWN), JqError):
                self.failing.discard((name, program))
                self._log.info("jq_works_again", rule=name, program=program)
        for key, failure in failed.items():
            self.watch.program_failed(failure.rule.name)
            if key in self.failing:
                continue
            self.failing.add(key)
            # Not the failure's text: it may hold values from the catalog.
            self._log.warning("jq_failed", rule=failure.rule.name, program=failure.program)
            now = self.clock()
            if key in self._noticed and now - self._noticed[key] < NOTICED_WITHIN:
                continue  # the store would only find that they were told
            try:
                await self._tell(failure, matched.change)
                self._noticed[key] = now
            except StoreUnavailable:
                self.failing.discard(key)  # the next change tells

    async def _tell(self, failure: Failure, change: CatalogChange) -> None:
        """Tell the rule's destinations of a program that fails; where no one takes messages, the default."""
        rule, now = failure.rule, self.clock()
        begins = f"Rule {rule.name}: jq fails: {one_line(failure.program, MAX_NOTICE_VALUE_CHARS)}"
        title = one_line(change.title, MAX_NOTICE_VALUE_CHARS)
        text = f"{begins}. On a change of {title}, {failure.text}. Correct it in the rules file."
        notice = Notification.notice(text, now, rule=rule.name)
        names = [choose(plain(target), change.teams, None, self.book.queues) for target in rule.send]
        ways = [way for name in names if Step.NOTICE in (way := self.book.default_of(name)).steps]
        queues = {way.queue: way for way in ways or [self.book.default_of(DEFAULT_DESTINATION)]}
        alerts = [Alert(way.destination, way.queue, notice) for way in queues.values()]
        told = await self.store.write(
            queries.deliveries.tell_once,
            alerts,
            change_key=change.key,
            begins=begins,
            since=now - NOTICED_WITHIN,
            now=now,
        )
        if told:
            self.wake({alert.queue for alert in alerts})

    def _incoming(
        self,
        matched: Match,
        signed: Signed,
        now: datetime,
        reconciled: Reconciled | None,
        report: Report | None,
        stepped: int | None,
    ) -> Incoming:
        def decided(state: EntityState) -> Decision:
            # Compared here, inside the transaction: a webhook may have come since the state was read.
            known_version = state.known.version if state.known else 0
            if reconciled is not None and known_version != reconciled.version:
                return OVERTAKEN
            return decide(matched, state, now + state.step, reconciled=reconciled is not None)

        watched = matched.watched is not None
        return Incoming(
            matched.change,
            signed.body,
            now,
            decided,
            None if self.tracer is OFF else traceparent(),
            watched=watched,
            report=report,
            kins=tuple(matched.kins.values()),
            stepped=stepped,
        )

    def _wake(self, accepted: Accepted, report: Report | None) -> None:
        if report:
            self.wake()
        # Only these queues: a look at all of them for each change would cost more than the change.
        elif accepted.alerts and not accepted.duplicate:
            self.wake(accepted.queues)

    def _record(self, matched: Match, accepted: Accepted, reconciled: Reconciled | None) -> None:
        if accepted.already_alerted:
            self.watch.came_after()
        if not accepted.duplicate:
            for hit in matched.hits:
                outcome = "resolves" if hit.resolves else "matches" if hit.matches else "lapses"
                self.watch.decided(hit.rule.name, outcome)
            if not matched.hits:
                self.watch.decided("", "unmatched")
        change = matched.change
        self._log.info(
            "change_accepted",
            action=change.action,
            resource=change.resource,
            blueprint=change.blueprint,
            entity=change.entity,
            alerts=accepted.alerts,
            duplicate=accepted.duplicate,
            reconciled=reconciled is not None,
            # The reason is in the store: it may hold values from the catalog.
            rules=[hit.rule.name for hit in matched.hits if hit.matches],
        )

    def _report(self, change: CatalogChange) -> Report | None:
        if change.report_to is None:
            return None
        if not self.reports:
            reason = "PORT_CLIENT_ID is not set; the run stays in progress"
            self._log.warning("report_not_possible", reason=reason)
            return None
        return Report.of(change, RUN_QUEUES.of(change.report_to))


def _for_reconciling(matched: Match, reconciled: Reconciled) -> Match:
    # A difference has no scorecards: to such a rule's jq all of them would be gone.
    hits = tuple(hit for hit in matched.hits if not hit.rule.reads_scorecards)
    failures = tuple(failure for failure in matched.failures if not failure.rule.reads_scorecards)
    # With --alert the first reading alerts of what is wrong; that the rest is well is no news.
    if reconciled.first_reading:
        hits = tuple(hit for hit in hits if not hit.resolves)
    return matched.but(hits=hits, watched=reconciled.watched, failures=failures)
