"""A listener and the stand-in Port that it reconciles with, on a clock that tests move."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.model.change import EntitySnapshot
from app.port.client import PortClient
from app.receive.event import build_event, encode
from app.receive.intake import Intake
from app.receive.signature import Signed
from app.reconcile.difference import EntityDifference
from app.reconcile.run import ReconcileRun
from app.runtime.listener import open_runtime
from app.settings import Settings
from app.store import queries
from app.store.rows import Accepted
from app.store.views import Delivery
from tests.conftest import NOW, SECRET
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort

BLUEPRINT = "deploymentConfig"
SEARCH = f"/v1/blueprints/{BLUEPRINT}/entities/search"
SCHEMA: dict[str, Any] = {
    "identifier": BLUEPRINT,
    "schema": {"properties": {"healthStatus": {"type": "string"}, "cpuUtil": {"type": "number"}}},
    "relations": {"service": {"target": "service"}},
    "mirrorProperties": {"tier": {"path": "service.tier"}},
    "calculationProperties": {},
    "aggregationProperties": {},
}
RULES = """
version: 1
destinations: {console: {type: console}}
rules:
  - name: health
    blueprint: deploymentConfig
    when: {property: healthStatus}
    resolve: {property: healthStatus, to: Healthy}
    send: console
"""


def iso(at: datetime) -> str:
    """Return a time as Port writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Clock:
    """A clock that stands still until it is moved, unless it follows the one on the wall."""

    now: datetime = NOW
    on_the_wall: bool = False

    def __call__(self) -> datetime:
        return datetime.now(UTC) if self.on_the_wall else self.now

    def pass_(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)


@dataclass
class Watching:
    """A listener, and Port.

    Attributes:
        intake: Takes changes in.
        port: Has the entities.
        client: Asks it.
        clock: Of both.
    """

    intake: Intake
    port: StandInPort
    client: PortClient
    clock: Clock

    def set(self, entity: str, health: str | None, blueprint: str = BLUEPRINT, **more: Any) -> dict[str, Any]:
        """Give an entity these values in Port, without a word to anybody."""
        now = iso(self.clock())
        before = self.port.entities.get((blueprint, entity), {"createdAt": now})
        properties = {**before.get("properties", {}), "healthStatus": health, **more}
        self.port.entities[blueprint, entity] = {
            **before,
            "identifier": entity,
            "title": entity.title(),
            "blueprint": blueprint,
            "team": ["Rocket"],
            "properties": properties,
            "relations": before.get("relations", {}),
            "updatedAt": now,
        }
        return self.port.entities[blueprint, entity]

    async def compare(self, **options: Any) -> list[EntityDifference]:
        """Compare, a minute later."""
        self.clock.pass_(minutes=1)
        return await self.look(**options)

    async def look(self, **options: Any) -> list[EntityDifference]:
        """Compare now."""
        run = ReconcileRun(self.intake, self.client, **options)
        return [one async for one in run.differences()]

    async def post(self, entity: str, before: str | None, after: str | None, at: datetime) -> Accepted:
        """Let a webhook come now for a change that happened at a time."""
        sides = [
            EntitySnapshot(entity, BLUEPRINT, entity.title(), None, ("Rocket",), {"healthStatus": health})
            if health
            else None
            for health in (before, after)
        ]
        event = build_event(
            action="CREATE" if before is None else "DELETE" if after is None else "UPDATE",
            blueprint=BLUEPRINT,
            entity=entity,
            at=at,
            origin="UI",
            by={"userId": "ada"},
            before=sides[0],
            after=sides[1],
        )
        return await self.intake.accept(Signed(encode(event), self.clock()))

    async def alerts(self) -> list[Delivery]:
        """All alerts, oldest first."""
        page = await self.intake.store.read(queries.page.deliveries, limit=100_000)
        return list(page.rows)[::-1]

    async def told(self) -> list[tuple[str, Any, Any]]:
        """Entity, value before and value after of each alert, oldest first."""
        told = []
        for one in await self.alerts():
            change = one.notification.change
            told.append((one.notification.entity, change and change.before, change and change.after))
        return told


@asynccontextmanager
async def watching(
    database: str, port: StandInPort, folder: Path, rules: str = RULES
) -> AsyncIterator[Watching]:
    """Open a listener with rules; it delivers nothing, and compares when it is told to."""
    (folder / "rules.yaml").write_text(rules)
    settings = Settings(
        _env_file=None,
        port_client_id=CLIENT_ID,
        port_client_secret=SECRET,
        port_api_url=port.url,
        database_url=database,
        rules_file=folder / "rules.yaml",
    )
    clock = Clock()
    port.blueprints.setdefault(BLUEPRINT, SCHEMA)
    async with (
        open_runtime(settings, dispatch=False) as runtime,
        PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC)) as client,
    ):
        runtime.intake.clock = clock
        yield Watching(runtime.intake, port, client, clock)
