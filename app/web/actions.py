"""What people do about what they see. Each deed says what it did, and is written down with who did it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import HTTPException

from app.errors import UnreadableChange
from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.notifier.base import timestamp
from app.port.setup.probe import marked_change
from app.receive.signature import Signed
from app.store.views import AuditRow
from app.web.desk import Desk

LONGEST_PATTERN = 200
LONGEST_COMMENT = 500
LONGEST_SILENCE = timedelta(days=366)
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: a sentence, its number in the trail, and the number of what was made or touched."""

    said: str
    audit: int
    id: int = 0


@dataclass(frozen=True, slots=True)
class TestChange:
    """A change that is made up, to see what the rules and the destinations make of it."""

    __test__ = False  # not one of pytest's

    blueprint: str
    entity: str
    property: str
    before: str
    after: str
    team: str = ""


async def _done(desk: Desk, who: str, what: str, details: str, *, id_: int = 0) -> Done:
    number = await desk.views.note(AuditRow(desk.clock(), who, what, details))
    return Done(details, number, id_)


async def retry(desk: Desk, who: str, number: int) -> Done:
    """Let a delivery that is dead or waits be tried at once.

    Raises:
        HTTPException: 404, there is none of this number; 409, it has ended otherwise.
    """
    if not 0 < number <= LARGEST_ID or (row := await desk.views.delivery(number)) is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    if not await desk.store.retry(now=desk.clock(), ids=[number]):
        raise HTTPException(409, f"Delivery {number} is {row.delivery.state}: there is nothing to try again.")
    desk.intake.wake()
    said = row.delivery.notification
    details = (
        f"Delivery {number} of {one_line(said.entity, 80)} to {row.delivery.destination} is tried again."
    )
    return await _done(desk, who, "retry", details, id_=number)


async def release(desk: Desk, who: str, queue: str) -> Done:
    """Let a queue on hold send at once, with all queues of its destination: what put one on hold put all on hold.

    Raises:
        HTTPException: 404, there is no such queue; 409, it is not on hold.
    """
    queues = {one.name: one for one in await desk.store.queues(desk.clock())}
    if (found := queues.get(queue)) is None:
        raise HTTPException(404, f"There is no queue {one_line(queue, 80)!r}.")
    number = await desk.store.release_hold(found.destination, desk.clock())
    if not number:
        raise HTTPException(409, f"Queue {one_line(queue, 80)} is not on hold.")
    desk.intake.wake()
    more = f" ({number} queues)" if number > 1 else ""
    return await _done(desk, who, "release", f"Destination {found.destination} is released{more}.")


def silence_of(
    desk: Desk, who: str, patterns: tuple[str, str, str, str], ends_at: datetime, comment: str
) -> Silence:
    """Return a silence from now on.

    Args:
        desk: The running parts.
        who: Who silences.
        patterns: Rule, blueprint, entity and team; empty: any.
        ends_at: When it ends, UTC.
        comment: Why.

    Raises:
        HTTPException: 422, it says nothing of what, of why, or ends too early or too late.
    """
    now = desk.clock()
    given = [one.strip() or ANY for one in patterns]
    if all(one == ANY for one in given):
        raise HTTPException(422, "Say what to silence: a rule, a blueprint, an entity or a team.")
    if max(map(len, given)) > LONGEST_PATTERN:
        raise HTTPException(422, f"A pattern has {LONGEST_PATTERN} characters at the most.")
    if not comment.strip() or len(comment) > LONGEST_COMMENT:
        raise HTTPException(422, f"Say why, in 1 to {LONGEST_COMMENT} characters.")
    if not now < ends_at <= now + LONGEST_SILENCE:
        raise HTTPException(422, "A silence must end later than now, and within a year.")
    rule, blueprint, entity, team = given
    return Silence(rule, blueprint, entity, team, now, ends_at, who, comment.strip())


async def silence(desk: Desk, who: str, new: Silence) -> Done:
    """Let nobody hear of what a silence covers."""
    number = await desk.store.add_silence(new)
    details = f"Silence {number}: {what_of(new)}, until {timestamp(new.ends_at)}: {one_line(new.comment)}"
    return await _done(desk, who, "silence", details, id_=number)


async def end_silence(desk: Desk, who: str, number: int) -> Done:
    """Let a silence end now.

    Raises:
        HTTPException: 404, there is none of this number that has not ended.
    """
    if not 0 < number <= LARGEST_ID or not await desk.store.end_silence(number, desk.clock()):
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    desk.intake.wake()
    details = f"Silence {number} has ended. What it kept back and is still open is told once."
    return await _done(desk, who, "end silence", details, id_=number)


def what_of(one: Silence) -> str:
    """Return in words what a silence covers."""
    patterns = {"rule": one.rule, "blueprint": one.blueprint, "entity": one.entity, "team": one.team}
    said = ", ".join(f"{name} {one_line(value)}" for name, value in patterns.items() if value != ANY)
    return said or "everything"


async def send_test(desk: Desk, who: str, what: TestChange) -> Done:
    """Let a marked change go the whole way: the rules decide on it, and whom it concerns hears of it.

    Raises:
        HTTPException: 422, it lacks a name, or nothing changes.
    """
    names = (what.blueprint, what.entity, what.property)
    if not all(one.strip() for one in names) or max(map(len, names)) > LONGEST_PATTERN:
        raise HTTPException(422, f"Blueprint, entity and property have 1 to {LONGEST_PATTERN} characters.")
    if what.before == what.after:
        raise HTTPException(422, "Before and after are the same: nothing would change.")
    now = desk.clock()
    body, entity = marked_change(
        blueprint=what.blueprint.strip(),
        entity=what.entity.strip(),
        changed=what.property.strip(),
        before=what.before.strip(),
        after=what.after.strip(),
        team=what.team.strip(),
        who=who,
        now=now,
    )
    accepted = await desk.intake.accept(Signed(body, now))
    led_to = "1 alert" if accepted.alerts == 1 else f"{accepted.alerts} alerts"
    details = f"Test change of {one_line(entity, 80)} was accepted and led to {led_to}."
    return await _done(desk, who, "test change", details)


async def replay(desk: Desk, who: str, number: int) -> Done:
    """Read a body in quarantine again: what can be read now is accepted, and leaves it.

    Raises:
        HTTPException: 404, it is not in quarantine; 409, it still cannot be read.
    """
    row = await desk.views.quarantined(number) if 0 < number <= LARGEST_ID else None
    if row is None:
        raise HTTPException(404, f"There is no {number} in quarantine.")
    try:
        accepted = await desk.intake.accept(Signed(row.body, row.signed_at))
    except UnreadableChange as error:
        said = one_line(str(error), 200)
        await _done(desk, who, "replay", f"Number {number} still cannot be read: {said}.")
        raise HTTPException(409, f"Number {number} still cannot be read: {said}.") from None
    await desk.store.leave_quarantine([number])
    alerts = "1 alert" if accepted.alerts == 1 else f"{accepted.alerts} alerts"
    details = f"Number {number} left the quarantine: accepted, {alerts}."
    return await _done(desk, who, "replay", details, id_=number)
