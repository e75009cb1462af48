"""What is made of the configured destinations."""

import json
from typing import Any

import pytest

from app.demo.stand_in_slack import StandInSlack
from app.errors import SettingsError
from app.jq.expressions import Expressions
from app.jq.runner import Jq
from app.notifier.base import Item, Parcel
from app.notifier.registry import Destinations
from app.rules.file import RulesFile
from app.rules.rule import BUILT_IN
from app.settings import Settings
from tests.notifier.slack.test_webhook import notification

TOKEN = "an-admin-token-of-some-length"


def destinations(**settings: Any) -> Destinations:
    """Return what makes notifiers, with these settings."""
    return Destinations(Settings(_env_file=None, accept_unsigned=True, **settings), Expressions(Jq()), None)


def rules_file(**named: Any) -> RulesFile:
    """Return a rules file with these destinations."""
    return RulesFile.model_validate({"version": 1, "destinations": named})


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        (
            {"webhook_url": "https://alerts.example.com", "admin_token": TOKEN},
            "https://alerts.example.com/changes",
        ),
        (
            {"webhook_url": "https://example.com/port/api/slack", "admin_token": TOKEN},
            "https://example.com/port/changes",
        ),
        ({"webhook_url": "https://alerts.example.com"}, None),
        ({"admin_token": TOKEN}, None),
    ],
)
async def test_what_is_summed_up_links_to_the_page(
    slack: StandInSlack, settings: dict[str, Any], link: str | None
) -> None:
    """Where there is a page, and its address is known."""
    file = RulesFile(version=1, destinations={}, rules=(BUILT_IN,))
    notifier = destinations(slack_webhook_url=slack.url, **settings).make(file)["default"]
    await notifier.send(Parcel((Item("1", notification()),), more=4_212, counts={"Degraded": 4_213}))
    await notifier.close()
    said = json.dumps(slack.messages)
    assert "and 4,212 more" in said
    assert (f"<{link}|" in said) if link else ("/changes" not in said)


def test_rate_of_a_channel() -> None:
    """Messages a second, by webhook and by bot token; one where nothing is said."""
    webhook = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T0/B0/x"}
    channel = {"type": "slack", "channel": "#oncall", "rate": 0.5}
    file = rules_file(plain=webhook, fast=webhook | {"rate": 20}, slow=channel)
    made = destinations(
        slack_webhook_url="https://hooks.slack.com/services/T0/B0/y", slack_bot_token="xoxb-1"
    ).make(file)
    assert {name: one.pause.total_seconds() for name, one in made.items()} == {
        "default": 1,
        "plain": 1,
        "fast": 0.05,
        "slow": 2,
    }


def test_a_channel_needs_a_bot_token() -> None:
    """Without one the start is refused, and the text says which destination and where a token is."""
    with pytest.raises(SettingsError, match="'oncall' has a channel, which needs SLACK_BOT_TOKEN"):
        destinations().make(rules_file(oncall={"type": "slack", "channel": "#oncall"}))
