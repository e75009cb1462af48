"""The command that says what needs attention."""

import json

from app.store.store import Store
from tests.cli.helpers import Run
from tests.store.helpers import incoming


async def test_status(run: Run, store: Store) -> None:
    """It says what the page says; nothing wrong is status 0."""
    assert (await run("status")).out == "Nothing needs attention.\n"
    await store.accept([incoming()])
    result = await run("status")
    assert result.status == 1
    assert result.out.startswith("Needs attention: queue default: 1 delivery waits since 2026-06-09")
    (warning,) = json.loads((await run("status", "--json")).out)["warnings"]
    assert warning in result.out.replace("\n", "")
