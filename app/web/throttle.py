"""Rate limit for wrong tokens: each one makes its address wait longer."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

FREE_TRIES = 5
MAX_WAIT_SECONDS = 300.0
FREE_TRIES_IN_ALL = 50
MAX_WAIT_IN_ALL_SECONDS = 10.0  # many addresses together must not lock out for long those who have the token
FORGET_AFTER_SECONDS = 900.0
MAX_WRONG_SOURCES = 10_000  # memory stays small, however many addresses try
MAX_RIGHT_SOURCES = 1_000
ALL_SOURCES = ""


@dataclass(slots=True)
class _WrongTokens:
    """How many a source sent; times are the clock's seconds."""

    number: int = 0
    last_at: float = 0.0
    wait_until: float = 0.0


class Throttle:
    """Counts wrong tokens, for each source address and overall. In memory: a restart forgets.

    An address from which the right token came before does not wait for others: else an attacker with many
    addresses could lock everybody out.

    Args:
        clock: Gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, _WrongTokens] = OrderedDict({ALL_SOURCES: _WrongTokens()})
        self._right: OrderedDict[str, None] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return the seconds until an address may try a token again; 0.0: now."""
        now = self._clock()
        source = _source(address)
        counts = (self._wrong.get(source), None if source in self._right else self._wrong[ALL_SOURCES])
        return max([0.0, *(count.wait_until - now for count in counts if count)])

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        source = _source(address)
        self._count(source, FREE_TRIES, MAX_WAIT_SECONDS)
        self._count(ALL_SOURCES, FREE_TRIES_IN_ALL, MAX_WAIT_IN_ALL_SECONDS)
        self._wrong.move_to_end(ALL_SOURCES)  # never the oldest, which is dropped
        if len(self._wrong) > MAX_WRONG_SOURCES:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """Forget the wrong tokens of an address that has the right one."""
        source = _source(address)
        self._wrong.pop(source, None)
        self._right[source] = None
        self._right.move_to_end(source)
        if len(self._right) > MAX_RIGHT_SOURCES:
            self._right.popitem(last=False)

    def _count(self, source: str, free: int, longest: float) -> None:
        now = self._clock()
        count = self._wrong.setdefault(source, _WrongTokens())
        self._wrong.move_to_end(source)
        if now - count.last_at > FORGET_AFTER_SECONDS:
            count.number = 0
        count.number, count.last_at = count.number + 1, now
        if count.number >= free:
            # The exponent is limited because a float has an end.
            count.wait_until = now + min(2.0 ** min(count.number - free, 30), longest)


def _source(address: str) -> str:
    """Return the source of an address: itself, or the /64 network that one IPv6 customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or int(parsed) >> 64)
    return str(parsed)
