"""Destinations that are asked whether alerts would arrive: nothing is sent, no job is started."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.errors import ListenerError
from app.notifier.base import Notifier, Tried
from app.notifier.kind import NotifierContext
from app.notifier.registry import SETTINGS_MODELS, kind_of
from app.port.client import PortClient
from tests.notifier.helpers import NOW, context
from tests.notifier.slack.stand_in_api import SCOPES, StandInSlackApi
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, standing_in


def make(made_with: NotifierContext, **settings: Any) -> Notifier:
    """Make a notifier as a rules file does."""
    kind = settings["type"]
    return kind_of(kind).make("here", SETTINGS_MODELS[kind].model_validate(settings), made_with)


async def tried(notifier: Notifier, message: str = "") -> Tried | str:
    """Try a destination; the result is the reason where it would not do."""
    try:
        return await notifier.probe(message)
    except ListenerError as failed:
        return str(failed)
    finally:
        await notifier.close()


@pytest.mark.parametrize(
    ("channel", "scopes", "facts", "said"),
    [
        ("oncall", SCOPES, {}, Tried("the token and the channel #oncall are good")),
        ("C0000000001", SCOPES, {}, Tried("the token and the channel #oncall are good")),
        ("C0000000009", SCOPES, {}, "channel_not_found: there is no such channel"),
        ("onc", SCOPES, {}, "channel_not_found: there is no such channel"),
        ("oncall", SCOPES, {"archived": True}, "is_archived: unarchive the channel"),
        ("oncall", SCOPES - {"chat:write"}, {}, "missing_scope: add chat:write"),
        ("oncall", SCOPES - {"chat:write.public"}, {"member": False}, "not_in_channel: invite the app"),
        ("oncall", SCOPES, {"member": False}, "invite it, so that it can look for its own messages"),
        ("oncall", SCOPES - {"channels:history"}, {}, "without the scope channels:history"),
        ("C0000000001", SCOPES - {"channels:read"}, {}, "the channel: missing_scope: add channels:read"),
        ("private", SCOPES - {"groups:read"}, {}, "the channel: missing_scope: add groups:read"),
    ],
)
async def test_a_channel(
    channel: str, scopes: frozenset[str], facts: dict[str, Any], said: Tried | str
) -> None:
    """The token, its scopes and the channel, as far as the scopes let it be seen; nothing is posted."""
    api = StandInSlackApi(scopes=scopes)
    api.add("oncall", **facts)
    async with serving(api.app) as url:
        made_with = context(bot_token=api.token, slack_api_url=f"{url}/api/")
        found = await tried(make(made_with, type="slack", channel=channel))
    assert found == said if isinstance(said, Tried) else said in str(found)
    assert "chat.postMessage" not in [method for method, _ in api.calls]


async def test_a_wrong_token() -> None:
    """Slack's own word, and what to do."""
    api = StandInSlackApi("oncall")
    async with serving(api.app) as url:
        made_with = context(bot_token="xoxb-another", slack_api_url=f"{url}/api/")
        assert "invalid_auth: set a valid bot token" in str(
            await tried(make(made_with, type="slack", channel="x"))
        )
        made_with = context(bot_token=api.token, slack_api_url=f"{url}/api/")
        posted = await tried(make(made_with, type="slack", channel="oncall"), "a test")
    assert posted == Tried("it took the test message")
    assert [message["text"] for message in api.messages("oncall")] == ["a test"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (204, "answers (204 to OPTIONS); the job itself was not started"),
        (405, "(405 to OPTIONS)"),
        (503, "answers 503"),
        (407, "answers 407"),
    ],
)
async def test_a_job(status: int, said: str) -> None:
    """Its host is asked for its methods, which starts nothing."""
    methods = []

    async def answer(request: Any) -> Response:
        methods.append(request.method)
        return PlainTextResponse("", status)

    app = Starlette(routes=[Route("/job", answer, methods=["OPTIONS", "POST"])])
    async with serving(app) as url:
        found = await tried(make(context(), type="http", url=f"{url}/job", allow_private=True))
        refused = await tried(make(context(), type="http", url=f"{url}/job"))
    assert said in str(found)
    assert isinstance(found, Tried) is (status in {204, 405})
    assert "is not a public address" in str(refused)
    assert methods == ["OPTIONS"]


async def test_a_job_whose_address_comes_from_the_change() -> None:
    """It was not looked at."""
    found = await tried(
        make(context(), type="http", url="https://{{ .action }}.example.com/", allow_hosts=["*.example.com"])
    )
    assert found == Tried(unseen="its url comes from the change")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("restart", "Port has the action restart"),
        ("nothing", "action: Port has no self-service action 'nothing'"),
        ("forward", "action: Port has no self-service action 'forward'"),
        ("scale", "inputs: the action requires count"),
    ],
)
async def test_an_action(action: str, said: str) -> None:
    """It is there, can be started by hand, and gets the inputs that it requires; nothing is started."""
    async with standing_in() as port:
        for name, kind, required in (
            ("restart", "self-service", []),
            ("scale", "self-service", ["count"]),
            ("forward", "automation", []),
        ):
            trigger = {"type": kind, "userInputs": {"properties": {}, "required": required}}
            port.actions[name] = {"identifier": name, "trigger": trigger}
        async with PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: NOW) as client:
            found = await tried(make(context(port=client), type="port_action", action=action))
    assert said in str(found)
    assert port.runs == []


async def test_a_webhook(slack: StandInSlack) -> None:
    """A message without text is refused where it works; a text that is given is posted."""
    settings = {"type": "slack", "webhook_url": slack.url}
    assert await tried(make(context(), **settings)) == Tried("the webhook works")
    assert slack.messages == []
    assert await tried(make(context(), **settings), "a test") == Tried("it took the test message")
    slack.answers.append(PlainTextResponse("no_service", 404))
    assert "404 no_service. Unless" in str(await tried(make(context(), **settings)))


async def test_the_terminal() -> None:
    """It reaches nobody but whoever looks there."""
    assert isinstance(found := await tried(make(context(), type="console")), Tried)
    assert found.note
