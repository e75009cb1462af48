"""Chance: everything that is random in a run, from its seed, and the table of faults."""

from collections import Counter
from collections.abc import Collection
from random import Random

FAULTS: dict[str, float] = {
    # Port
    "port_lost": 0.04,  # a change of which no webhook is sent
    "port_late": 0.05,  # a webhook that is sent up to a minute late
    "port_twice": 0.05,  # a webhook that is sent twice
    "port_api_503": 0.04,
    "port_api_429": 0.02,
    "port_api_hang": 0.02,
    "team_moves": 0.08,
    "renamed": 0.02,
    "deleted": 0.02,
    "storm": 0.03,  # many changes within a second
    # Slack and the receiver of jobs, for each request
    "no_connection": 0.02,
    "rate_limited": 0.03,  # 429 with Retry-After
    "rate_limited_bare": 0.02,  # 429 without it
    "answer_503": 0.03,
    "answer_503_posted": 0.01,  # an error, though it was done
    "answer_lost": 0.02,  # it was done, and the connection ends
    "hang": 0.01,  # no answer, and it was not done
    "hang_posted": 0.01,  # no answer, and it was done
    "slow_answer": 0.05,
    "blocks_refused": 0.01,  # Slack refuses the form of a message
    "message_deleted": 0.02,  # somebody deletes a message of the app
    "store_away": 0.002,  # once Slack has said ok, nothing can be written for 30 to 60 s
    # The disk, for each transaction
    "disk_full": 0.004,  # for some seconds
    "disk_slow": 0.01,
    # The process
    "kill_before_commit": 0.004,
    "kill_after_commit": 0.004,
    "kill_at_send": 0.01,  # when a request of it has arrived
    "freeze_at_send": 0.012,  # when a request of it has arrived
}
"""How likely each fault is, each time that it could strike; `kinds` bring more of them."""

UNPROVEN: dict[str, float] = {}
"""Faults that the listener does not survive yet, so that they strike only where `--with` names them."""


class Chance:
    """What is random in a run. Each purpose has its own numbers: without one fault, the others stay.

    Args:
        seed: The seed.
        off: Faults that never strike.
        muted: Occurrences that do not strike: ``kill#2`` is the third one.
        extra: Faults of `UNPROVEN` that strike.

    Attributes:
        rates: How likely each fault is.
    """

    def __init__(
        self, seed: int, off: Collection[str] = (), muted: Collection[str] = (), extra: Collection[str] = ()
    ) -> None:
        self._seed = seed
        self._streams: dict[str, Random] = {}
        self.rates = FAULTS | {name: UNPROVEN[name] for name in extra}
        self._off = frozenset(off)
        self._muted = frozenset(muted)
        self._seen: Counter[str] = Counter()
        self.quiet = True
        self.struck: list[str] = []

    def stream(self, name: str) -> Random:
        """Give the random numbers of a purpose."""
        if name not in self._streams:
            # A text as the seed is hashed by SHA-512, which is the same in each process.
            self._streams[name] = Random(f"{self._seed} {name}")  # noqa: S311 - not for secrets
        return self._streams[name]

    def strikes(self, fault: str) -> bool:
        """Tell whether a fault happens now."""
        if self.quiet or self.stream(fault).random() >= self.rates.get(fault, 0.0):
            return False
        return self.happens(fault) and fault not in self._off

    def happens(self, kind: str) -> bool:
        """Count an occurrence of something, and tell whether it is not muted."""
        occurrence = f"{kind}#{self._seen[kind]}"
        self._seen[kind] += 1
        if occurrence in self._muted or kind in self._off:
            return False
        self.struck.append(occurrence)
        return True

    def between(self, name: str, low: float, high: float) -> float:
        """Give a number of a purpose."""
        return self.stream(name).uniform(low, high)
