"""What the comparison with Port keeps in a store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.rules.last_known import LastKnown


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        entities: How many entities it has compared.
        learned: Of how many it took note for the first time, which alerts nobody.
        differences: How many differ from what was known.
        missed: How many of these by a change of their own, of which Port should have called us.
    """

    entities: int = 0
    learned: int = 0
    differences: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A comparison with Port. Times are UTC.

    Attributes:
        id: Its number.
        reason: Why it was made: ``start``, ``interval``, ``rules`` or ``command``.
        started_at: When it began.
        lease_until: If it has not ended by then, its process has.
        ended_at: When it ended; None: it has not, or nobody knows.
        progress: What it came to.
        error: Why it failed; empty: it did not.
    """

    id: int
    reason: str
    started_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    progress: Progress
    error: str


class Reconciling(Protocol):
    """Last known states, and who compares them. Every method raises `StoreUnavailable` as `Store`'s do."""

    async def begin(
        self, *, reason: str, token: str, now: datetime, lease_until: datetime, since: datetime | None
    ) -> int | None:
        """Begin a run, and return its number; None: one is under way, or there was one.

        Args:
            reason: Why.
            token: A text that no other process has.
            now: The time, UTC.
            lease_until: When the lease ends, UTC, if it is not kept.
            since: Not if a run that did not fail has begun after this time, UTC; None: at any rate.
        """
        ...

    async def keep(self, run: int, *, token: str, lease_until: datetime, progress: Progress) -> bool:
        """Prolong a run's lease and write how far it is; False if another has taken over."""
        ...

    async def end(self, run: int, *, token: str, now: datetime, progress: Progress, error: str = "") -> None:
        """Write what a run came to; `error`: why it failed."""
        ...

    async def runs(self, *, limit: int) -> list[Run]:
        """Return runs, newest first."""
        ...

    async def learned(self) -> frozenset[str]:
        """Return the identifiers of the blueprints that were read to the end once."""
        ...

    async def mark_learned(self, blueprint: str) -> None:
        """Take note that a blueprint was read to the end."""
        ...

    async def known(self, blueprint: str, entities: Sequence[str]) -> dict[str, LastKnown]:
        """Return what is known of entities of a blueprint; of which nothing is known, those are missing."""
        ...

    async def differing(
        self, blueprint: str, listed: Mapping[str, str], *, whole: bool
    ) -> dict[str, LastKnown | None]:
        """Return what is known of those entities that are not known to be as they are listed; None: nothing.

        Args:
            blueprint: Their blueprint.
            listed: The `canonical` text of the values of each.
            whole: See `LastKnown.whole`.
        """
        ...

    async def known_after(self, blueprint: str, entity: str, *, limit: int) -> list[tuple[str, LastKnown]]:
        """Return the next entities of a blueprint that are known and not deleted, by identifier.

        Args:
            blueprint: The blueprint.
            entity: Those behind this one; empty: from the first.
            limit: How many at the most.
        """
        ...

    async def learn(self, blueprint: str, known: Mapping[str, LastKnown]) -> list[str]:
        """Take note of states that alert nobody; return the entities of which another change came before.

        What is written replaces the version before it, or, the first version, nothing.
        """
        ...

    async def forget(self, kept: Collection[str], *, limit: int) -> int:
        """Forget entities of blueprints that are not among `kept`; return how many, until there are none."""
        ...
