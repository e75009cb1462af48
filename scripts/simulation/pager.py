"""A model of a program that receives each alert as an HTTP request, and recognizes a repeat by its key."""

from scripts.simulation.network import Reply, Sending
from scripts.simulation.slack import drawn_failure
from scripts.simulation.world import PAGER, Told, World


class Pager:
    """The receiver.

    Attributes:
        down: It answers 503 to everything.
        expired: It answers 401 to everything: the token has expired.
        silent: It takes everything, and never answers.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.down = False
        self.expired = False
        self.silent = False

    def serve(self, sending: Sending) -> Reply:
        """Answer a request."""
        world = self._world
        if self.down:
            return Reply(503, "down for maintenance")
        if self.expired:
            world.holds.append((world.loop.time(), PAGER, sending.process))
            return Reply(401, "the token has expired")
        failure = (Reply(None), True) if self.silent else drawn_failure(world.chance)
        if failure and not failure[1]:
            world.say(f"Pager: answers {failure[0].status}")
            return failure[0]
        alert = sending.json()
        entity = world.root(alert["entity"])
        values = [alert["change"]["before"], alert["change"]["after"]] if alert["change"] else []
        loads = {entity: values} if None not in values and values else {}
        key = sending.headers["idempotency-key"]
        world.told.append(
            Told(
                world.loop.time(),
                PAGER,
                sending,
                loads,
                key=key,
                confirmed=failure is None,
                silent=failure is not None and failure[0].status is None,
                text=alert["step"],
                over=frozenset() if loads else frozenset({entity}),
            )
        )
        world.say(
            f"Pager: hears {alert['step']} {entity} {values} as {key}{' (not confirmed)' if failure else ''}"
        )
        return failure[0] if failure else Reply(200, "taken")
