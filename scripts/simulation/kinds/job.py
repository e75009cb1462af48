"""A program that gets alerts as HTTP requests, and keeps all that it has heard."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scripts.simulation.network import Reply, Sending
from scripts.simulation.slack import drawn_failure
from scripts.simulation.world import World

AGAIN = frozenset({"reminded", "acknowledged", "flapping", "escalated"})
"""Steps that say nothing new of an entity."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert that a program has got.

    Attributes:
        at: When; seconds of the loop.
        begun_at: When its sender began to connect.
        sending: The request that brought it.
        alert: The default body of a job.
        confirmed: The sender was given a success for it.
    """

    at: float
    sending: Sending
    alert: dict[str, Any]
    confirmed: bool

    @property
    def begun_at(self) -> float:
        """When its sender began to connect."""
        return self.sending.begun_at

    @property
    def incident(self) -> str:
        """The id of the incident that it is about."""
        return str(self.alert["incident"])

    @property
    def step(self) -> str:
        """The step that it tells of."""
        return str(self.alert["step"])

    @property
    def load(self) -> float:
        """The value that it tells; 0: none."""
        change = self.alert["change"]
        after = change["after"] if change else 0
        return float(after) if isinstance(after, int | float) else 0.0

    def has_just_woken(self) -> bool:
        """Tell whether its sender was frozen in the middle of the request."""
        return any(self.begun_at <= woken <= self.at for woken in self.sending.process.woken)


class Job:
    """The receiver.

    Args:
        world: Is told what it hears.
        name: Its name.

    Attributes:
        name: Its name.
        heard: What it has heard.
        tried: The incidents of which a request came that it did not take.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world, self.name = world, name
        self.heard: list[Heard] = []
        self.tried: set[str] = set()

    def serve(self, sending: Sending) -> Reply:
        """Answer a request."""
        world = self._world
        failure = drawn_failure(world.chance)
        body = sending.json()
        alerts = body.get("alerts", [body])
        if failure and not failure[1]:
            self.tried.update(str(alert["incident"]) for alert in alerts)
            world.say(f"{self.name}: answers {failure[0].status}")
            return failure[0]
        for alert in alerts:
            heard = Heard(world.loop.time(), sending, alert, failure is None)
            self.heard.append(heard)
            shown = f"{heard.step} {alert['entity']} {heard.load or alert['state']} of {heard.incident}"
            among = f", one of {len(alerts)}" if len(alerts) > 1 else ""
            world.say(f"{self.name}: hears {shown}{among}{'' if heard.confirmed else ' (not confirmed)'}")
        return failure[0] if failure else Reply(200, "taken")

    def digests(self) -> Iterator[str]:
        """Judge what it has got as one request: each alert once; again only as it was, under its key."""
        sent: dict[Sending, list[Heard]] = {}
        for heard in self.heard:
            sent.setdefault(heard.sending, []).append(heard)
        parts: dict[str, list[str]] = {}
        keys_of: dict[str, str] = {}
        for sending, alerts in sent.items():
            keys, key = [one.alert["key"] for one in alerts], sending.headers["idempotency-key"]
            if len({*keys}) < len(keys):
                yield f"{self.name} gets an alert twice in one request, at {alerts[0].at - 1000:.0f} s"
            before = parts.setdefault(key, keys)
            if not {*keys} <= {*before}:
                yield f"{self.name} gets another request of the same key, at {alerts[0].at - 1000:.0f} s"
            if any(keys_of.get(one, key) != key for one in keys):
                yield f"{self.name} gets an alert under two keys, at {alerts[0].at - 1000:.0f} s"
            if alerts[0].confirmed or not sending.answered:  # else it has said that it did not take it
                keys_of |= dict.fromkeys(keys, key)

    def once(self) -> list[Heard]:
        """List what it has heard without repeats, which it recognizes by their key."""
        return [*{heard.alert["key"]: heard for heard in reversed(self.heard)}.values()][::-1]
