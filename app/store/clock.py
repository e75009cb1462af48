"""The store's time: it runs steadily. When the machine's clock is set, what waits is moved by as much.

A process compares the machine's clock with the time since the machine was started, which nobody sets. If the
two have come apart, the clock was set: every time in the store until which something waits is moved by the
difference, so that only time that has passed counts. The first process that sees it does this, in its
transaction; the row `clock` holds the sum, and the others follow.

On PostgreSQL the server's clock counts, which all replicas share; their own may say what they like.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.model.times import MICRO, Micros, from_micros, to_micros
from app.store.columns import UNTIL_RELEASED
from app.store.transaction import CLOCK, Transaction

CLOCKS_AGREE = 500_000
"""Microseconds. A smaller difference is drift, or the way to the server, and does no harm."""
STEP = 2_000_000
"""Microseconds. By less than that nobody waits too long, and nothing is moved."""
ABSENCE = 3_600_000_000
"""Microseconds. Where nothing delivered for longer, that time uses up nobody's patience."""
SEEN_EVERY = 30_000_000
BUSY_SEEN_EVERY = 1_000_000
"""Microseconds between notes of the time, for the next start; while something is sent, more often."""
WARNED_FOR = 3600 * 1_000_000
"""Microseconds. How long /readyz warns that the clock was set."""
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")

