"""The command that says what needs attention."""

import json

from app import __version__
from app.model.delivery import Outcome
from app.store.store import Store
from tests.cli.helpers import Run
from tests.store.helpers import attempt, claim, incoming


async def test_status(run: Run, store: Store) -> None:
    """It says what is open and stuck; nothing wrong is status 0."""
    said = await run("status")
    assert (said.status, said.out.splitlines()[0]) == (0, "Nothing needs attention.")
    assert said.out.splitlines()[1:4] == ["Open: 0", "Acknowledged: 0", "On hold: none"]
    await store.accept([incoming()])
    result = await run("status")
    assert result.status == 1
    assert result.out.startswith("Needs attention: queue default: 1 delivery waits since 2026-06-09")
    assert "\nOpen: 1 (1 warning)\n" in result.out
    found = json.loads((await run("status", "--json")).out)
    assert found["warnings"][0] in result.out
    assert (found["open"]["warning"], found["waiting"], found["version"]) == (1, 1, __version__)


async def test_dead_and_on_hold(run: Run, store: Store) -> None:
    """A queue on hold and a dead delivery need attention."""
    await store.accept([incoming()])
    await store.record(await claim(store), attempt(Outcome.ON_HOLD, wait=600))
    assert "On hold: default\n" in (await run("status")).out
    await store.retry(now=attempt(Outcome.DEAD).ended_at, ids=[1])
    await store.record(await claim(store, second=700), attempt(Outcome.DEAD, second=701))
    result = await run("status", "--json")
    assert (result.status, json.loads(result.out)["dead"]) == (1, 1)
