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
    # Every half minute
    "archived": 0.03,  # a channel is archived for some minutes
    "pager_down": 0.05,  # the receiver answers 503 for some minutes
    "channel_renamed": 0.02,  # the one that is known by its name, and back
    "pager_expired": 0.05,  # the receiver answers 401, for up to an hour
    "silent": 0.03,  # the receiver, or a webhook, takes everything and never answers, for some minutes
    "webhook_moved": 0.02,  # an incoming webhook is gone; some minutes later its new address is in the rules
    # The disk, for each transaction
    "disk_full": 0.004,  # for some seconds
    "disk_slow": 0.01,
    # The process
    "kill_before_commit": 0.004,
    "kill_after_commit": 0.004,
    "kill_at_send": 0.01,  # when a request of it has arrived
    "kill": 0.05,  # every half minute, at any moment
    "restart": 0.05,  # it is asked to stop, and starts again
    "freeze": 0.05,  # it stands still for 5 to 60 s, every half minute
    "freeze_at_send": 0.012,  # when a request of it has arrived
    "clock_jump": 0.01,  # the machine's clock is set by up to 40 s, every half minute
    "clock_set": 0.01,  # by -2 hours to 40 days, and right again after some minutes
    "clock_set_stopped": 0.005,  # the same, while no process runs
    "reboot": 0.005,  # the same, and the machine has been started again
    # The operator, every half minute
    "silence": 0.05,
    "release": 0.1,
    "silence_ends": 0.05,  # by hand
    "retry": 0.05,  # of what was given up
    "rules_moved": 0.04,  # another channel for each team
    "rule_renamed": 0.015,
    "rule_removed": 0.01,  # for some seconds
}
"""How likely each fault is, each time that it could strike."""

UNPROVEN: dict[str, float] = {}
"""Faults that the listener does not survive yet, so that they strike only where `--with` names them."""


class Chance:
    """What is random in a run. Each purpose has its own numbers: without one fault, the others stay.

    Args:
        seed: The seed.
        off: Faults that never strike.
        muted: Occurrences that do not strike: ``kill#2`` is the third one.
        extra: Faults of `UNPROVEN` that strike.
    """

    def __init__(
        self, seed: int, off: Collection[str] = (), muted: Collection[str] = (), extra: Collection[str] = ()
    ) -> None:
        self._seed = seed
        self._streams: dict[str, Random] = {}
        self._rates = FAULTS | {name: UNPROVEN[name] for name in extra}
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
        if self.quiet or self.stream(fault).random() >= self._rates.get(fault, 0.0):
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
