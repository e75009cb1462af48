"""What happened in the simulated world: the facts that the oracle judges by."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from app.model.times import Micros
from scripts.simulation.chance import Chance
from scripts.simulation.clock import Process
from scripts.simulation.network import NetworkLoop, Sending

if TYPE_CHECKING:
    from scripts.simulation.kinds.kind import Kind
    from scripts.simulation.listener import Listener

DATABASE, RULES_FILE = Path("listener.db"), Path("rules.yaml")
TOLERANCE_SECONDS = 200.0
SEEN_LATE_SECONDS = 70.0
PAGER, FALLBACK = "pager", "ops"
K = TypeVar("K", bound="Kind")


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

    @property
    def shown(self) -> str:
        """How the story and the oracle call it."""
        return f"{self.entity} {self.load:g}"


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
        unnamed: How many further changes of each entity it counts, without their values.
        key: The idempotency key of a job.
        confirmed: The sender was given a success for it.
        silent: It was given no answer at all.
    """

    at: float
    place: str
    sending: Sending
    loads: dict[str, list[float]]
    still: dict[str, float] = field(default_factory=dict)
    text: str = ""
    over: frozenset[str] = frozenset()
    unnamed: Mapping[str, int] = field(default_factory=dict)
    key: str = ""
    confirmed: bool = True
    silent: bool = False

    def has_just_woken(self) -> bool:
        """Tell whether its sender was frozen in the middle of the request: it cannot know how long."""
        return any(self.sending.begun_at <= woken <= self.at for woken in self.sending.process.woken)


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

    @property
    def by_team(self) -> str:
        """The channel of each team, as the rule has it."""
        return ", ".join(f"{team}: {channel}" for team, channel in self.channels.items())


@dataclass(slots=True)
class World:
    """Everything that happened.

    Attributes:
        kinds: What there is in it.
        listeners: The processes of the listener, each of which is started again when it has ended.
        processes: All that have run.
        changes: All changes, by their value.
        told: What each place heard, in order.
        answered_at: When a webhook was answered last, though Port may have given up; seconds of the loop.
        listings: What Port answered when it was asked for all entities: the time, and each entity's value.
        silenced: The entities that were silenced, with from when to when.
        in_force: Those of the silences that were stored, from then on.
        silence_ends: When the operator ended all of them.
        refused: Webhooks with another answer than 202, or 503 because they could not be stored.
        holds: The places that refused a message until somebody fixes them, with the time and the sender.
        unknown: Since when a channel has another name: it may be on hold.
        tries: When what is on hold was to be tried again: by a start, new rules, the operator.
        broken: From when to when a place refused all messages.
        tables: The versions of the rules file.
        clock_offset: How far the machine's clock is off; seconds.
        jumps: When it was set, and by how much.
        boots: When the machine was started; seconds of the loop.
        moved: When an incoming webhook got another address, which is in the rules file from then on.
        away: From when to when nothing can be written.
        port_away: When Port's API gave no answer, or a wrong or late one.
        story: What happened, as lines.
    """

    loop: NetworkLoop
    chance: Chance
    kinds: "list[Kind]" = field(default_factory=list)
    listeners: "list[Listener]" = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    changes: dict[float, Change] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    answered_at: float = 0.0
    listings: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    silenced: list[tuple[str, float, float]] = field(default_factory=list)
    in_force: list[tuple[str, float, float]] = field(default_factory=list)
    silence_ends: list[float] = field(default_factory=list)
    holds: list[tuple[float, str, Process]] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    broken: list[tuple[str, float, float]] = field(default_factory=list)
    unknown: list[tuple[float, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    clock_offset: float = 0.0
    jumps: list[tuple[float, float]] = field(default_factory=list)
    boots: list[float] = field(default_factory=lambda: [0.0])
    moved: list[tuple[float, str]] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    port_away: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def kind(self, wanted: "type[K]") -> "K":
        """Give what there is of a kind."""
        return next(kind for kind in self.kinds if isinstance(kind, wanted))

    def write_rules(self, channels: Mapping[str, str] | None = None, rule: str = "load") -> None:
        """Write the rules file.

        Args:
            channels: The channel of each team; empty: without the rule; None: as it is.
            rule: The rule's name.
        """
        table = Table(self.loop.time(), channels, rule) if channels is not None else self.tables[-1]
        self.tables.append(replace(table, since=self.loop.time()))
        self.tries.append(self.loop.time())
        self.say(f"rules.yaml: {table.rule}: {table.by_team}")
        sections: dict[str, str] = {"destinations": "", "rules": ""}
        for kind in self.kinds:
            for section, lines in kind.rules().items():
                sections[section] = sections.get(section, "") + lines
        text = "".join(f"{section}:\n{lines}" for section, lines in sections.items() if lines)
        RULES_FILE.write_text(f"version: 1\n{text}" + ("" if sections["rules"] else "rules: []\n"))

    def uptime(self) -> Micros:
        """Give the microseconds since the machine was started."""
        return Micros(round((self.loop.time() - self.boots[-1]) * 1_000_000))

    def set_clock(self, offset: float) -> None:
        """Set the machine's clock, to be off by so many seconds."""
        if offset != self.clock_offset:
            self.jumps.append((self.loop.time(), offset - self.clock_offset))
            self.say(f"the machine's clock is set by {offset - self.clock_offset:.3f} s")
            self.clock_offset = offset

    def lose_disk(self, seconds: float) -> None:
        """Let nothing be written for so long."""
        if not self.is_away():
            self.away.append((self.loop.time(), self.loop.time() + seconds))
            self.say(f"the disk is full for {seconds:.1f} s")

    def clock_was_off(self) -> bool:
        """Tell whether signatures may be too old, or too new, to a process; it sees late what time it is."""
        now, offset = self.loop.time(), self.clock_offset
        for at, by in reversed(self.jumps):
            if abs(offset) > TOLERANCE_SECONDS:
                return True
            if at < now - SEEN_LATE_SECONDS:
                break
            offset -= by
        return abs(offset) > TOLERANCE_SECONDS

    def is_away(self) -> bool:
        """Tell whether nothing can be written now."""
        return bool(self.away) and self.loop.time() < self.away[-1][1]

    def root(self, name: str) -> str:
        """Give the first name of an entity: a later one begins with it."""
        return name.partition("x")[0]

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.loop.time() - 1000:10.3f} {text}")
