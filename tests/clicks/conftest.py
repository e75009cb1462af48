"""A listener whose messages people click on."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.rules.rule import BUILT_IN
from tests.clicks.workspace import APP_TOKEN, Workspace
from tests.conftest import Service, Start
from tests.notifier.slack.stand_in_api import SCOPES, TOKEN

CHANNEL = "oncall"
GROUPS = {"sre": ["U1", "U2"]}


@pytest.fixture
async def workspace() -> AsyncIterator[Workspace]:
    """A workspace on loopback with a channel and a user group."""
    made = Workspace(CHANNEL, scopes=SCOPES | {"usergroups:read"})
    made.groups = GROUPS
    async with made.serving() as served:
        yield served
    assert made.faults == []


Run = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def run(start: Start, workspace: Workspace, tmp_path: Path) -> Run:
    """Give a function that runs the service for the channel; `rules` is what else its rules say."""

    @asynccontextmanager
    async def running(rules: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Service]:
        file = tmp_path / "clicks.json"
        default = {"type": "slack", "channel": f"#{CHANNEL}", "rate": 1000}
        built_in = BUILT_IN.model_dump(mode="json", by_alias=True, exclude_unset=True)
        whole = {"version": 1, "destinations": {"default": default}, "rules": [built_in]} | (rules or {})
        file.write_text(json.dumps(whole))
        usual = {
            "slack_bot_token": TOKEN,
            "slack_app_token": APP_TOKEN,
            "slack_api_url": workspace.url,
            "rules_file": file,
        }
        async with start(**(usual | settings)) as service:
            yield service

    return running
