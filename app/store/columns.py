"""How values stand in the columns of a table: the same in every store."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from app.model.delivery import Alert, State
from app.model.incident import Incident, Severity, Step
from app.model.notification import Message, Notification
from app.model.report import Fate, Told
from app.model.silence import Silence
from app.model.times import EPOCH, MICRO
from app.rules.decide import Decision
from app.store.rows import Delivery, Incoming, Quarantined, QueueState, StoredChange, Waiting

NONE = "[]"
"""JSON of nothing, as most rows have it: to parse it would take longest."""
UNREADABLE = "written by another release, which this one cannot read"
CLOCKS_DIFFER = timedelta(minutes=1)
"""A lease that ends so much later than one taken now would was taken before the clock was set back."""
CLOCK_SET_BACK = timedelta(minutes=75)
"""No queue rests longer than this, so that one that does has seen the clock set back: it is due."""

UPDATES = "/updates"
"""What is added to a queue's name for the queue in which changes of its messages wait."""

BODIES_AT_ONCE = 8 * 1024 * 1024
"""How much of changes is read in one go, so that memory stays small."""

DELIVERIES_IN: dict[State | None, str] = {
    None: "true",
    State.PENDING: "deliveries.state = 'pending' AND on_hold IS NULL",
    State.ON_HOLD: "deliveries.state = 'pending' AND on_hold IS NOT NULL",
    State.DEAD: "deliveries.state = 'dead'",
    State.DELIVERED: "deliveries.state = 'delivered'",
    State.CANCELLED: "deliveries.state = 'cancelled'",
    State.SILENCED: "deliveries.state = 'silenced'",
}
"""The condition that chooses the deliveries which stand somewhere."""


def to_micros(time: datetime) -> int:
    """Return a time as the store keeps it: whole microseconds since 1970."""
    return (time - EPOCH) // MICRO


def from_micros(micros: int) -> datetime:
    """Return a time that the store has kept."""
    return EPOCH + timedelta(microseconds=micros)


def micros_or_none(time: datetime | None) -> int | None:
    """Return a time as the store keeps it, or None."""
    return None if time is None else to_micros(time)


def time_or_none(micros: int | None) -> datetime | None:
    """Return a time that the store has kept, or None."""
    return None if micros is None else from_micros(micros)


def change_values(incoming: Incoming, decision: Decision) -> tuple[Any, ...]:
    """Return a change's columns: key, received_at, at, action, … as the tables have them, without the id."""
    change = incoming.change
    return (
        change.key,
        to_micros(incoming.received_at),
        to_micros(change.at),
        change.action,
        change.resource,
        change.blueprint,
        change.entity,
        json.dumps(change.teams),
        decision.reason,
        len(decision.alerts),
        incoming.body,
        incoming.traceparent,
    )


def change_of(id_: int, key: str, received_at: int, at: int, *more: Any) -> StoredChange:
    """Return the change that a row holds."""
    return StoredChange(id_, key, from_micros(received_at), from_micros(at), *more)


def incident_values(one: Incident) -> tuple[Any, ...]:
    """Return an incident's columns: id, rule, blueprint, entity, state, … as the tables have them."""
    return (
        one.id,
        one.rule,
        one.blueprint,
        one.entity,
        one.state,
        to_micros(one.opened_at),
        to_micros(one.changed_at),
        micros_or_none(one.resolved_at),
        micros_or_none(one.due_at),
        one.severity,
        json.dumps([to_micros(move) for move in one.moves]) if one.moves else NONE,
        one.flapping,
    )


def incident_of(
    blueprint: str,
    entity: str,
    id_: str,
    rule: str,
    state: str,
    opened_at: int,
    changed_at: int,
    resolved_at: int | None,
    due_at: int | None,
    severity: Severity,
    moves: str,
    flapping: int,
) -> Incident:
    """Return the incident of an entity that a row holds."""
    return Incident(
        id=id_,
        rule=rule,
        blueprint=blueprint,
        entity=entity,
        state=state,
        opened_at=from_micros(opened_at),
        changed_at=from_micros(changed_at),
        resolved_at=time_or_none(resolved_at),
        due_at=time_or_none(due_at),
        severity=severity,
        moves=() if moves == NONE else tuple(map(from_micros, json.loads(moves))),
        flapping=bool(flapping),
    )


