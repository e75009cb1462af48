"""What people do to an incident: each action once, with its entry in the audit trail and all that follows."""

import glob
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from pydantic import TypeAdapter

from app.model.incident import EVERY_STEP, Acknowledgement, Incident, Person, Route, Step
from app.model.notification import UNMOVED, Message, Notification, one_line
from app.model.silence import ANY, Silence
from app.model.times import MICRO, micros_or_none, to_micros
from app.rules.kin.quiet import UNTIL_TOLD
from app.store.columns import UNTIL_RELEASED, acknowledgement_columns
from app.store.queries import audit, deliveries, incidents, messages, reports, silences
from app.store.queries.accept import INCIDENT, incident_of
from app.store.transaction import Transaction
from app.store.views import AuditEntry

Verb = Literal["acknowledge", "unacknowledge", "silence", "close"]
LONGEST_SILENCE = timedelta(days=366)
"""A silence until an incident is over ends with it, and at the latest then."""

SECOND_THOUGHTS = timedelta(seconds=10)
"""An acknowledgement that is taken back sooner is no message in a channel."""


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody wants to be done to an incident.

    Attributes:
        id: Unique for ever: the same one twice is done once. From Slack it is that of the envelope.
        verb: What to do.
        incident_id: The incident.
        by: Who wants it.
        comment: Why; empty: it is not said.
        until: With `silence`, when that ends, UTC; None: with the incident.
        with_incident: With `silence`, it ends with the incident if that is before `until`.
    """

    id: str
    verb: Verb
    incident_id: str
    by: Person
    comment: str = ""
    until: datetime | None = None
    with_incident: bool = False


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What came of an action.

    Attributes:
        came: ``done``; ``already``: it was so before; ``over``: the incident has ended; ``unknown``: there is
            none of this id.
        text: The same in a sentence, for a person.
        earlier: With ``already``, who had done it and when; None: nobody.
        audit: The number of its entry in the audit trail; 0: nothing was done.
        silence: The number of the silence that it made; 0: it made none.
        repeated: This very action had come before; nothing was done again.
    """

    came: Literal["done", "already", "over", "unknown"]
    text: str
    earlier: Acknowledgement | None = None
    audit: int = 0
    silence: int = 0
    repeated: bool = False


_RESULT = TypeAdapter(ActionResult)


async def act(tx: Transaction, action: Action, now: datetime) -> ActionResult:
    """Do what somebody wants to be done to an incident, once.

    What is due later of it is cancelled or replaced, its messages are updated, and the destinations that
    ask for it are told.

    Args:
        tx: The transaction.
        action: What is to be done, and who wants it.
        now: The time, UTC.
    """
    await tx.lock([("action", action.id)])  # the same click may come to two replicas at once
    if before := await tx.fetch_value("SELECT result FROM actions WHERE id = $1", action.id):
        return replace(_RESULT.validate_json(before), repeated=True)
    locked = await incidents.locked(tx, [action.incident_id])
    result = await (_DO[action.verb](tx, action, locked[0], now) if locked else _not_open(tx, action))
    if result.came == "unknown":
        return result
    if result.came == "done":
        entry = AuditEntry(now, action.by.in_trail, f"{action.verb} incident", result.text)
        result = replace(result, audit=await audit.write(tx, entry))
        if action.verb != "close":  # the alert that it is closed updates them
            await messages.refresh(tx, action.incident_id, to_micros(now))
    await tx.execute(
        "INSERT INTO actions (id, at, incident_id, what, who, result, audit_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        action.id,
        to_micros(now),
        action.incident_id,
        action.verb,
        acknowledgement_columns(Acknowledgement(now, action.by))[1],
        _RESULT.dump_json(result).decode(),
        result.audit or None,
    )
    return result


