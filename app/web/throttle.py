"""Whoever tries tokens out is slowed down, more with every wrong one."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

FREE = 5
LONGEST_WAIT_SECONDS = 300.0
FREE_IN_ALL = 50
LONGEST_WAIT_IN_ALL_SECONDS = 10.0  # many addresses must not lock out for long who has the token
FORGET_AFTER_SECONDS = 900.0
REMEMBER_AT_MOST = 10_000
REMEMBER_RIGHT_AT_MOST = 1_000
EVERYBODY = ""


@dataclass(slots=True)
class _Wrong:
    number: int = 0
    last_at: float = 0.0
    wait_until: float = 0.0


class Throttle:
    """Counts wrong tokens, for each source address and in all. In memory: a restart forgets.

    Whence the right token came before does not wait for what others try: else whoever has many addresses
    could lock everybody out.

    Args:
        clock: Gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, _Wrong] = OrderedDict({EVERYBODY: _Wrong()})
        self._right: OrderedDict[str, None] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return for how many seconds no token of an address is looked at; 0.0: it may try."""
        now = self._clock()
        source = _source(address)
        known = (self._wrong.get(source), None if source in self._right else self._wrong[EVERYBODY])
        return max([0.0, *(one.wait_until - now for one in known if one)])

    def wrong(self, address: str) -> None:
        """Note a wrong token."""
        source = _source(address)
        self._count(source, FREE, LONGEST_WAIT_SECONDS)
        self._count(EVERYBODY, FREE_IN_ALL, LONGEST_WAIT_IN_ALL_SECONDS)
        self._wrong.move_to_end(EVERYBODY)
        if len(self._wrong) > REMEMBER_AT_MOST:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """Forget the wrong tokens of an address that has the right one."""
        source = _source(address)
        self._wrong.pop(source, None)
        self._right[source] = None
        self._right.move_to_end(source)
        if len(self._right) > REMEMBER_RIGHT_AT_MOST:
            self._right.popitem(last=False)

    def _count(self, source: str, free: int, longest: float) -> None:
        now = self._clock()
        one = self._wrong.setdefault(source, _Wrong())
        self._wrong.move_to_end(source)
        if now - one.last_at > FORGET_AFTER_SECONDS:
            one.number = 0
        one.number, one.last_at = one.number + 1, now
        if one.number >= free:
            one.wait_until = now + min(2.0 ** min(one.number - free, 30), longest)


def _source(address: str) -> str:
    """Return what counts as one source: an address, or the IPv6 network that one customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or int(parsed) >> 64)
    return str(parsed)
