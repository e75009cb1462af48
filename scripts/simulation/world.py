"""What happened in the simulated world: the facts that the oracle judges by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.simulation.chance import Chance
from scripts.simulation.clock import Process
from scripts.simulation.network import NetworkLoop, Sending

DATABASE, RULES_FILE = Path("listener.db"), Path("rules.yaml")
AFTER_SECONDS = 20.0
"""How long it may take to note that a message has arrived: a slow answer, and a slow disk."""
PAGER, FALLBACK = "pager", "ops"


@dataclass(slots=True)
class Change:
    """A change in Port.

    Attributes:
        serial: Its number: no two changes have the same.
        entity: The entity, whatever it is called now.
        name: Its identifier after the change.
        team: The team that owns it after the change.
        load: The value of the property that the rule is about; it is this change's alone.
        at: When it happened; seconds of the loop.
        sent_at: When its webhook was sent first; None: never.
        stored_at: When it was answered 202 first; None: never.
        action: ``UPDATE``, ``CREATE`` or ``DELETE``; the last two are no news to the rule.
        renames: Whether the identifier changed.
    """

    serial: int
    entity: str
    name: str
    team: str
    load: float
    at: float
    action: str = "UPDATE"
    renames: bool = False
    sent_at: float | None = None
    stored_at: float | None = None


@dataclass(slots=True)
class Told:
    """What a place heard at once.

    Attributes:
        at: When; seconds of the loop.
        place: The channel's name, or `PAGER`.
        sending: The request that brought it.
        loads: The values that it names, in its order, by entity; the first of an entity may be that before.
        still: The values that it names again, as a reminder does, by entity.
        text: All of it.
        over: The entities whose incident is over without a value: closed, or the entity is deleted.
        key: The idempotency key of a job.
        confirmed: The sender was given a success for it.
    """

    at: float
    place: str
    sending: Sending
    loads: dict[str, list[float]]
    still: dict[str, float] = field(default_factory=dict)
    text: str = ""
    over: frozenset[str] = frozenset()
    key: str = ""
    confirmed: bool = True

    def may_be_repeated(self) -> bool:
        """Tell whether its sender could not know, or not write down, that it had arrived."""
        if not (self.confirmed and self.sending.answered):
            return True
        troubles = self.sending.process.troubles
        return any(self.at - 1 < trouble < self.at + AFTER_SECONDS for trouble in troubles)

    def has_just_woken(self) -> bool:
        """Tell whether its sender was frozen in the middle of the request: it cannot know how long."""
        return any(0 <= self.at - woken < AFTER_SECONDS for woken in self.sending.process.woken)


@dataclass(frozen=True, slots=True)
class Table:
    """A version of the rules file.

    Attributes:
        since: When it was written; seconds of the loop.
        channels: The channel of each team; empty: the rule is not in the file.
        rule: The rule's name.
    """

    since: float
    channels: Mapping[str, str]
    rule: str


@dataclass(slots=True)
class World:
    """Everything that happened.

    Attributes:
        changes: All changes, by their value.
        told: What each place heard, in order.
        listings: What Port answered when it was asked for all entities: the time, and each entity's value.
        silenced: The entities that were silenced, with from when to when.
        in_force: Those of the silences that were stored, from then on.
        silence_ends: When the operator ended all of them.
        refused: Webhooks with another answer than 202, or 503 because they could not be stored.
        holds: The places that refused a message until somebody fixes them, with the time and the sender.
        unknown: Since when a channel has another name: it may be on hold.
        broken: From when to when a place refused all messages.
        tables: The versions of the rules file.
        open_here: The entities with an open incident in the end.
        clock_offset: How far the machine's clock is off; seconds.
        jumps: When it was set.
        story: What happened, as lines.
    """

    loop: NetworkLoop
    chance: Chance
    changes: dict[float, Change] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    listings: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    silenced: list[tuple[str, float, float]] = field(default_factory=list)
    in_force: list[tuple[str, float, float]] = field(default_factory=list)
    silence_ends: list[float] = field(default_factory=list)
    holds: list[tuple[float, str, Process]] = field(default_factory=list)
    broken: list[tuple[str, float, float]] = field(default_factory=list)
    unknown: list[tuple[float, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    open_here: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    clock_offset: float = 0.0
    jumps: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def root(self, name: str) -> str:
        """Give the first name of an entity: a later one begins with it."""
        return name.partition("x")[0]

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.time() - 1000:10.3f} {text}")
