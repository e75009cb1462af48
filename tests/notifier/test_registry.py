"""The notifiers that are made of the configured destinations."""

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from app.demo.stand_in_slack import StandInSlack
from app.errors import RulesError, SettingsError
from app.notifier.base import Item, Notifier, Parcel
from app.notifier.kind import NotifierContext
from app.notifier.registry import DESTINATION_KINDS, SETTINGS_MODELS, kind_of, make_notifiers
from app.rules.file import load_rules
from tests.notifier.helpers import context, notification


def make(made_with: NotifierContext, **destinations: dict[str, Any]) -> dict[str, Notifier]:
    """Make the notifiers of a rules file with these destinations."""
    text = json.dumps({"version": 1, "destinations": destinations})
    return make_notifiers(load_rules(text, {}, models=SETTINGS_MODELS), made_with)


def test_every_kind_has_the_name_of_its_type() -> None:
    """The name in the registry is the one in a rules file."""
    for name in DESTINATION_KINDS:
        model = kind_of(name).settings
        assert model.model_json_schema()["properties"]["type"]["const"] == name
        assert SETTINGS_MODELS[name] is model


@pytest.mark.parametrize("destinations", ["{here: {type: port_action, action: restart}}", "{}"])
def test_only_the_kinds_in_use_are_imported(destinations: str) -> None:
    """A rules file without Slack and HTTP costs no import of their clients."""
    program = (
        "import sys\n"
        "from app.notifier.registry import SETTINGS_MODELS\n"
        "from app.rules.file import load_rules\n"
        f"text = 'version: 1\\ndestinations: {destinations}'\n"
        "load_rules(text, {}, models=SETTINGS_MODELS)\n"
        "print(sorted({'aiohttp', 'httpx', 'slack_sdk'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("page", ["https://alerts.example.com", None])
async def test_what_is_summed_up_links_to_the_page(slack: StandInSlack, page: str | None) -> None:
    """Where there is a page, and its address is known."""
    notifier = make(context(default_webhook=slack.url, page_url=page))["default"]
    await notifier.send(Parcel((Item("1", notification()),), more=4_212, counts={"warning": 4_213}))
    await notifier.close()
    text = json.dumps(slack.messages)
    assert "and 4,212 more" in text
    assert (f"<{page}/changes|" in text) if page else ("/changes" not in text)


def test_rate_of_a_channel() -> None:
    """Messages a second, by webhook and by bot token; one where nothing is said."""
    webhook = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T0/B0/x"}
    channel = {"type": "slack", "channel": "#oncall", "rate": 0.5}
    made = make(
        context(default_webhook="https://hooks.slack.com/services/T0/B0/y", bot_token="xoxb-1"),
        plain=webhook,
        fast=webhook | {"rate": 20},
        slow=channel,
    )
    assert {name: notifier.pause for name, notifier in made.items()} == {
        "default": timedelta(seconds=1),
        "plain": timedelta(seconds=1),
        "fast": timedelta(milliseconds=50),
        "slow": timedelta(seconds=2),
    }


@pytest.mark.parametrize(
    ("destination", "needs"),
    [
        ({"type": "slack", "channel": "#oncall"}, "channel: needs SLACK_BOT_TOKEN"),
        ({"type": "port_action", "action": "restart"}, "action: needs PORT_CLIENT_ID and PORT_CLIENT_SECRET"),
    ],
)
def test_what_a_destination_needs(destination: dict[str, Any], needs: str) -> None:
    """Without its credentials the start is refused, and the text says which destination and what it needs."""
    with pytest.raises(RulesError, match=f"rules:1: destination 'oncall': {needs}"):
        make(context(), oncall=destination)


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ("https://hooks.slack.com/triggers/T0/1/secret", "starts a workflow and posts no message"),
        ("https://hooks.slack.com:https/services/secret", "is no address"),
    ],
)
def test_a_default_webhook_that_is_none(webhook: str, said: str) -> None:
    """The setting is named, and its value is not shown."""
    with pytest.raises(SettingsError, match=f"SLACK_WEBHOOK_URL {said}") as refused:
        make(context(default_webhook=webhook))
    assert "secret" not in str(refused.value)


def test_a_context_shows_no_secret() -> None:
    """It may stand in a traceback."""
    shown = repr(context(default_webhook="https://hooks.slack.com/services/secret", bot_token="xoxb-secret"))
    assert "secret" not in shown
