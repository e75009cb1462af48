"""What disturbs the listener from time to time: kills, freezes, archived channels, the operator."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from app.model.silence import Silence
from app.store import queries
from app.store.store import Store
from scripts.simulation.listener import Listener
from scripts.simulation.pager import Pager
from scripts.simulation.slack import CHANNELS, Slack
from scripts.simulation.world import FALLBACK, PAGER, RULES_FILE, Table, World

LOOK_SECONDS = 30.0
HOURS = 3600.0
STEPS = (-2 * HOURS, -10 * 60.0, 1 * HOURS, 25 * HOURS, 40 * 24 * HOURS)
"""By how much the clock is set, seconds."""
DESTINATIONS = f"""
version: 1
destinations:
  rocket: {{type: slack, webhook_url: "http://hooks.slack.sim/services/rocket-%d", fallback: ops}}
  star: {{type: slack, channel: {CHANNELS["star"]}, fallback: ops}}
  nova: {{type: slack, channel: "#nova", fallback: ops}}
  ops: {{type: slack, webhook_url: "http://hooks.slack.sim/services/ops"}}
  pager: {{type: http, url: "http://pager.sim/alerts", steps: [opened, changed, resolved], fallback: ops}}
"""
RULE = """rules:
  - name: %s
    blueprint: service
    when: {property: load}
    resolve: {property: load, below: 50}
    send: [{by_team: {%s}, default: ops}, pager]
