"""What people do on the page and programs through the API. Each action is logged in the audit trail."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Form, HTTPException

from app.errors import JqUnavailable, UnreadableChange
from app.model.incident import Person
from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.notifier.base import timestamp
from app.port.setup.probe import marked_change
from app.receive.signature import Signed
from app.store import queries
from app.store.actions import Action, Verb, act
from app.store.views import AuditEntry
from app.web.api.models import ActionOut
from app.web.context import WebContext

MAX_PATTERN_CHARACTERS = 200
MAX_COMMENT_CHARACTERS = 500
MAX_NAME_CHARACTERS = 80
MAX_SILENCE = timedelta(days=366)
MAX_ID = 2**63 - 1  # the databases refuse a larger number with an error, where 404 is meant
Text = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class TestChange:
    """A form with a made-up change, which shows what the rules and the destinations do with one."""

    __test__ = False  # not one of pytest's

    blueprint: Text = ""
    entity: Text = ""
    property: Text = ""
    before: Text = ""
    after: Text = ""
    team: Text = ""


async def _record(context: WebContext, who: str, what: str, details: str, *, id_: int = 0) -> ActionOut:
    # After the action, not before: the trail must not name one that then failed.
    number = await context.store.write(queries.audit.write, AuditEntry(context.clock(), who, what, details))
    return ActionOut(done=details, audit=number, id=id_)


async def retry(context: WebContext, who: str, number: int) -> ActionOut:
    """Make a delivery due now, whether it waits or is dead.

    Raises:
        HTTPException: 404, there is none of this number; 409, it was delivered, silenced or cancelled.
    """
    if not 0 < number <= MAX_ID or (row := await context.store.read(queries.page.delivery, number)) is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    if not await context.store.retry(now=context.clock(), ids=[number]):
        raise HTTPException(409, f"Delivery {number} is {row.state}: there is nothing to try again.")
    context.intake.wake()  # else the dispatcher would look only when its pause is over
    entity = one_line(row.notification.entity, MAX_NAME_CHARACTERS)
    details = f"Delivery {number} of {entity} to {row.destination} is tried again."
    return await _record(context, who, "retry", details, id_=number)


async def retry_dead(
    context: WebContext,
    who: str,
    *,
    rule: str | None = None,
    destination: str | None = None,
    since: datetime | None = None,
) -> ActionOut:
    """Make dead deliveries due now: all, or those of a rule, for a destination, or that died since a time."""
    now = context.clock()
    number = await context.store.retry(now=now, ids=None, rule=rule, destination=destination, since=since)
    context.intake.wake()
    named = {"rule": rule, "destination": destination, "since": since and timestamp(since)}
    which = ", ".join(f"{name} {one_line(text)}" for name, text in named.items() if text)
    details = f"{number:,} dead deliveries are tried again{f' ({which})' if which else ''}."
    return await _record(context, who, "retry", details)


async def release(context: WebContext, who: str, queue_name: str) -> ActionOut:
    """Release a queue that is on hold, and all queues of its destination: they are on hold for one reason.

    Raises:
        HTTPException: 404, there is no such queue; 409, it is not on hold.
    """
    name = one_line(queue_name, MAX_NAME_CHARACTERS)
    queues = {queue.name: queue for queue in await context.store.read(queries.page.queues, context.clock())}
    if (queue := queues.get(queue_name)) is None:
        raise HTTPException(404, f"There is no queue {name!r}.")
    number = await context.store.release_hold(queue.destination, context.clock())
    if not number:
        raise HTTPException(409, f"Queue {name} is not on hold.")
    context.intake.wake()
    more = f" ({number} queues)" if number > 1 else ""
    return await _record(context, who, "release", f"Destination {queue.destination} is released{more}.")


async def add_silence(
    context: WebContext,
    who: str,
    patterns: tuple[str, str, str, str],
    ends_at: datetime,
    comment: str,
    starts_at: datetime | None = None,
) -> ActionOut:
    """Store a silence: alerts that it covers are not sent.

    Args:
        context: The running parts.
        who: Who silences.
        patterns: Rule, blueprint, entity and team; empty: any.
        ends_at: When it ends, UTC.
        comment: Why.
        starts_at: When it begins, UTC; None: now.

    Raises:
        HTTPException: 422, all patterns are empty, the comment is, or the end is too early or too late.
    """
    now = context.clock()
    patterns_or_any = [pattern.strip() or ANY for pattern in patterns]
    if all(pattern == ANY for pattern in patterns_or_any):
        raise HTTPException(422, "Say what to silence: a rule, a blueprint, an entity or a team.")
    if max(map(len, patterns_or_any)) > MAX_PATTERN_CHARACTERS:
        raise HTTPException(422, f"A pattern has at most {MAX_PATTERN_CHARACTERS} characters.")
    if not comment.strip() or len(comment) > MAX_COMMENT_CHARACTERS:
        raise HTTPException(422, f"Say why, in 1 to {MAX_COMMENT_CHARACTERS} characters.")
    starts_at = max(now, starts_at or now)
    _demand_span(starts_at, ends_at, now)
    rule, blueprint, entity, team = patterns_or_any
    silence = Silence(rule, blueprint, entity, team, starts_at, ends_at, who, comment.strip())
    number = await context.store.write(queries.silences.add, silence)
    reason = one_line(silence.comment)
    details = f"Silence {number}: {patterns_text(silence)}, {_span_text(silence, now)}: {reason}"
    return await _record(context, who, "silence", details, id_=number)


def _demand_span(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if not starts_at < ends_at <= now + MAX_SILENCE:
        raise HTTPException(422, "A silence must end in the future, after it begins, and within a year.")


def _span_text(silence: Silence, now: datetime) -> str:
    begins = f"from {timestamp(silence.starts_at)} " if silence.starts_at > now else ""
    return f"{begins}until {timestamp(silence.ends_at)}"


async def revise_silence(
    context: WebContext,
    who: str,
    number: int,
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    comment: str | None = None,
) -> ActionOut:
    """Change when a silence begins or ends, or why it is there; what is None stays.

    Raises:
        HTTPException: 404, there is none of this number that has not ended; 422, the end is too early or
            too late, or the comment is empty or too long.
    """
    now = context.clock()
    if ends_at is not None:
        _demand_span(max(now, starts_at or now), ends_at, now)
    if comment is not None and not 0 < len(comment.strip()) <= MAX_COMMENT_CHARACTERS:
        raise HTTPException(422, f"Say why, in 1 to {MAX_COMMENT_CHARACTERS} characters.")
    revised = None
    if 0 < number <= MAX_ID:
        try:
            revised = await context.store.write(
                queries.silences.revise,
                number,
                now,
                starts_at=starts_at and max(now, starts_at),
                ends_at=ends_at,
                comment=comment and comment.strip(),
            )
        except ValueError as error:
            raise HTTPException(422, f"{error}.".capitalize()) from None
    if revised is None:
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    text = f"{patterns_text(revised)}, {_span_text(revised, now)}: {one_line(revised.comment)}"
    return await _record(context, who, "change silence", f"Silence {number} is now: {text}", id_=number)


async def end_silence(context: WebContext, who: str, number: int) -> ActionOut:
    """End a silence now.

    Raises:
        HTTPException: 404, there is none of this number that has not ended.
    """
    if not 0 < number <= MAX_ID or not await context.store.write(
        queries.silences.end, number, context.clock()
    ):
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    context.intake.wake()
    details = f"Silence {number} has ended. Incidents that it muted and that are still open alert once."
    return await _record(context, who, "end silence", details, id_=number)


def patterns_text(silence: Silence) -> str:
    """Return a silence's patterns in words: ``rule health, team Payments``."""
    patterns = ((name, getattr(silence, name)) for name in ("rule", "blueprint", "entity", "team"))
    text = ", ".join(f"{name} {one_line(pattern)}" for name, pattern in patterns if pattern != ANY)
    return text or "everything"


