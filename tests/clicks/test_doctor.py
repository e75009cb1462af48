"""The doctor's step for clicks in Slack: each way is tried, and what is wrong is said with what to do."""

from dataclasses import replace

import pytest

from app.doctor.clicks import NO_WAY, ClickSetup, check_clicks
from app.doctor.finding import CheckStatus
from app.errors import ListenerError
from tests.clicks.conftest import Run
from tests.clicks.workspace import APP_TOKEN, Workspace
from tests.notifier.slack.stand_in_api import TOKEN

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def setup(workspace: Workspace) -> ClickSetup:
    """Socket Mode, all well."""
    return ClickSetup(TOKEN, APP_TOKEN, "", workspace.url)


async def test_socket_mode(setup: ClickSetup, workspace: Workspace) -> None:
    """A socket is asked for, and none is opened; a refusal says what to do."""
    assert await check_clicks(setup, ["sre"]) == "Slack gives a socket for SLACK_APP_TOKEN"
    assert workspace.sockets == []
    with pytest.raises(ListenerError, match="there is no user group @nobody in Slack"):
        await check_clicks(setup, ["nobody"])
    workspace.scopes -= {"usergroups:read"}
    with pytest.raises(ListenerError, match="add usergroups:read"):
        await check_clicks(setup, ["sre"])
    workspace.refusal = "token_revoked"
    with pytest.raises(ListenerError, match="make a new app-level token"):
        await check_clicks(setup, [])


async def test_by_http(setup: ClickSetup, run: Run) -> None:
    """A click on nothing is posted to the listener's own address, with the secret that it is to have."""
    async with run(slack_app_token=None, slack_signing_secret=SECRET) as service:
        by_http = replace(setup, app_token="", signing_secret=SECRET, public_url=f"{service.url}/")
        assert f"takes clicks at {service.url}/api/slack/interactive" in await check_clicks(by_http, [])
        for wrong in (
            replace(by_http, signing_secret="x" * 32),
            replace(by_http, public_url=f"{service.url}/elsewhere"),
            replace(by_http, public_url="http://127.0.0.1:9"),
        ):
            with pytest.raises(ListenerError, match=r"answers 40\d|cannot reach"):
                await check_clicks(wrong, [])


async def test_what_is_missing_is_a_note(setup: ClickSetup) -> None:
    """No way, no bot token, no address to try."""
    none = replace(setup, app_token="")
    assert await check_clicks(none, []) == (CheckStatus.NOTE, NO_WAY)
    remark = await check_clicks(replace(none, bot_token="", signing_secret=SECRET), [])
    assert remark[0] is CheckStatus.NOTE
    assert "WEBHOOK_URL is not set" in remark[1]
    assert "SLACK_BOT_TOKEN have buttons" in remark[1]
