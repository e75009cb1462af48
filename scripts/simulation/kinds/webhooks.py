"""An incoming webhook of Slack that gets another address; receivers that take everything and never answer."""

from collections.abc import Mapping
from typing import ClassVar

from scripts.simulation.kinds.channels import Channels
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.kinds.pager import Pager
from scripts.simulation.world import World


class Webhooks(Kind):
    """The webhook of #rocket, and the silence of receivers."""

    faults: ClassVar = {
        "silent": 0.03,  # the receiver, or a webhook, takes everything and never answers, for some minutes
        "webhook_moved": 0.02,  # a webhook is gone; some minutes later its new address is in the rules
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._pager, self._rocket = world.kind(Pager), world.kind(Channels).slack.channels["rocket"]
        self._moved_at: float | None = None

    def disturb_world(self) -> None:
        """Move it, and let receivers be silent."""
        world, chance, loop = self._world, self._world.chance, self._world.loop
        if chance.strikes("silent"):
            silent = chance.stream("silent who").choice((self._pager, self._rocket))
            silent.silent = True
            world.say(f"{'Pager' if silent is self._pager else 'Slack: #rocket'}: takes all, answers nothing")
            loop.call_later(15 * 2 ** chance.between("silent for", 0, 6), self._speak)
        if chance.strikes("webhook_moved"):
            self._rocket.webhooks += 1
            self._moved_at = loop.time() if self._moved_at is None else self._moved_at
            world.say("Slack: the webhook of #rocket has another address")
            loop.call_later(chance.between("webhook_moved for", 5, 300), self._note)

    def mend(self) -> None:
        """Let all answer, at the addresses that the rules name."""
        self._speak()
        self._note()

    def _speak(self) -> None:
        self._pager.silent = self._rocket.silent = False

    def _note(self) -> None:
        """Write the new address into the rules, unless somebody has written them since."""
        if self._moved_at is not None:
            self._world.write_rules()

    def rules(self) -> Mapping[str, str]:
        """Note that who writes the rules writes the address that there is now."""
        world, now = self._world, self._world.loop.time()
        if self._moved_at is not None:
            world.moved.append((now, "rocket"))
            world.broken.append(("rocket", self._moved_at, now))
            self._moved_at = None
        return {}
