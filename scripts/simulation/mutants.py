"""Mistakes that are planted, to see that the oracle finds each: in a statement, a decision, an attempt."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from zlib import crc32

from app.clicks.socket_mode import Take
from app.deliver.turn import Sender
from app.model.delivery import Alert, Outcome
from app.model.incident import Step
from app.rules.decide import Decision, EntityState
from app.runtime.listener import Runtime
from app.store.rows import Attempt, Claim, Incoming


def _same(thing: Any) -> Any:
    return thing


@dataclass(slots=True, eq=False)
class Mutant:
    """A mistake.

    Attributes:
        rewrite: Changes a statement.
        decision: Changes what a change leads to.
        attempt: Changes what an attempt came to, before it is recorded.
        click: Changes what becomes of a click that comes over a socket.
        times: How often it has changed something in this process.
    """

    rewrite: Callable[[str], str] = _same
    decision: Callable[[Decision, Incoming], Decision] | None = None
    attempt: Callable[[Attempt, Claim], Attempt] | None = None
    click: Callable[[Take], Take] | None = None
    times: int = 0

    def changes(self, text: str) -> bool:
        """Tell whether it changes a statement."""
        return self.rewrite(text) != text

    def statement(self, text: str) -> str:
        """Plant it into a statement that is to be run."""
        changed = self.rewrite(text)
        self.times += changed != text
        return changed

    def incoming(self, incoming: Incoming) -> Incoming:
        """Plant it into a change that is to be stored."""
        change = self.decision
        if change is None:
            return incoming

        def decide(state: EntityState) -> Decision:
            right = incoming.decide(state)
            wrong = change(right, incoming)
            self.times += wrong != right
            return wrong

        return replace(incoming, decide=decide)

    def plant(self, runtime: Runtime) -> None:
        """Plant it into a listener that is about to run."""
        if self.attempt is not None:
            runtime.dispatcher._sender = _Liar(runtime.sender, self)  # type: ignore[assignment]  # noqa: SLF001
        if self.click is not None and runtime.socket is not None:
            self.times += 1
            runtime.socket._take = self.click(runtime.socket._take)  # noqa: SLF001


class _Liar:
    """A sender whose attempts are changed before they are recorded."""

    def __init__(self, sender: Sender, mutant: Mutant) -> None:
        self._sender = sender
        self._mutant = mutant

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sender, name)

    async def attempt(self, claim: Claim) -> Attempt | None:
        attempt = await self._sender.attempt(claim)
        if attempt is None or self._mutant.attempt is None:
            return attempt
        wrong = self._mutant.attempt(attempt, claim)
        self._mutant.times += wrong != attempt
        return wrong


def _statement(old: str, new: str) -> Mutant:
    return Mutant(rewrite=lambda statement: statement.replace(old, new))


def _decided(change: Callable[[Decision, Incoming], Decision]) -> Mutant:
    """Change one decision in five."""

    def some(decision: Decision, incoming: Incoming) -> Decision:
        return change(decision, incoming) if int(incoming.change.key[-4:], 16) % 5 == 0 else decision

    return Mutant(decision=some)


def _alerts(keep: Callable[[Alert], bool]) -> Mutant:
    """Keep some alerts only."""
    return Mutant(decision=lambda decision, _: replace(decision, alerts=tuple(filter(keep, decision.alerts))))


def _attempted(came_to: Outcome, /, *, of: int = 1, starts: str = "", **wrong: Any) -> Mutant:
    """Change the attempts of an outcome, one in `of`, whose detail begins as given."""

    def lie(attempt: Attempt, claim: Claim) -> Attempt:
        fits = attempt.outcome is came_to and attempt.detail.startswith(starts)
        if not fits or not claim.alerts or crc32(claim.token.encode()) % of:
            return attempt
        values = {name: value(attempt) if callable(value) else value for name, value in wrong.items()}
        return replace(attempt, **values)

    return Mutant(attempt=lie)


def _answered_first(take: Take) -> Take:
    """Answer a click at once, and do it then."""
    works = set[asyncio.Task[Any]]()

    async def answer(payload: Mapping[str, Any], envelope_id: str) -> None:
        works.add(asyncio.ensure_future(take(payload, envelope_id)))

    return answer


HEALTHY = Mutant()
MUTANTS: dict[str, Mutant] = {
    "a 503 counts as delivered": _attempted(Outcome.RETRY, starts="503", outcome=Outcome.DELIVERED),
    "a 429 counts as delivered": _attempted(Outcome.RETRY, starts="429", outcome=Outcome.DELIVERED),
    "no answer counts as delivered": _attempted(Outcome.RETRY, starts="no ", outcome=Outcome.DELIVERED),
    "a retry is forgotten": _attempted(Outcome.RETRY, outcome=Outcome.DEAD),
    "a retry comes hours later": _attempted(
        Outcome.RETRY, of=3, next_at=lambda attempt: attempt.ended_at + timedelta(hours=1)
    ),
    "who does not answer is asked again at once": _attempted(
        Outcome.RETRY, starts="no ", next_at=lambda attempt: attempt.ended_at + timedelta(seconds=1)
    ),
    "a broken destination is given up": _attempted(Outcome.ON_HOLD, outcome=Outcome.DEAD),
    "a broken destination counts as delivered": _attempted(Outcome.ON_HOLD, outcome=Outcome.DELIVERED),
    "a hold is not said": _attempted(Outcome.ON_HOLD, notice=None),
    "what was delivered is tried again": _attempted(Outcome.DELIVERED, of=10, outcome=Outcome.RETRY),
    "of a digest only the first is done": _attempted(
        Outcome.DELIVERED, delivery_ids=lambda attempt: (attempt.delivery_ids or ())[:1]
    ),
    "a channel does not rest": _attempted(Outcome.DELIVERED, next_at=lambda attempt: attempt.ended_at),
    "it is not noted that a message may have arrived": _attempted(Outcome.RETRY, unsure=False),
    "a change is stored without its alerts": _decided(lambda decision, _: replace(decision, alerts=())),
    "an alert too few": _decided(lambda decision, _: replace(decision, alerts=decision.alerts[1:])),
    "an alert twice": _decided(lambda decision, _: replace(decision, alerts=decision.alerts * 2)),
    "an incident is not stored": _decided(lambda decision, _: replace(decision, incidents=())),
    "an alert goes to another channel": _decided(
        lambda decision, _: replace(
            decision,
            alerts=tuple(
                replace(alert, queue="rocket", destination="rocket") if alert.queue == "nova" else alert
                for alert in decision.alerts
            ),
        )
    ),
    "a late change is taken for the newest": Mutant(
        decision=lambda _, incoming: incoming.decide(EntityState())
    ),
    "a lease is not looked at": _statement(
        "AND (lease_until <= ?5 OR lease_until > ?3) AND NOT (name IN (SELECT value FROM json_each(?6)))", ""
    ),
    "a lost lease is not noticed": _statement("WHERE name = ?6 AND holder = ?7", "WHERE name = ?6"),
    "the rest of a queue is not looked at": _statement("(next_at <= ?1 OR next_at > ?2)", "1"),
    "a digest begins at the end": _statement(
        "ORDER BY deliveries.id LIMIT ?7", "ORDER BY deliveries.id DESC LIMIT ?7"
    ),
    "what waits is not moved when the clock is set": _statement(
        "next_at = next_at + ?1, lease_until = lease_until + ?1",
        "next_at = next_at + 0 * ?1, lease_until = lease_until + 0 * ?1",
    ),
    "a dead holder leaves no doubt": _statement(
        "unsure_since = CASE WHEN unsure_since < ?2 THEN unsure_since ELSE ?2 END", "unsure_since = NULL"
    ),
    "open incidents are not found": _statement(
        "(resolved_at IS NULL OR resolved_at >= ?3)", "resolved_at < 0"
    ),
    "the last known state is not kept": Mutant(decision=lambda decision, _: replace(decision, known=None)),
    "where it was told is forgotten": Mutant(
        decision=lambda decision, _: replace(
            decision, incidents=tuple(replace(incident, told=()) for incident in decision.incidents)
        )
    ),
    "an end is not routed": _decided(
        lambda decision, _: replace(
            decision,
            alerts=tuple(alert for alert in decision.alerts if alert.notification.step is not Step.RESOLVED),
        )
    ),
    "a fallback gets no alerts": _statement("WHERE on_hold IS NOT NULL UNION ALL", "WHERE 1 = 0 UNION ALL"),
    "a silence is not looked at": _statement("NOT settled AND ends_at > ?1", "ends_at < 0"),
    "an acknowledgement is not stored": _statement(
        "SET acknowledged_at = ?2, acknowledged_by = ?3, version",
        "SET acknowledged_at = NULL AND ?2, acknowledged_by = substr(?3, 1, 0), version",
    ),
    "taken back, an acknowledgement brings no escalation back": _statement(
        "OR due_at - repeat_after = ?2 OR due_at >= ?3)", "OR 0 * ?2 * ?3)"
    ),
    "Slack shows no acknowledgement": _statement(
        "WHERE incident_messages.incident_id = ?1 GROUP BY 1, 2", "WHERE 0 * ?1 GROUP BY 1, 2"
    ),
    "nothing escalates": _alerts(lambda alert: alert.notification.step is not Step.ESCALATED),
    "it escalates at once": Mutant(
        decision=lambda decision, _: replace(
            decision,
            alerts=tuple(
                replace(alert, due_at=alert.due_at - timedelta(seconds=15))
                if alert.due_at and alert.notification.step is Step.ESCALATED
                else alert
                for alert in decision.alerts
            ),
        )
    ),
    "to whom it escalated no end is told": _alerts(
        lambda alert: alert.destination != "oncall" or alert.notification.step is not Step.RESOLVED
    ),
    "PagerDuty hears no end": _alerts(
        lambda alert: alert.destination != "pages" or alert.notification.step is not Step.RESOLVED
    ),
    "PagerDuty is told of no new incident": _alerts(
        lambda alert: alert.destination != "pages" or alert.notification.step is not Step.OPENED
    ),
    "what is held is forgotten": _statement(
        "WHERE NOT settled AND (ends_at <= ?1", "WHERE hours = '' AND NOT settled AND (ends_at <= ?1"
    ),
    "what is quiet is not let go when its cause ends": _statement(
        "WHERE below.quiet IN", "WHERE 1 = 0 AND below.quiet IN"
    ),
    "what waits is not quiet when its cause opens": _statement(
        "AND resolved_at IS NULL AND quiet IS NULL AND", "AND 1 = 0 AND"
    ),
    "that an incident is quiet is not noted": Mutant(
        decision=lambda decision, _: replace(
            decision, incidents=tuple(replace(incident, quiet=None) for incident in decision.incidents)
        )
    ),
    "what is let go waits for ever": _statement(
        "SET due_at = ?2, waiting_since = ?2, notification = ?3", "SET notification = ?3"
    ),
    "what was told is quiet once its cause opens": _statement(
        "(due_at > ?4 OR incidents.id IN", "(1 = 1 OR due_at > ?4 OR incidents.id IN"
    ),
    "in a circle all are quiet": _statement(
        "WITH RECURSIVE chain (id, above) AS ( SELECT id, quiet FROM incidents WHERE",
        "WITH RECURSIVE chain (id, above) AS ( SELECT id, quiet FROM incidents WHERE 1 = 0 AND",
    ),
    "a group counts the members of all groups": _statement(
        "AND entity = ?3 AND counts_from IS NOT NULL LIMIT",
        "AND ?3 <> '' AND counts_from IS NOT NULL LIMIT",
    ),
    "a rate is not kept": _statement(
        "UPDATE rates SET next_at = ?1 WHERE destination = ?2",
        "UPDATE rates SET next_at = 0 * ?1 WHERE destination = ?2",
    ),
    "a click is answered before it is done": Mutant(click=_answered_first),
    "what the catalog names goes to the default": _decided(
        lambda decision, _: replace(
            decision,
            alerts=tuple(
                replace(alert, queue="lobby", destination="lobby")
                if alert.queue.startswith("#home")
                else alert
                for alert in decision.alerts
            ),
        )
    ),
    "what a channel of the catalog does not take is given up": _attempted(
        Outcome.RETRY, starts="is_archived", outcome=Outcome.DEAD, elsewhere=None
    ),
    "who was told in the place of another hears no end": _statement(
        "UPDATE incidents SET told = ?1 WHERE", "UPDATE incidents SET told = coalesce(told, ?1) WHERE"
    ),
    "what goes out together is not noted": _statement(
        "UPDATE queues SET sent_together = ?1", "UPDATE queues SET sent_together = replace(?1, ?1, '[]')"
    ),
    "a commit is none": Mutant(rewrite=lambda statement: "ROLLBACK" if statement == "COMMIT" else statement),
}
"""Each mistake, by what it is."""
