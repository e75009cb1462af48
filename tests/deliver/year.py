"""What happens in a year, and what each destination must hear of it, in the words of the documentation."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
NEW_YEAR = datetime(2026, 1, 5, 9, tzinfo=UTC)
SENDS = {
    "office": "{to: desk, when: berlin, else: hold}",
    "party": "{to: club, when: nights, else: hold}",
    "watch": "{to: desk, when: early, else: owls}",
}
ESCALATES = {"pager": 15 * MINUTE, "boss": 40 * MINUTE}


@dataclass(frozen=True)
class Hours:
    """Hours as a person reads them off a clock on the wall, minute by minute."""

    days: str
    begin: str
    end: str
    zone: str
    free: frozenset[date] = frozenset()

    def spans(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """Yield from when to when they are on a day, UTC."""
        if "0123456"[day.weekday()] in self.days and day not in self.free:
            over = day if self.begin < self.end else day + DAY
            begin = next(at for at, text in self._around(day, self.begin) if text >= f"{day} {self.begin}")
            shown = [at for at, text in self._around(over, self.end) if text < f"{over} {self.end}"]
            yield begin, shown[-1] + MINUTE

    def _around(self, day: date, text: str) -> Iterator[tuple[datetime, str]]:
        """Yield the minutes around a time, UTC, each with what the clock shows."""
        at = datetime.fromisoformat(f"{day} {text}+00:00")
        middle = at - (at.astimezone(ZoneInfo(self.zone)).utcoffset() or DAY)
        for minute in (middle + number * MINUTE for number in range(-90, 91)):
            yield minute, f"{minute.astimezone(ZoneInfo(self.zone)):%Y-%m-%d %H:%M}"


HOURS = {
    "berlin": Hours(
        "01234", "09:00", "18:00", "Europe/Berlin", frozenset({date(2026, 4, 3), date(2026, 12, 25)})
    ),
    "york": Hours("01234", "08:30", "17:00", "America/New_York", frozenset({date(2026, 7, 3)})),
    "nights": Hours("45", "22:00", "02:30", "Europe/Berlin"),
    "early": Hours("0123456", "02:30", "05:00", "America/New_York", frozenset({date(2026, 11, 2)})),
}
HELD = {"desk": "berlin", "club": "nights", "boss": "york"}


@dataclass
class Wall:
    """All hours of the year, looked up once for each day that matters."""

    known: dict[tuple[str, date], list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def spans(self, name: str, at: datetime, days: int) -> list[tuple[datetime, datetime]]:
        """List when hours are, from two days before a time on."""
        spans = []
        for number in range(-2, days):
            key = name, (at + number * DAY).date()
            if key not in self.known:
                self.known[key] = [*HOURS[name].spans(key[1])]
            spans += self.known[key]
        return spans

    def hold(self, name: str, at: datetime) -> bool:
        """Tell whether it is within them."""
        return any(begin <= at < end for begin, end in self.spans(name, at, 2))

    def begins(self, name: str, at: datetime) -> datetime:
        """Give when they begin next."""
        return next(begin for begin, _ in self.spans(name, at, 12) if begin > at)


WALL = Wall()
Event = tuple[datetime, str, str]
"""When, of which entity, and what happens: slow, down, up, ack, unack; or what a destination hears."""


def planned(dice: random.Random, number: int) -> list[Event]:
    """Make up what happens to an entity; much of it in the seconds at which something is due."""
    rule = dice.choice([*SENDS])
    days = [date(2026, 3, 29), date(2026, 10, 25), date(2026, 3, 8), date(2026, 11, 1), date(2026, 4, 2)]
    days += [date(2026, 12, 24), date(2026, 7, 2), NEW_YEAR.date() + dice.randrange(1, 355) * DAY]
    day = dice.choice([*days, days[-1], days[-1]]) + dice.randrange(-1, 2) * DAY
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    edges = [
        at for name in HOURS for span in WALL.spans(name, noon, 1) for at in span if abs(at - noon) < DAY
    ]
    edge = dice.choice(edges or [noon]) + dice.choice([-MINUTE, -MINUTE, -SECOND, 0 * SECOND, SECOND])
    opens = dice.choice([edge, edge, noon + dice.randrange(-43_200, 43_200) * SECOND])
    entity, since, at = f"{rule}-{number}", opens, opens
    events = [(opens, entity, dice.choice(["slow", "down"]))]
    due = [since + span + dice.choice([-SECOND, 0 * SECOND, SECOND]) for span in ESCALATES.values()]
    for what in dice.choice([[], ["ack"], ["ack", "unack"], ["ack", "down"], ["down"], ["down", "ack"]]):
        coming = [time for time in (*due, *(edge for edge in edges)) if time > at]
        at = dice.choice([*coming, at + dice.randrange(1, 7_200) * SECOND])
        events.append((at, entity, what))
        if what == "unack":
            due = [at + span for span in ESCALATES.values()]
    ends = at + dice.choice([MINUTE, 16 * MINUTE, 3_600 * SECOND, 17 * 3_600 * SECOND, 4 * DAY])
    return [*events, (ends, entity, "up")]


@dataclass
class Story:
    """What one entity's incident leads to, in the words of the documentation.

    Attributes:
        events: What happens, in order.
        outages: From when to when nobody delivers; what comes in is stored.
        told: Of each destination what it hears, and when.
    """

    events: list[Event]
    outages: list[tuple[datetime, datetime]]
    told: dict[str, list[tuple[datetime, str]]] = field(default_factory=lambda: defaultdict(list))
    held: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    waiting: list[tuple[datetime, str, str]] = field(default_factory=list)
    coming: dict[str, datetime] = field(default_factory=dict)
    state: str = ""
    acknowledged: bool = False

    def tell(self) -> dict[str, list[tuple[datetime, str]]]:
        """Go through it, and give what each destination hears."""
        for at, _, what in self.events:
            self._pass(at)
            getattr(self, f"_{what}")(at)
        self._pass(self.events[-1][0] + 20 * DAY)
        return self.told

    def _delivers(self, at: datetime) -> datetime:
        return next((until for since, until in self.outages if since <= at < until), at)

    def _pass(self, until: datetime) -> None:
        """Let everything happen that is due by a time, what waited longest first."""
        while True:
            times = [(at, 0, place, name, step) for place, (at, name, step) in enumerate(self.waiting)]
            times += [(self._delivers(at), 1, 0, name, "escalated") for name, at in self.coming.items()]
            begins = ((WALL.begins(HELD[name], at), name) for name, (at, _) in self.held.items())
            times += [(self._delivers(at), 2, 0, name, "") for at, name in begins]
            at, kind, place, name, step = min(times, default=(until + SECOND, 0, 0, "", ""))
            if at > until:
                return
            if kind == 2:
                self._begin(name, at)
            elif kind == 1:
                del self.coming[name]
                self._hear(name, at, step)
            else:
                del self.waiting[place]
                self._hear(name, at, step)

    def _say(self, name: str, at: datetime, step: str) -> None:
        delivered = self._delivers(at)
        if delivered > at:
            self.waiting.append((delivered, name, step))
        else:
            self._hear(name, at, step)

    def _hear(self, name: str, at: datetime, step: str) -> None:
        """Tell a destination, unless its hours hold it back."""
        if name in HELD and not (name == "desk" and self.rule == "watch") and not WALL.hold(HELD[name], at):
            self.held[name] = at, step
        else:
            self.told[name].append((at, step))

    def _begin(self, name: str, at: datetime) -> None:
        """Tell what was held: what is open, and the end of what was told."""
        _, step = self.held.pop(name)
        knows = self._knows(name)
        if self.state and step != "escalated":
            self.told[name].append((at, step if knows else "opened"))
        elif (self.state and not self.acknowledged) or (not self.state and knows):
            self.told[name].append((at, step))

    def _knows(self, name: str) -> bool:
        return bool(self.told[name]) and self.told[name][-1][1] != "resolved"

    @property
    def rule(self) -> str:
        """The rule that it is about."""
        return self.events[0][1].partition("-")[0]

    def _places(self, at: datetime) -> list[str]:
        """List who is told of what happens now: where the rule sends, and whoever was told before."""
        if self.rule == "watch":
            sends = "desk" if WALL.hold("early", at) else "owls"
        else:
            sends = {"office": "desk", "party": "club"}[self.rule]
        told = {*self.told, *(name for _, name, _ in self.waiting)}
        return sorted({sends, *(name for name in told if self._knows(name) or name not in ESCALATES)})

    def _slow(self, at: datetime) -> None:
        step, self.state = "changed" if self.state else "opened", "slow"
        if step == "opened":
            self.coming = {name: at + span for name, span in ESCALATES.items()}
        for name in self._places(at):
            self._say(name, at, step)

    def _down(self, at: datetime) -> None:
        if self.state == "slow" and self.acknowledged:
            self.acknowledged = False
            self.coming = {name: at + span for name, span in ESCALATES.items()}
        if self.state != "down":
            self._slow(at)
            self.state = "down"

    def _up(self, at: datetime) -> None:
        for name in self._places(at):
            self._say(name, at, "resolved")
        self.state, self.coming = "", {}

    def _ack(self, at: datetime) -> None:
        self.acknowledged, self.coming = True, {}
        self.held = {name: held for name, held in self.held.items() if held[1] != "escalated"}
        if self._knows("pager"):
            self._say("pager", at, "acknowledged")

    def _unack(self, at: datetime) -> None:
        self.acknowledged = False
        self.coming = {name: at + span for name, span in ESCALATES.items()}