# All that somebody waits for, in the order in which rows are locked everywhere. A silence that has not begun
# is a time of the calendar, and stays; so does what is quiet, which waits for another incident.
MOVES = (
    (
        "UPDATE incidents SET due_at = due_at + $1, escalates_from ="
        f" CASE WHEN escalates_from < {UNTIL_RELEASED} THEN escalates_from + $1 ELSE escalates_from END"
        " WHERE resolved_at IS NULL AND (due_at IS NOT NULL OR escalates_from IS NOT NULL)"
    ),
    "UPDATE incident_ties SET counts_from = counts_from + $1 WHERE counts_from > 0",
    (
        "UPDATE queues SET next_at = next_at + $1, lease_until = lease_until + $1,"
        " unsure_since = unsure_since + $1"
    ),
    "UPDATE rates SET next_at = next_at + $1",
    (
        "UPDATE deliveries SET waiting_since = waiting_since + $1,"
        " due_at = CASE WHEN due_at > 0 THEN due_at + $1 ELSE 0 END"
        f" WHERE state = 'pending' AND due_at < {UNTIL_RELEASED}"
    ),
    (  # what an acknowledgement that is taken back brings back is found by when it counted from
        "UPDATE deliveries SET due_at = due_at + $1"
        " WHERE step = 'escalated' AND state <> 'pending'"
        f" AND due_at > 0 AND due_at < {UNTIL_RELEASED} AND incident_id IN"
        " (SELECT id FROM incidents WHERE resolved_at IS NULL AND escalates_from IS NOT NULL)"
    ),
    "UPDATE reconcile_runs SET lease_until = lease_until + $1 WHERE ended_at IS NULL",
)
MOVE_SILENCES = (
    "UPDATE silences SET starts_at = starts_at + $1, ends_at = ends_at + $1"
    " WHERE NOT settled AND starts_at <= $2 AND ends_at > $2"
)
END_HOURS = "UPDATE silences SET ends_at = $1 WHERE NOT settled AND hours <> '' AND ends_at > $1"
EXTEND_PATIENCE = (
    "UPDATE deliveries"
    " SET waiting_since = CASE WHEN waiting_since + $1 < $2 THEN waiting_since + $1 ELSE $2 END"
    " WHERE state = 'pending' AND waiting_since < $2"
)
NOTE = (
    "UPDATE clock SET seen_at = $1, stepped = stepped + $2, boot = $3, booted_at = $4"
    " WHERE stepped = $5 AND seen_at = $6 RETURNING true"
)
NOTE_UNLESS_LOCKED = NOTE.replace(
    "RETURNING", "AND EXISTS (SELECT 1 FROM clock FOR NO KEY UPDATE SKIP LOCKED) RETURNING"
)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def machine_uptime() -> Micros:
    """Give the microseconds since this machine was started; sleep counts, where the system counts it."""
    return Micros(time.clock_gettime_ns(_CLOCK) // 1000)


def steady() -> datetime:
    """Give a time that says nothing but how long it is since an earlier one: nobody can set it."""
    return from_micros(machine_uptime())


def machine_boot() -> str:
    """Give what tells this start of the machine from every other one; empty: that cannot be known."""
    with suppress(OSError):
        return BOOT_FILE.read_text().strip()
    return ""


@dataclass(frozen=True, slots=True)
class ClockState:
    """How the clock is set.

    Attributes:
        booted_at: When this machine was started, by the clock; it changes only when the clock is set.
        stepped: By how much what waits was moved so far, in microseconds.
        step: By how much of that in this transaction.
        away: For how many microseconds nothing delivered before; 0: for no longer than usual.
    """

    booted_at: int
    stepped: int
    step: int = 0
    away: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What the clock and the row `clock` say; see `ClockState`.

    Attributes:
        measured: When this machine was started, by the clock as it is set now.
        exact: Whether that was measured quickly enough to be right.
    """

    measured: int
    exact: bool
    seen_at: int
    stepped: int
    boot: str
    booted_at: int


class StoreClock:
    """Tells the time of a store, UTC.

    Args:
        wall: Gives the time by this machine's clock, UTC.
        uptime: Gives the microseconds since the machine was started.
        boot: Tells this start of the machine from every other one; empty: that is not known.

    Attributes:
        busy: Whether something is being sent: then the time is noted more often, for a start after a crash.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        uptime: Callable[[], Micros] = machine_uptime,
        boot: str | None = None,
    ) -> None:
        self._wall, self._uptime = wall, uptime
        self._boot = machine_boot() if boot is None else boot
        self._state = ClockState(to_micros(wall()) - uptime(), 0)
        self._following = False
        self._set: tuple[int, timedelta] | None = None
        self.busy = False

    def __call__(self) -> datetime:
        """Give the time, UTC."""
        return from_micros(self._state.booted_at + self._uptime())

    @property
    def stepped(self) -> timedelta:
        """By how much the clock was set so far, as this process knows."""
        return self._state.stepped * MICRO

    @property
    def known(self) -> int | None:
        """The same in microseconds; None: this process does not follow it."""
        return self._state.stepped if self._following else None

    @property
    def warning(self) -> str | None:
        """Say that the clock was set in the last hour, for people; None: it was not."""
        if self._set is None or self._uptime() - self._set[0] > WARNED_FOR:
            return None
        return f"the clock was set {by(self._set[1])}; what waits was moved by as much"

    async def compare(self, tx: Transaction) -> None:
        """Go by the database's clock from now on, before anything else is done; nothing is moved."""
        look = await self._look(tx)
        self._state = ClockState(look.measured, 0)

    async def follow(self, tx: Transaction, *, delivers: bool = False) -> ClockState:
        """Find out whether the clock was set, and if so, move what waits; `adopt` what is then on disk.

        Args:
            tx: The transaction.
            delivers: Whether this is a dispatcher, whose time is noted.
        """
        if delivers:  # the leases that are taken now are by this clock: until then nobody moves what waits
            await tx.lock((), shared=CLOCK)
        while True:
            look = await self._look(tx)
            booted_at, step = self._judge(look)
            now = booted_at + self._uptime()
            away = now - look.seen_at - step if look.seen_at else 0
            seen_lately = look.seen_at and away < (BUSY_SEEN_EVERY if self.busy else SEEN_EVERY)
            if not step and (seen_lately or not delivers):
                return ClockState(booted_at, look.stepped)
            seen_at = now if delivers or not look.seen_at else look.seen_at + step
            note = seen_at, step, self._boot, booted_at, look.stepped, look.seen_at
            passing = not step and away < ABSENCE
            if step:  # who writes times by the clock as it was is done first: what it writes moves, too
                await tx.lock([CLOCK])
            if await tx.fetch_value(NOTE_UNLESS_LOCKED if passing else NOTE, *note):
                break
            if passing:  # another process notes the time just now: nobody waits for its claim to end
                return ClockState(booted_at, look.stepped)
            # Else another process was first: it has moved what waits.
        if step:
            for statement in MOVES:
                await tx.execute(statement, step)
            await tx.execute(MOVE_SILENCES, step, now - step)
            await tx.execute(END_HOURS, now)  # by the clock as it is now they may have begun
        if away < ABSENCE or not delivers:
            return ClockState(booted_at, look.stepped + step, step)
        await tx.execute(EXTEND_PATIENCE, away, now)
        return ClockState(booted_at, look.stepped + step, step, away)

    async def _look(self, tx: Transaction) -> _Look:
        before = self._uptime()
        row = await tx.fetch_row(f"SELECT {tx.server_time}, seen_at, stepped, boot, booted_at FROM clock")
        server, *noted = row or (None, 0, 0, "", 0)
        told = to_micros(server or self._wall())
        after = self._uptime()  # last: if this process was frozen meanwhile, it is not exact
        return _Look(told - (before + after) // 2, after - before <= CLOCKS_AGREE, *noted)

    def _judge(self, look: _Look) -> tuple[int, int]:
        """Say when this machine was started, by the clock, and by how much that was set unseen."""
        known = self._state if self._following else None
        if known is None and self._boot and self._boot == look.boot:
            known = ClockState(look.booted_at, look.stepped)
        if known is None:
            # The machine was restarted, or is another one. For how long it stood still is not known, but
            # time does not go back.
            step = min(0, look.measured + self._uptime() - look.seen_at) if look.seen_at else 0
            return look.measured, step if -step >= STEP else 0
        moved = look.stepped - known.stepped  # that is what another process has seen
        step = look.measured - known.booted_at - moved
        if not look.exact or abs(step) <= CLOCKS_AGREE:
            return known.booted_at + moved, 0
        return look.measured, step if abs(step) >= STEP else 0

    def behind(self, state: ClockState) -> timedelta:
        """Give by how much the clock was set since this process last told a time."""
        return (state.stepped - self._state.stepped) * MICRO if self._following else timedelta(0)

    def adopt(self, state: ClockState) -> timedelta:
        """Go by what `follow` has found, now that it is on disk; give by how much the clock was set."""
        moved = self.behind(state) if self._following else state.step * MICRO
        self._state, self._following = state, True
        if moved:
            self._set = self._uptime(), moved
        return moved


async def moved_since(tx: Transaction, known: int | None) -> timedelta:
    """Give by how much what waits was moved since a process knew the sum; until the end nobody moves it more.

    That is no time if the process does not follow the clock.
    """
    if known is None:
        return timedelta(0)
    await tx.lock((), shared=CLOCK)
    stepped: int = await tx.fetch_value("SELECT stepped FROM clock")
    return (stepped - known) * MICRO


def by(step: timedelta) -> str:
    """Say by how much the clock was set: ``back by 1:14:59``, ``forward by 1 day, 1:00:00``."""
    way = "back" if step < timedelta(0) else "forward"
    return f"{way} by {timedelta(seconds=round(abs(step).total_seconds()))}"