async def act_on_message(
    tx: Transaction, message: Message, action: Action, now: datetime
) -> list[ActionResult]:
    """Do the same to each incident that a message is about; the result is empty where that is not known.

    Args:
        tx: The transaction.
        message: The message.
        action: What is to be done, to whatever incident.
        now: The time, UTC.
    """
    names = await messages.incidents_of(tx, message)
    await incidents.locked(tx, names)  # all at once: two who do so must not wait for each other in a circle
    return [
        await act(tx, replace(action, id=f"{action.id}/{number}", incident_id=name), now)
        for number, name in enumerate(names)
    ]


async def _not_open(tx: Transaction, action: Action) -> ActionResult:
    row = await tx.fetch_row(f"SELECT {INCIDENT} FROM incidents WHERE id = $1", action.incident_id)
    if row is None:
        return ActionResult("unknown", f"There is no incident {one_line(action.incident_id, 80)!r}.")
    incident = incident_of(row)
    since = "" if incident.resolved_at is None else f" since {_shown(incident.resolved_at)}"
    return ActionResult("over", f"{_about(incident)} is over{since}.")


async def _acknowledge(tx: Transaction, action: Action, incident: Incident, now: datetime) -> ActionResult:
    if earlier := incident.acknowledged:
        text = f"{_about(incident)} is already acknowledged by {earlier.by.name}, since {_shown(earlier.at)}."
        return ActionResult("already", text, earlier)
    acknowledged = Acknowledgement(now, action.by)
    await _put(tx, incident, acknowledged)
    # Whether they are due or not: what reminds or escalates asks for somebody, and here somebody is.
    rows = await tx.fetch(
        f"SELECT id FROM deliveries {tx.later_index} WHERE incident_id = $1 AND {tx.waits}"
        " AND (due_at > 0 OR repeat_after IS NOT NULL) AND repeat_after IS NOT NULL",
        incident.id,
    )
    cancelled = [number for (number,) in rows]
    await tx.execute(
        "UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE id = ANY($1) AND state = 'pending'",
        cancelled,
        to_micros(now),
    )
    await tx.execute(  # and what hours or a silence keep back, so that it does not count from before
        "UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE incident_id = $1"
        " AND state = 'silenced' AND step = 'escalated'"
        " AND silence_id IN (SELECT id FROM silences WHERE NOT settled)",
        incident.id,
        to_micros(now),
    )
    await reports.announce(tx, cancelled, to_micros(now))
    step = Step.ACKNOWLEDGED
    say = partial(_with, acknowledged=acknowledged, incident=incident, step=step, at=now, **UNMOVED)
    alerts = await incidents.alerts_of(tx, incident, step, say, now)
    channels = {place.queue for place in incident.told_so_far if place.steps == EVERY_STEP}
    due_at = to_micros(now + SECOND_THOUGHTS)
    alerts = [
        alert._replace(due_at=due_at, waiting_since=due_at) if alert.queue in channels else alert
        for alert in alerts
    ]
    await deliveries.insert(tx, alerts)
    return ActionResult("done", f"{_about(incident)} is acknowledged by {_by(action)}.")


async def _unacknowledge(tx: Transaction, action: Action, incident: Incident, now: datetime) -> ActionResult:
    if incident.acknowledged is None:
        return ActionResult("already", f"{_about(incident)} is not acknowledged by anybody.")
    await _put(tx, incident, None)
    cancelled = await tx.fetch(
        "UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE incident_id = $1"
        f" AND {tx.waits} AND step = 'acknowledged' AND due_at > $2 RETURNING id",
        incident.id,
        to_micros(now),
    )
    after = incident.but(version=incident.version + 1)
    # What nobody was alerted of yet escalates from its first alert on.
    since = UNTIL_TOLD if incident.quiet else max(now, incident.due_at or now)
    await incidents.put_later(tx, after, await _later(tx, incident, since), now)
    await tx.execute(
        "UPDATE incidents SET escalates_from = $2 WHERE id = $1 AND escalates_from IS NOT NULL",
        incident.id,
        to_micros(since),
    )
    await reports.announce(tx, [number for (number,) in cancelled], to_micros(now))
    return ActionResult("done", f"{_about(incident)} is not acknowledged any more, by {_by(action)}.")