def alert_values(alert: Alert, now: int) -> tuple[Any, ...]:
    """Return a delivery's columns from incident_id to repeat_after; `now` in micros."""
    due_at = micros_or_none(alert.due_at) or 0
    return (
        alert.incident_id,
        alert.queue,
        alert.destination,
        alert.notification.model_dump_json(),
        now,
        max(now, due_at),
        due_at,
        alert.repeat and alert.repeat // MICRO,
    )


def waiting_of(
    id_: int,
    key: str,
    text: str,
    waiting_since: int,
    channel: str | None,
    ts: str | None,
    traceparent: str | None,
) -> Waiting:
    """Return the waiting delivery that a row holds.

    Raises:
        ValidationError: Another release has written it, and this one cannot read it.
    """
    return Waiting(
        id=id_,
        change_key=key,
        notification=Notification.model_validate_json(text),
        waiting_since=from_micros(waiting_since),
        parent=None if ts is None else Message(channel or "", ts),
        traceparent=traceparent,
    )


def fate_of(facts: Sequence[Any], alerts: Iterable[Sequence[Any]]) -> Fate:
    """Return what became of a change.

    Args:
        facts: Its time of arrival, its reason, the time of the run's first report, and how many of them wait.
        alerts: Rows of its alerts: destination, state, detail, and the message's channel and name.
    """
    received_at, reason, asked_at, reports = facts
    told = (
        Told(destination, state, detail or "", None if ts is None else Message(channel, ts))
        for destination, state, detail, channel, ts in alerts
    )
    # Whoever brings a change stores his report with it, at the same time.
    again = asked_at > received_at
    return Fate(from_micros(received_at), reason, tuple(told), again=again, reports=reports)


def story_of(first: str, last: str) -> tuple[Notification, Notification] | None:
    """Return the first and the last notification of an incident; None if this release cannot read them."""
    try:
        return Notification.model_validate_json(first), Notification.model_validate_json(last)
    except ValidationError:  # told by another release: what is not understood cannot be retold
        return None


def delivery_of(
    id_: int,
    key: str,
    queue: str,
    destination: str,
    state: str,
    on_hold: str | None,
    notification: str,
    created_at: int,
    ended_at: int | None,
    next_at: int,
    attempts: int,
    detail: str | None,
) -> Delivery:
    """Return the delivery that a row holds."""
    waits = state == State.PENDING
    return Delivery(
        id=id_,
        change_key=key,
        queue=queue,
        destination=destination,
        state=State.ON_HOLD if waits and on_hold is not None else State(state),
        notification=_readable(notification),
        created_at=from_micros(created_at),
        ended_at=time_or_none(ended_at),
        attempts=attempts,
        detail=(on_hold if waits and on_hold is not None else detail) or "",
        next_at=from_micros(next_at) if waits else None,
    )


def _readable(text: str) -> Notification:
    try:
        return Notification.model_validate_json(text)
    except ValidationError:
        return Notification(
            step=Step.NOTICED, rule="", blueprint="", entity="?", title=UNREADABLE, change=None, at=EPOCH
        )


def queue_of(
    name: str,
    destination: str,
    on_hold: str | None,
    failures: int,
    next_at: int,
    waiting: int,
    oldest_at: int | None,
    delivered_at: int | None,
) -> QueueState:
    """Return the queue that a row holds."""
    return QueueState(
        name=name,
        destination=destination,
        waiting=waiting,
        oldest_at=time_or_none(oldest_at),
        on_hold=on_hold,
        failures=failures,
        next_at=from_micros(next_at),
        delivered_at=time_or_none(delivered_at),
    )


def quarantined_of(
    id_: int, body: bytes, signed_at: int, received_at: int, path: str, reason: str
) -> Quarantined:
    """Return the quarantined body that a row holds."""
    return Quarantined(id_, body, from_micros(signed_at), from_micros(received_at), path, reason)


def silence_values(silence: Silence) -> tuple[Any, ...]:
    """Return a silence's columns: rule, blueprint, … as the tables have them, without the id."""
    return (
        silence.rule,
        silence.blueprint,
        silence.entity,
        silence.team,
        to_micros(silence.starts_at),
        to_micros(silence.ends_at),
        silence.author,
        silence.comment,
    )


def silence_from(
    number: int,
    rule: str,
    blueprint: str,
    entity: str,
    team: str,
    starts_at: int,
    ends_at: int,
    author: str,
    comment: str,
    silenced: int,
) -> Silence:
    """Return the silence that a row holds."""
    times = from_micros(starts_at), from_micros(ends_at)
    return Silence(rule, blueprint, entity, team, *times, author, comment, number, silenced)
