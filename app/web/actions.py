"""What people do on the page and programs through the API. Each action is logged in the audit trail."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Protocol

from fastapi import Form, HTTPException

from app.errors import JqUnavailable, UnreadableChange
from app.model.incident import Person
from app.model.notification import one_line
from app.notifier.base import timestamp
from app.port.setup.probe import marked_change
from app.receive.intake import Intake
from app.receive.signature import Signed
from app.store import queries
from app.store.actions import Action, Verb, act
from app.store.queue_state import QueueState
from app.store.rows import Accepted
from app.store.store import Store
from app.store.views import AuditEntry, Quarantined
from app.web.api.models import ActionOut

MAX_PATTERN_CHARACTERS = 200
MAX_COMMENT_CHARACTERS = 500
MAX_NAME_CHARACTERS = 80
MAX_SILENCE = timedelta(days=366)
MAX_ID = 2**63 - 1  # the databases refuse a larger number with an error, where 404 is meant
Text = Annotated[str, Form()]


class ActionContext(Protocol):
    """What most actions need of the running parts; a command has no more."""

    @property
    def store(self) -> Store:
        """The store."""
        ...

    @property
    def clock(self) -> Callable[[], datetime]:
        """Gives the time, UTC."""
        ...

    def wake(self) -> None:
        """Let the dispatcher look for work at once, if it runs in this process."""
        ...


class AcceptingContext(ActionContext, Protocol):
    """What actions need that let a change in."""

    @property
    def intake(self) -> Intake:
        """Takes changes in."""
        ...


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


async def record(context: ActionContext, who: str, what: str, details: str, *, id_: int = 0) -> ActionOut:
    """Write down what somebody did, and give the answer that says so."""
    # After the action, not before: the trail must not name one that then failed.
    number = await context.store.write(queries.audit.write, AuditEntry(context.clock(), who, what, details))
    return ActionOut(done=details, audit=number, id=id_)


async def retry(context: ActionContext, who: str, number: int) -> ActionOut:
    """Make a delivery due now, whether it waits or is dead.

    Raises:
        HTTPException: 404, there is none of this number; 409, it was delivered, silenced or cancelled.
    """
    if not 0 < number <= MAX_ID or (row := await context.store.read(queries.page.delivery, number)) is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    if not await context.store.retry(now=context.clock(), ids=[number]):
        raise HTTPException(409, f"Delivery {number} is {row.state}: there is nothing to try again.")
    context.wake()  # else the dispatcher would look only when its pause is over
    entity = one_line(row.notification.entity, MAX_NAME_CHARACTERS)
    details = f"Delivery {number} of {entity} to {row.destination} is tried again."
    return await record(context, who, "retry", details, id_=number)


async def retry_dead(
    context: ActionContext,
    who: str,
    *,
    rule: str | None = None,
    destination: str | None = None,
    since: datetime | None = None,
) -> ActionOut:
    """Make dead deliveries due now: all, or those of a rule, for a destination, or that died since a time."""
    now = context.clock()
    number = await context.store.retry(now=now, ids=None, rule=rule, destination=destination, since=since)
    context.wake()
    named = {"rule": rule, "destination": destination, "since": since and timestamp(since)}
    which = ", ".join(f"{name} {one_line(text)}" for name, text in named.items() if text)
    what = "1 dead delivery is" if number == 1 else f"{number:,} dead deliveries are"
    details = f"{what} tried again{f' ({which})' if which else ''}."
    return await record(context, who, "retry", details)


async def release(context: ActionContext, who: str, queue_name: str) -> ActionOut:
    """Release a queue that is on hold, and all queues of its destination: they are on hold for one reason.

    Raises:
        HTTPException: 404, there is no such queue; 409, it is not on hold.
    """
    queue = await queue_on_hold(context, queue_name)
    number = await context.store.release_hold(queue.destination, context.clock())
    context.wake()
    more = f" ({number} queues)" if number > 1 else ""
    return await record(context, who, "release", f"Destination {queue.destination} is released{more}.")


async def queue_on_hold(context: ActionContext, queue_name: str) -> QueueState:
    """Read a queue that is to be released; raises as `release` does."""
    name = one_line(queue_name, MAX_NAME_CHARACTERS)
    queues = {queue.name: queue for queue in await context.store.read(queries.page.queues, context.clock())}
    if (queue := queues.get(queue_name)) is None:
        raise HTTPException(404, f"There is no queue {name!r}.")
    if queue.on_hold is None:
        raise HTTPException(409, f"Queue {name} is not on hold.")
    return queue


async def act_on_incident(
    context: ActionContext,
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
    context.wake()
    return ActionOut(done=result.text, audit=result.audit, id=result.silence)


async def send_test(context: AcceptingContext, who: str, change: TestChange) -> ActionOut:
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
    return await record(context, who, "test change", details)


async def replay(context: AcceptingContext, who: str, number: int) -> ActionOut:
    """Read a body in quarantine again: one that can be read now is accepted, and leaves the quarantine.

    Raises:
        HTTPException: 404, it is not in quarantine; 409, it still cannot be read.
    """
    row = await quarantined(context, number)
    try:
        accepted = await context.intake.accept(Signed(row.body, row.signed_at))
    except (UnreadableChange, JqUnavailable) as error:
        failed = f"Number {number} still cannot be read: {one_line(str(error), 200)}."
        await record(context, who, "replay", failed)
        raise HTTPException(409, failed) from None
    return await left_quarantine(context, who, number, accepted)


async def left_quarantine(context: ActionContext, who: str, number: int, accepted: Accepted) -> ActionOut:
    """Delete from the quarantine a body that was accepted as a change."""
    # Accepting comes first: a crash between the two leaves a body that is a duplicate next time.
    await context.store.write(queries.quarantine.leave, [number])
    details = f"Number {number} left the quarantine: accepted, {_alerts(accepted.alerts)}."
    return await record(context, who, "replay", details, id_=number)


async def quarantined(context: ActionContext, number: int) -> Quarantined:
    """Read a body in quarantine.

    Raises:
        HTTPException: 404, it is not there.
    """
    row = await context.store.read(queries.quarantine.body, number) if 0 < number <= MAX_ID else None
    if row is None:
        raise HTTPException(404, f"There is no {number} in quarantine.")
    return row


def _alerts(number: int) -> str:
    return "1 alert" if number == 1 else f"{number} alerts"