async def act_on_incident(
    context: WebContext,
    who: Person,
    verb: Verb,
    name: str,
    comment: str = "",
    *,
    id_: str,
    until: datetime | None = None,
) -> ActionOut:
    """Acknowledge an open incident, take that back, silence it or close it: see `app.store.actions.act`.

    Args:
        context: The running parts.
        who: Who does it.
        verb: What to do.
        name: The incident's id.
        comment: Why; empty: it is not said.
        id_: The action's id: the same one twice is done once.
        until: When a silence ends, UTC; None: with the incident.

    Raises:
        HTTPException: 404, there is none of this id; 409, it was done before, or the incident is over; 422,
            the comment is too long, or the end is too early or too late.
    """
    now = context.clock()
    if len(comment) > MAX_COMMENT_CHARACTERS:
        raise HTTPException(422, f"Say why in {MAX_COMMENT_CHARACTERS} characters at the most.")
    if until is not None and not now < until <= now + MAX_SILENCE:
        raise HTTPException(422, "A silence must end in the future, and within a year.")
    result = await context.store.write(act, Action(id_, verb, name, who, comment, until), now)
    if result.came != "done":
        raise HTTPException(404 if result.came == "unknown" else 409, result.text)
    context.intake.wake()
    return ActionOut(done=result.text, audit=result.audit, id=result.silence)