async def _silence(tx: Transaction, action: Action, incident: Incident, now: datetime) -> ActionResult:
    rule, blueprint, entity = map(glob.escape, (incident.rule, incident.blueprint, incident.entity))
    ends_at = action.until or now + LONGEST_SILENCE
    for silence in await silences.active(tx, now):
        patterns = silence.rule, silence.blueprint, silence.entity, silence.team
        lasts = silence.incident_id if action.until is None else silence.ends_at >= action.until
        if patterns == (rule, blueprint, entity, ANY) and lasts:
            earlier = Acknowledgement(silence.starts_at, Person(silence.author, action.by.way))
            text = f"{_about(incident)} is already silenced by {silence.author}, {_until(silence)}."
            return ActionResult("already", text, earlier)
    silence = Silence(
        rule,
        blueprint,
        entity,
        ANY,
        now,
        ends_at,
        action.by.in_trail,
        action.comment.strip() or "its incident is known",
        incident_id=incident.id if action.until is None or action.with_incident else None,
    )
    number = await silences.add(tx, silence)
    text = f"{_about(incident)} is silenced by {_by(action)}, {_until(silence)}."
    return ActionResult("done", text, silence=number)


async def _close(tx: Transaction, action: Action, incident: Incident, now: datetime) -> ActionResult:
    await incidents.close(tx, [incident.id], f"by {_by(action)}", now)
    return ActionResult("done", f"{_about(incident)} is closed by {_by(action)}.")


_DO: Mapping[Verb, Callable[[Transaction, Action, Incident, datetime], Awaitable[ActionResult]]] = {
    "acknowledge": _acknowledge,
    "unacknowledge": _unacknowledge,
    "silence": _silence,
    "close": _close,
}


async def _put(tx: Transaction, incident: Incident, acknowledged: Acknowledgement | None) -> None:
    """Write who looks after an incident, there and in the alerts of it that wait."""
    await tx.execute(
        "UPDATE incidents SET acknowledged_at = $2, acknowledged_by = $3, version = version + 1"
        " WHERE id = $1",
        incident.id,
        *acknowledgement_columns(acknowledged),
    )
    await deliveries.rewrite(tx, [incident.id], lambda _, waits: _with(waits, acknowledged, incident))


async def _later(tx: Transaction, incident: Incident, since: datetime) -> list[incidents.Later]:
    """List what an acknowledgement has kept back, as it counts since a time: reminders and escalations."""
    rows = await tx.fetch(
        "SELECT destination, queue, step, repeat_after FROM deliveries WHERE id IN ("
        " SELECT max(id) FROM deliveries WHERE incident_id = $1 AND repeat_after IS NOT NULL"
        # Of escalations those that count from the same time, or were kept back while it was quiet: others
        # were in rules of before.
        " AND (step <> 'escalated' OR due_at - repeat_after = $2 OR due_at >= $3)"
        " GROUP BY queue, step, CASE WHEN step = 'escalated' THEN repeat_after END) ORDER BY id",
        incident.id,
        micros_or_none(incident.escalates_from),
        UNTIL_RELEASED,
    )
    return [
        (Step(step), Route(destination, queue), after * MICRO, since + after * MICRO)
        for destination, queue, step, after in rows
    ]


def _with(
    notification: Notification, acknowledged: Acknowledgement | None, incident: Incident, **facts: Any
) -> Notification:
    more = {"acknowledged": acknowledged, "version": incident.version + 1}
    return notification.but(**(more | facts))


def _about(incident: Incident) -> str:
    return one_line(f"The incident of {incident.blueprint} {incident.entity}, rule {incident.rule}")


def _by(action: Action) -> str:
    return action.by.name + (f": {one_line(action.comment)}" if action.comment.strip() else "")


def _until(silence: Silence) -> str:
    ends = f"until {_shown(silence.ends_at)}"
    if not silence.incident_id:
        return ends
    limited = silence.ends_at - silence.starts_at < LONGEST_SILENCE
    return f"until it is over{f', at the latest {ends}' if limited else ''}"


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
