"""People who acknowledge incidents and take it back, in Slack and on the page; reminders and escalations."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

from app.model.incident import Person
from app.store.actions import Action, act
from scripts.simulation.clock import Process
from scripts.simulation.history import History
from scripts.simulation.kinds.channels import Channels
from scripts.simulation.kinds.escalations import Ladder, Span
from scripts.simulation.kinds.job import Job
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.kinds.sockets import Sockets
from scripts.simulation.listener import Listener
from scripts.simulation.network import Serve
from scripts.simulation.slack import WORKSPACE
from scripts.simulation.world import DATABASE, World

AFTER_SECONDS = {"oncall": 20, "boss": 45}
"""When an incident that nobody has acknowledged goes where."""
REMINDED_SECONDS = 30
UNSAID_SECONDS = 5.0
"""How long before the answer to a click, and after it, Slack may have been asked about who has clicked."""
RULE = """\
  - name: watched
    blueprint: service
    when: {property: load, above: 50}
    resolve: {property: load, below: 50}
    again_after: %ds
    escalate: [{after: %ds, unless: acknowledged, send: oncall}, {after: %ds, send: boss}]
    send: [desk, watch]
"""


@dataclass(slots=True)
class Wish:
    """What somebody has asked for.

    Attributes:
        id: The action's, as the store has it.
        verb: ``acknowledge`` or ``unacknowledge``.
        incident: The incident's id.
        asked_at: When it was sent first; seconds of the loop.
        answered_at: When it was answered first; None: never.
    """

    id: str
    verb: str
    incident: str
    asked_at: float
    answered_at: float | None = None


class Acknowledgements(Kind):
    """People, and those who are told.

    Attributes:
        desk: A program that is told of each step.
        ladder: Those to whom an incident escalates.
        wishes: All that people have asked for, by id.
        done: The ids of what was done, in its order.
        audited: How often the audit trail says that something was acknowledged, or taken back.
        open_here: The incidents that are open in the end, each with whether it is acknowledged.
    """

    name = "acknowledgements"
    faults: ClassVar = {
        "acknowledged": 0.35,  # at each alert of an incident, some seconds later
        "acknowledged_when_due": 0.1,  # in the second in which it escalates
        "acknowledged_by_click": 0.6,  # in Slack, if there is a button; else on the page
        "clicked_twice": 0.3,  # the same click comes again, to any process
        "clicked_again": 0.7,  # where Slack says that it failed
        "taken_back": 0.3,
        "taken_back_in_the_end": 0.5,  # of all that is acknowledged then
    }
    channels: ClassVar = {"watch": "C0000000W"}
    by_token = frozenset({"watch"})
    settings: ClassVar = {"slack_signing_secret": "0123456789abcdef" * 2}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.desk = Job(world, "Desk")
        self.ladder = {name: Job(world, name.title()) for name in AFTER_SECONDS}
        self.wishes: dict[str, Wish] = {}
        self.done: list[str] = []
        self.audited = Counter[str]()
        self.open_here: dict[str, bool] = {}
        self._seen, self._settled = 0, set[str]()
        self._people: list[asyncio.Task[None]] = []
        self._sockets = next((kind for kind in world.kinds if isinstance(kind, Sockets)), None)

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the receivers."""
        return {
            "desk.sim": self.desk.serve,
            **{f"{name}.sim": job.serve for name, job in self.ladder.items()},
        }

    def rules(self) -> Mapping[str, str]:
        """Give the rule and its destinations."""
        steps = "[opened, changed, resolved, reminded, acknowledged]"
        jobs = [f'  desk: {{type: http, url: "http://desk.sim/", steps: {steps}}}\n']
        for name in AFTER_SECONDS:
            steps = "[opened, changed, resolved]"
            jobs.append(f'  {name}: {{type: http, url: "http://{name}.sim/", steps: {steps}}}\n')
        channel = f"  watch: {{type: slack, channel: {self.channels['watch']}}}\n"
        return {
            "destinations": "".join(jobs) + channel,
            "rules": RULE % (REMINDED_SECONDS, *AFTER_SECONDS.values()),
        }

    def disturb_world(self) -> None:
        """Let people do what they do, until the night ends."""
        if not self._people:
            self._people.append(asyncio.ensure_future(self._watch()))

    def mend(self) -> None:
        """Let people sleep, but first take back some of what is acknowledged: it escalates in the quiet."""
        for task in self._people:
            task.cancel()
        random, last = self._world.chance.stream("taken back in the end"), dict[str, str]()
        for wish in self.wishes.values():
            last[wish.incident] = wish.verb
        for incident, verb in last.items():
            taken_back = random.random() < self.faults["taken_back_in_the_end"]
            if taken_back and verb == "acknowledge":
                self._people.append(asyncio.ensure_future(self._act("unacknowledge", incident, 0.1)))

    async def _watch(self) -> None:
        """Look at what the desk hears, and act some time later."""
        chance, loop = self._world.chance, self._world.loop
        while True:
            await asyncio.sleep(0.5)
            for heard in self.desk.heard[self._seen :]:
                if heard.step not in ("opened", "changed", "reminded"):
                    continue
                later = chance.between("acknowledged after", 0.2, 25)
                if chance.strikes("acknowledged_when_due"):
                    later = max(0.0, AFTER_SECONDS["oncall"] - 0.5 - (loop.time() - heard.at))
                    later += chance.between("when due", -0.3, 0.7)
                elif not chance.strikes("acknowledged"):
                    continue
                self._people.append(asyncio.ensure_future(self._act("acknowledge", heard.incident, later)))
                if chance.strikes("taken_back"):
                    later += chance.between("taken back after", 0.1, 30)
                    work = self._act("unacknowledge", heard.incident, later)
                    self._people.append(asyncio.ensure_future(work))
            self._seen = len(self.desk.heard)

    async def _act(self, verb: str, incident: str, later: float) -> None:
        world, chance = self._world, self._world.chance
        await asyncio.sleep(later)
        number = len(self.wishes)
        by_click = chance.strikes("acknowledged_by_click")
        name = f"slack:envelope-{number}" if by_click else f"page-{number}"
        wish = self.wishes[name] = Wish(name, verb, incident, world.loop.time())
        copies = 2 if by_click and chance.strikes("clicked_twice") else 1
        world.say(f"somebody wants to {verb} {incident}, as {name}{', twice' if copies > 1 else ''}")
        if by_click and self._sockets is not None:
            if await self._sockets.click(name.removeprefix("slack:"), _click(wish)):
                self._note(wish)
            elif chance.strikes("clicked_again"):  # Slack says that it failed
                await self._act(verb, incident, 0.5)
            return
        for copy in range(copies):
            if copy:
                await asyncio.sleep(chance.between("clicked again after", 0, 3))
            ready = [listener for listener in world.listeners if listener.runtime is not None]
            listener = chance.stream("who is asked").choice(ready or world.listeners)
            process = listener.process
            if process is not None and process.alive and listener.runtime is not None:
                process.start(self._ask(listener, process, wish))

    async def _ask(self, listener: Listener, process: Process, wish: Wish) -> None:
        """Ask a process, within it."""
        runtime = listener.runtime
        assert runtime is not None  # noqa: S101 - the caller has looked
        try:
            if wish.id.startswith("slack:") and runtime.clicks is not None:
                await runtime.clicks.take(_click(wish), wish.id.removeprefix("slack:"))
            else:
                action = Action(wish.id, _VERBS[wish.verb], wish.incident, Person("Ada", "page"))
                await runtime.store.write(act, action, runtime.store.clock())
        except Exception as error:  # noqa: BLE001 - whoever has asked sees that it failed
            self._world.say(f"{process.name} cannot do {wish.id}: {error}")
            return
        self._note(wish)

    def _note(self, wish: Wish) -> None:
        """Note that somebody was answered."""
        with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as store:
            # A click is answered also where Slack does not say who may act: nothing is done then.
            done = store.execute("SELECT 1 FROM actions WHERE id = ?", [wish.id]).fetchone()
        if done and wish.answered_at is None:
            wish.answered_at = self._world.loop.time()

    def look(self, store: sqlite3.Connection) -> None:
        """Note what was done, and how it is in the end."""
        self._settled = {name for (name,) in store.execute("SELECT id FROM actions")}
        rows = store.execute("SELECT id, audit_id FROM actions WHERE audit_id IS NOT NULL ORDER BY audit_id")
        done = dict(rows)
        self.done = [name for name in done if name in self.wishes]
        others = {number for name, number in done.items() if name not in self.wishes}
        rows = store.execute("SELECT id, what FROM audit WHERE what LIKE '%acknowledge%'")
        self.audited = Counter(what for number, what in rows if number not in others)
        rows = store.execute(
            "SELECT id, acknowledged_at IS NOT NULL FROM incidents"
            " WHERE resolved_at IS NULL AND rule = 'watched'"
        )
        self.open_here = {incident: bool(acknowledged) for incident, acknowledged in rows}

    def spans(self, incident: str) -> list[Span]:
        """List from when to when somebody looked after an incident, as far as it is certain."""
        spans: list[Span] = []
        for name in self.done:
            if (wish := self.wishes[name]).incident != incident:
                continue
            # It was answered when it was done, though perhaps so late that Slack had given up.
            late = self._sockets.answered.get(name.removeprefix("slack:")) if self._sockets else None
            certain = wish.answered_at or late or wish.asked_at + 60
            if wish.verb == "acknowledge":
                spans.append(Span(wish.asked_at, certain))
            elif spans:
                spans[-1].ended_at, spans[-1].ended_by = wish.asked_at, certain
                # It was so before, though nobody was answered.
                spans[-1].certain_at = min(spans[-1].certain_at, certain)
        return spans

    def broken(self, history: History) -> Iterator[str]:
        """Judge what was done, and what was told of it."""
        yield from self._each_wish_is_done_once()
        yield from self._who_is_answered_has_it_or_is_told_why()
        yield from self._they_are_told(history)
        yield from self._messages_agree()
        ladder = Ladder(self._world, history, self.desk, self.spans, self.open_here)
        for name, job in self.ladder.items():
            yield from ladder.broken(name, job, AFTER_SECONDS[name])
        yield from ladder.reminders(REMINDED_SECONDS)

    def _each_wish_is_done_once(self) -> Iterator[str]:
        """Each action is in the audit trail once; of two in a row the second finds it done."""
        for verb in _VERBS:
            done = sum(self.wishes[name].verb == verb for name in self.done)
            if done != self.audited[f"{verb} incident"]:
                yield f"{done} incidents were to {verb}, {self.audited} are in the audit trail"
        last: dict[str, str] = {}
        for name in self.done:
            wish = self.wishes[name]
            opened = sum(
                heard.incident == wish.incident for heard in self.desk.once() if heard.step == "opened"
            )
            if wish.verb == last.get(wish.incident) and opened < 2:
                yield f"{wish.incident} is to {wish.verb} by {name}, twice in a row"
            last[wish.incident] = wish.verb

    def _who_is_answered_has_it_or_is_told_why(self) -> Iterator[str]:
        """A click that Slack was given an answer for is done, or the person is told why it is not."""
        world = self._world
        alone = world.kind(Channels).slack.alone
        # Where Slack does not say who may act, the person is told so once, which may be lost.
        unsaid = [at for at, host in world.loop.refused if host == "slack.sim"]
        unsaid += [at for process in world.processes for at in process.woken]
        for envelope, at in (self._sockets.answered if self._sockets else {}).items():
            settled = f"slack:{envelope}" in self._settled or alone[envelope]
            if not settled and not any(at - UNSAID_SECONDS < one < at + UNSAID_SECONDS for one in unsaid):
                yield f"{envelope} is answered, and neither done nor is anybody told why not"

    def _they_are_told(self, history: History) -> Iterator[str]:
        """The desk, which asks for it, is told of each acknowledgement once."""
        told: dict[str, int] = {}
        for heard in self.desk.once():
            if heard.step == "acknowledged":
                told[heard.incident] = told.get(heard.incident, 0) + 1
        about = {heard.incident: self._world.root(heard.alert["entity"]) for heard in self.desk.heard}
        for incident, entity in about.items():
            done = sum(
                self.wishes[name].incident == incident and self.wishes[name].verb == "acknowledge"
                for name in self.done
            )
            if told.get(incident, 0) != done and entity not in history.unclear:
                times = told.get(incident, 0)
                yield f"the desk hears {times} times that {incident} is acknowledged, not {done}"

    def _messages_agree(self) -> Iterator[str]:
        """What Slack shows of an open incident is what is so."""
        channel = self._world.kind(Channels).slack.channels["watch"]
        for message in channel.messages.values():
            text = json.dumps(message.get("blocks") or []) + json.dumps(message.get("attachments") or [])
            for incident, acknowledged in self.open_here.items():
                if f':{incident}"' not in text:
                    continue
                shown = '"action_id": "unacknowledge"' in text
                if shown != acknowledged:
                    yield f"Slack shows {incident} as acknowledged: {shown}; here: {acknowledged}"


_VERBS: Mapping[str, Any] = {"acknowledge": "acknowledge", "unacknowledge": "unacknowledge"}


def _click(wish: Wish) -> dict[str, Any]:
    return {
        "type": "block_actions",
        "user": {"id": "U1", "username": "ada", "team_id": WORKSPACE},
        "trigger_id": wish.id.removeprefix("slack:"),
        "response_url": f"http://slack.sim/response/{wish.id.removeprefix('slack:')}",
        "channel": {"id": Acknowledgements.channels["watch"]},
        "container": {"message_ts": "1.0"},
        "actions": [{"action_id": wish.verb, "block_id": f"incident:1:{wish.incident}"}],
    }
