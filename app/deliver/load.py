"""What of a queue is still to be sent, now that its turn has come."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.model.delivery import Outcome
from app.model.digest import outcome
from app.model.incident import Step
from app.model.notification import Notification
from app.model.silence import Silence, silence_of
from app.notifier.base import SEND_TIMEOUT, Sent
from app.store.follow import reach
from app.store.rows import Aside, Attempt, Claim, Waiting
from app.store.store import Store

MAX_SUMMED_UP = 10_000  # so that no transaction is long; what is beyond goes out with the next message
ROWS_PER_PAGE = 100
PAUSE_FACTOR = 2.0  # how much longer than reading a page the pause after it is: requests need the store too
MAX_PAUSE_SECONDS = 0.05

WhyNot = Callable[[Notification], str | None]
"""Says why an alert must not be sent any more; None: it is still wanted."""
Held = Callable[[Notification, str, datetime], tuple[str, datetime] | None]
"""Gives the hours, and when they begin, that keep an alert back from a destination; see `Rulebook`."""


@dataclass(slots=True)
class Load:
    """What of a claim is to be sent, and what is not.

    Attributes:
        listed: The deliveries that the message names one by one.
        further: The numbers of those that it only counts.
        counts: How many of both have which new value.
        asides: What becomes of the deliveries that are not sent, by their number.
        withheld: These deliveries.
        escalations: Those that escalate, by number.
    """

    listed: list[Waiting] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    asides: dict[int, Aside] = field(default_factory=dict)
    withheld: list[Waiting] = field(default_factory=list)
    escalations: dict[int, Waiting] = field(default_factory=dict)

    def with_withheld(self) -> "Load":
        """Give all, those too that are not to be sent."""
        listed = sorted([*self.listed, *self.withheld], key=lambda delivery: delivery.id)
        return replace(self, listed=listed, asides={}) if self.withheld else self

    def nothing_sent(self, at: datetime) -> Attempt:
        """Make the attempt of a claim of which nothing is to be sent."""
        return Attempt(Outcome.SILENCED, "", at, at, at, delivery_ids=(), asides=self.asides)

    def named(self, sent: Sent) -> list[Waiting]:
        """List the deliveries that a message has named one by one."""
        return [
            delivery for delivery in self.listed if sent.delivered is None or delivery.key in sent.delivered
        ]

    def add(self, claim: Claim, delivery: Waiting, why_not: WhyNot, held: Held) -> bool:
        """Count a delivery that is to be sent; of another one note why not, and give False."""
        if claim.sent_together and delivery.key not in claim.sent_together:
            return False  # it goes out with what is next
        aside = None
        if silence := silence_of(delivery.notification, claim.silences):
            aside = Aside(Outcome.SILENCED, f"silence {silence.id}, by {silence.author}", silence.id)
        elif reason_gone := why_not(delivery.notification):
            aside = Aside(Outcome.DEAD, reason_gone)
        elif hours := held(delivery.notification, claim.destination, claim.claimed_at):
            reason = f"held until {hours[1]:%Y-%m-%d %H:%M} UTC, when hours {hours[0]} begin"
            aside = Aside(Outcome.SILENCED, reason, hours=hours)
        if aside is not None:
            if sent_at := _sent_at(claim, delivery, silence, held):
                aside = replace(aside, detail=f"{aside.detail}; it may have arrived before", sent_at=sent_at)
            self.asides[delivery.id] = aside
            self.withheld.append(delivery)
            return False
        if value := outcome(delivery.notification):
            self.counts[value] += 1
        if delivery.notification.step is Step.ESCALATED and delivery.incident_id:
            self.escalations[delivery.id] = delivery
        return True

    def drop(self, needless: Collection[int]) -> None:
        """Leave out escalations, by number, that nobody needs any more."""
        self.listed = [delivery for delivery in self.listed if delivery.id not in needless]
        self.further = [number for number in self.further if number not in needless]
        self.counts -= Counter(outcome(self.escalations[number].notification) for number in needless)


def _sent_at(claim: Claim, delivery: Waiting, silence: Silence | None, held: Held) -> datetime | None:
    """Say when a delivery was sent that may have arrived; None: it was not, or was kept back already then."""
    at = claim.unsure_since
    if at is None or (silence and silence.starts_at <= at):
        return None
    if claim.sent_together:
        sent = delivery.key in claim.sent_together
    else:
        first, *others = claim.deliveries
        sent = delivery is first or (delivery in others and delivery.waiting_since <= at)
    return at if sent and not held(delivery.notification, claim.destination, at) else None


async def load_claim(
    store: Store, claim: Claim, *, room: int, why_not: WhyNot, held: Held, clock: Callable[[], datetime]
) -> Load:
    """Apply rules and silences once more to what waits in a queue, now that it is to be sent.

    Args:
        store: Gives what waits beyond the claim.
        claim: The queue, with its first deliveries.
        room: How many deliveries one message can list.
        why_not: Says what is not wanted any more.
        held: Says what waits for hours to begin.
        clock: Gives the time, UTC.

    Raises:
        StoreUnavailable: It cannot be seen what waits.
    """
    if not claim.alerts:  # an update of a message, or a report to a run, alerts nobody
        return Load(list(claim.deliveries))
    load = Load()
    load.listed = [delivery for delivery in claim.deliveries if load.add(claim, delivery, why_not, held)]
    seen, last = len(claim.deliveries), claim.deliveries[-1].id
    # What is more than one message can list is counted, a page at a time, so that memory stays flat.
    # That takes half of the time there is at the most: what is left goes out with the next message.
    enough = claim.claimed_at + (claim.lease_until - SEND_TIMEOUT - claim.claimed_at) / 2
    while claim.waiting > seen < MAX_SUMMED_UP and clock() < enough:
        began = time.perf_counter()
        page = await store.waiting(claim, after=last, limit=ROWS_PER_PAGE)
        if not page:
            break
        for delivery in page:
            if not load.add(claim, delivery, why_not, held):
                continue
            if len(load.listed) < room:  # a silenced one takes no room
                load.listed.append(delivery)
            else:
                load.further.append(delivery.id)
        seen, last = seen + len(page), page[-1].id
        await asyncio.sleep(min(PAUSE_FACTOR * (time.perf_counter() - began), MAX_PAUSE_SECONDS))
    if claim.sent_together and not (load.listed or load.withheld):
        # What was sent together waits behind what is due by now, and this turn does not come so far.
        anything = replace(claim, sent_together=())
        return await load_claim(store, anything, room=room, why_not=why_not, held=held, clock=clock)
    if load.escalations:  # before it is sent: from here on the destination is told to the end
        incidents = {number: delivery.incident_id or "" for number, delivery in load.escalations.items()}
        load.drop(await store.write(reach, incidents, clock()))
    return load
