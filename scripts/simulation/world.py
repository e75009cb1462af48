"""What happened in the simulated world: the facts that the oracle judges by."""

from dataclasses import dataclass, field
from pathlib import Path

from scripts.simulation.chance import Chance
from scripts.simulation.clock import Process
from scripts.simulation.network import NetworkLoop, Sending

DATABASE, RULES_FILE = Path("listener.db"), Path("rules.yaml")
BEFORE_TROUBLE_SECONDS, AFTER_TROUBLE_SECONDS = 45.0, 15.0


@dataclass(slots=True)
class Change:
    """A change in Port.

    Attributes:
        serial: Its number: no two changes have the same.
        entity: The entity.
        team: The team that owns it after the change.
        load: The value of the property that the rule is about; it is this change's alone.
        at: When it happened; seconds of the loop.
        sent_at: When its webhook was sent first; None: never.
        stored_at: When it was answered 202 first; None: never.
    """

    serial: int
    entity: str
    team: str
    load: float
    at: float
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
        key: The idempotency key of a job.
        confirmed: The sender was given a success for it.
    """

    at: float
    place: str
    sending: Sending
    loads: dict[str, list[float]]
    still: dict[str, float] = field(default_factory=dict)
    text: str = ""
    key: str = ""
    confirmed: bool = True

    def may_be_repeated(self) -> bool:
        """Tell whether its sender could not know, or not write down, that it had arrived."""
        if not (self.confirmed and self.sending.answered):
            return True
        return any(
            self.at - BEFORE_TROUBLE_SECONDS < trouble < self.at + BEFORE_TROUBLE_SECONDS
            for trouble in self.sending.process.troubles
        )


@dataclass(slots=True)
class World:
    """Everything that happened.

    Attributes:
        changes: All changes, by their value.
        told: What each place heard, in order.
        listings: What Port answered when it was asked for all entities: the time, and each entity's value.
        silenced: The entities that were silenced, with from when to when.
        refused: Webhooks with another answer than 202, or 503 because they could not be stored.
        holds: The places that refused a message until somebody mends them, with the time and the sender.
        story: What happened, as lines.
    """

    loop: NetworkLoop
    chance: Chance
    changes: dict[float, Change] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    listings: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    silenced: list[tuple[str, float, float]] = field(default_factory=list)
    holds: list[tuple[float, str, Process]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    clock_offset: float = 0.0
    jumps: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.time() - 1000:10.3f} {text}")