async def send_test(context: WebContext, who: str, change: TestChange) -> ActionOut:
    """Accept a change that is marked as a test: the rules decide on it, and its alerts are sent.

    Raises:
        HTTPException: 422, it lacks a name, or nothing changes.
    """
    names = (change.blueprint, change.entity, change.property)
    if not all(name.strip() for name in names) or max(map(len, names)) > MAX_PATTERN_CHARACTERS:
        raise HTTPException(
            422, f"Blueprint, entity and property have 1 to {MAX_PATTERN_CHARACTERS} characters."
        )
    if change.before == change.after:
        raise HTTPException(422, "Before and after are the same: nothing would change.")
    now = context.clock()
    texts = {name: text.strip() for name, text in asdict(change).items()}
    body, entity = marked_change(changed=texts.pop("property"), who=who, now=now, **texts)
    # The same way as a webhook's body, so that the test shows what a real change would do.
    accepted = await context.intake.accept(Signed(body, now))
    entity = one_line(entity, MAX_NAME_CHARACTERS)
    details = f"Test change of {entity} was accepted and led to {_alerts(accepted.alerts)}."
    return await _record(context, who, "test change", details)


async def replay(context: WebContext, who: str, number: int) -> ActionOut:
    """Read a body in quarantine again: one that can be read now is accepted, and leaves the quarantine.

    Raises:
        HTTPException: 404, it is not in quarantine; 409, it still cannot be read.
    """
    row = await context.store.read(queries.quarantine.body, number) if 0 < number <= MAX_ID else None
    if row is None:
        raise HTTPException(404, f"There is no {number} in quarantine.")
    try:
        accepted = await context.intake.accept(Signed(row.body, row.signed_at))
    except (UnreadableChange, JqUnavailable) as error:
        failed = f"Number {number} still cannot be read: {one_line(str(error), 200)}."
        await _record(context, who, "replay", failed)
        raise HTTPException(409, failed) from None
    # Accepting comes first: a crash between the two leaves a body that is a duplicate next time.
    await context.store.write(queries.quarantine.leave, [number])
    details = f"Number {number} left the quarantine: accepted, {_alerts(accepted.alerts)}."
    return await _record(context, who, "replay", details, id_=number)


def _alerts(number: int) -> str:
    return "1 alert" if number == 1 else f"{number} alerts"