"""


class Nights:
    """Disturbs.

    Args:
        world: Everything around the listeners.
        slack: Slack.
        pager: The receiver of jobs.
        listeners: The listeners.
    """

    _since: dict[str, float]

    def __init__(self, world: World, slack: Slack, pager: Pager, listeners: list[Listener]) -> None:
        self._world = world
        self._slack = slack
        self._pager = pager
        self._listeners = listeners
        self._since = {}

    async def pass_by(self) -> None:
        """Disturb until it is cancelled."""
        chance = self._world.chance
        while True:
            await asyncio.sleep(chance.between("night", 0.5, 1.5) * LOOK_SECONDS)
            self._disturb_world()
            for listener in self._listeners:
                self._disturb(listener)

    def _disturb_world(self) -> None:
        world, chance, loop = self._world, self._world.chance, self._world.loop
        for channel in self._slack.channels.values():
            if channel.name != FALLBACK and chance.strikes("archived") and not channel.archived:
                channel.archived = True
                self._since[channel.name] = loop.time()
                world.say(f"Slack: somebody archives #{channel.name}")
                loop.call_later(chance.between("archived for", 20, 400), self.unarchive, channel.name)
        if chance.strikes("channel_renamed"):
            nova = self._slack.channels["nova"]
            world.unknown.append((loop.time(), "nova"))
            nova.shown_as = "" if nova.shown_as else "nova-now"
            world.say(f"Slack: #nova is now called #{nova.shown_as or 'nova'}")
        if chance.strikes("pager_down"):
            self._pager.down = True
            world.say("Pager: is down")
            loop.call_later(chance.between("pager down for", 10, 200), self.fix_pager)
        if chance.strikes("pager_expired") and not self._pager.expired:
            self._pager.expired = True
            self._since[PAGER] = loop.time()
            world.say("Pager: the token has expired")
            loop.call_later(60 * 2 ** chance.between("pager expired for", -2, 6), self.fix_pager)
        if chance.strikes("silent"):
            silent = chance.stream("silent who").choice((self._pager, self._slack.channels["rocket"]))
            silent.silent = True
            world.say(f"{'Pager' if silent is self._pager else 'Slack: #rocket'}: takes all, answers nothing")
            loop.call_later(15 * 2 ** chance.between("silent for", 0, 6), self.speak)
        if chance.strikes("webhook_moved"):
            self._move_webhook()
        self._edit_rules()
        self._set_clock()

    def speak(self) -> None:
        """Let the receivers answer again."""
        self._pager.silent = self._slack.channels["rocket"].silent = False

    def _move_webhook(self) -> None:
        world = self._world
        self._slack.channels["rocket"].webhooks += 1
        self._since.setdefault("webhook", world.loop.time())
        world.say("Slack: the webhook of #rocket has another address")
        world.loop.call_later(world.chance.between("webhook_moved for", 5, 300), self._note_webhook)

    def _note_webhook(self) -> None:
        """Write the new address into the rules."""
        world, now = self._world, self._world.loop.time()
        if "webhook" in self._since:
            world.moved.append((now, "rocket"))
            world.broken.append(("rocket", self._since.pop("webhook"), now))
            self.write_rules(world.tables[-1].channels, world.tables[-1].rule)

    def _set_clock(self) -> None:
        world, chance = self._world, self._world.chance
        if chance.strikes("clock_jump"):
            world.set_clock(world.clock_offset + chance.between("clock_jump by", -40, 40))
        # What a frozen process has in hand is dated by the clock as it was: docs/reliability.md says so.
        now = world.loop.time()
        frozen = any(one.process and one.process.frozen_until > now for one in self._listeners)
        for fault in ("clock_set", "clock_set_stopped", "reboot"):
            if not chance.strikes(fault) or frozen:
                continue
            if fault != "clock_set":
                for listener in self._listeners:
                    if listener.process:
                        listener.process.end(world.loop.time())
            if fault == "reboot":
                world.boots.append(world.loop.time())
                world.say("the machine is started again")
            world.set_clock(chance.stream("clock_set by").choice(STEPS))
            world.loop.call_later(chance.between("clock_set for", 5, 200), world.set_clock, 0.0)

    def mend(self) -> None:
        """Let everything work again."""
        for name in self._slack.channels:
            self.unarchive(name)
        self._slack.channels["nova"].shown_as = ""
        self.fix_pager()
        self.speak()
        self._world.set_clock(0.0)
        self._note_webhook()
        tables = self._world.tables
        if not tables[-1].channels:
            before = next(table for table in reversed(tables) if table.channels)
            self.write_rules(before.channels, before.rule)

    def unarchive(self, name: str) -> None:
        """Take a channel out of the archive."""
        if self._slack.channels[name].archived:
            self._slack.channels[name].archived = False
            self._world.broken.append((name, self._since.pop(name), self._world.loop.time()))
            self._world.say(f"Slack: #{name} is back")

    def fix_pager(self) -> None:
        """Mend the receiver of jobs."""
        if self._pager.down or self._pager.expired:
            self._pager.down = self._pager.expired = False
            if PAGER in self._since:
                self._world.broken.append((PAGER, self._since.pop(PAGER), self._world.loop.time()))
            self._world.say("Pager: is back")

    def _edit_rules(self) -> None:
        chance, now = self._world.chance, self._world.tables[-1]
        channels, rule = now.channels, now.rule
        if not channels:
            return  # it will be back
        if chance.strikes("rules_moved"):
            moved = [*channels.values()]
            channels = dict(zip(channels, moved[1:] + moved[:1], strict=True))
        if chance.strikes("rule_renamed"):
            rule = f"load-{len(self._world.tables)}"
        if chance.strikes("rule_removed"):
            seconds = chance.between("rule_removed for", 5, 60)
            self._world.loop.call_later(seconds, self.write_rules, channels, rule)
            channels = {}
        if (channels, rule) != (now.channels, now.rule):
            self.write_rules(channels, rule)

    def write_rules(self, channels: Mapping[str, str], rule: str) -> None:
        """Write the rules file: the channel of each team, none without the rule, and the rule's name."""
        world = self._world
        world.tables.append(Table(world.loop.time(), channels, rule))
        world.tries.append(world.loop.time())
        by_team = ", ".join(f"{team}: {channel}" for team, channel in channels.items())
        world.say(f"rules.yaml: {rule}: {by_team}")
        webhook = self._slack.channels["rocket"]
        webhook.noted = webhook.webhooks
        RULES_FILE.write_text(
            DESTINATIONS % webhook.noted + (RULE % (rule, by_team) if channels else "rules: []\n")
        )

    def _disturb(self, listener: Listener) -> None:
        world, chance = self._world, self._world.chance
        process, now = listener.process, world.loop.time()
        if process is None or not process.alive:
            return
        if chance.strikes("kill"):
            world.say(f"{process.name} is killed")
            process.end(now)
            return
        if chance.strikes("restart"):
            world.say(f"{process.name} is asked to stop")
            listener.stop()
            return
        if chance.strikes("freeze"):
            process.freeze(now, chance.between("freeze for", 5, 60))
            world.say(f"{process.name} is frozen for {process.frozen_until - now:.1f} s")
            return
        if (runtime := listener.runtime) is None:
            return
        if chance.strikes("release"):
            world.tries.append(now)
            process.start(_release(runtime.store))
        if chance.strikes("silence"):
            entity = f"service-{chance.stream('silence whom').randrange(6)}"
            minutes = chance.between("silence for", 0.3, 2)
            world.silenced.append((entity, now, now + 60 * minutes))
            world.say(f"somebody silences {entity} for {minutes:.1f} min")
            process.start(self._silence(runtime.store, entity, minutes))
        if chance.strikes("silence_ends"):
            process.start(self._end_silences(runtime.store))
        if chance.strikes("retry"):
            process.start(runtime.store.retry(now=runtime.store.clock()))

    async def _silence(self, store: Store, entity: str, minutes: float) -> None:
        now, loop = store.clock(), self._world.loop
        until = now + timedelta(minutes=minutes)
        silence = Silence("*", "*", entity, "*", now, until, "operator", "test")
        ends = loop.time() + 60 * minutes
        await store.write(queries.silences.add, silence)
        self._world.in_force.append((entity, loop.time(), ends))
        self._world.silenced.append((entity, loop.time(), ends))

    async def _end_silences(self, store: Store) -> None:
        now = store.clock()
        for silence in await store.read(queries.silences.silences, active_at=now):
            self._world.silence_ends.append(self._world.loop.time())
            await store.write(queries.silences.end, silence.id, now)


async def _release(store: Store) -> None:
    for destination in ("rocket", "star", "nova", "pager"):
        await store.release_hold(destination, store.clock())
