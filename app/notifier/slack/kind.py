"""The kind "slack": a channel, by an incoming webhook or a bot token."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from app.errors import SettingsError
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.notifier.base import Notifier
from app.notifier.kind import Kind, NotifierContext
from app.notifier.slack.alert import dry_run
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.webhook import SlackWebhook
from app.rules.destination import Address, DestinationSettings, Fallback, Routing
from app.rules.values import Number, Whole

# Slack: lower-case letters of any script, digits, hyphens and underscores; 80 characters at most.
CHANNEL_NAME = re.compile(r"#?(?:[^\WA-Z]|-)[^\sA-Z#@,.:/!?'\"]{0,79}|[CGD][A-Z0-9]{5,}")
# They answer {"ok":true} to whatever is posted, and start a workflow instead of posting the message.
WORKFLOW = re.compile(r"https?://hooks\.slack(-gov)?\.com(:\d+)?/+(triggers|workflows)\b", re.IGNORECASE)
NOT_A_WEBHOOK = (
    "starts a workflow and posts no message: give the URL of an incoming webhook"
    " (hooks.slack.com/services/…), or call the workflow by a destination of the type http"
)


def _channel(name: str) -> str:
    if not CHANNEL_NAME.fullmatch(name):
        raise ValueError("must be a channel's name, such as '#oncall', or its ID, such as C0123456789")
    return name.removeprefix("#")


class SlackDestination(DestinationSettings):
    """A channel, through its incoming webhook or through SLACK_BOT_TOKEN."""

    type: Literal["slack"]
    """The kind of destination."""
    webhook_url: Address | None = None
    """The incoming webhook's address."""
    channel: Annotated[str, AfterValidator(_channel)] | None = None
    """The channel's name or ID, for the bot token: then an incident is one message."""
    group_by: Annotated[tuple[GroupBy, ...], Field(min_length=1)] = BY_RULE_AND_TRANSITION
    """What alerts that go out as one message are grouped by there."""
    digest_after: Annotated[Whole, Field(ge=1)] = 1
    """How many alerts may wait before they go out as one message."""
    rate: Annotated[Number, Field(ge=0.001, le=1000)] = 1.0
    """How many messages a second the channel takes. Slack's own limit is 1."""
    fallback: Fallback | None = None
    """Gets the alerts while this one is on hold."""

    @field_validator("webhook_url")
    @classmethod
    def _posts_messages(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and WORKFLOW.match(value.get_secret_value()):
            raise ValueError(NOT_A_WEBHOOK)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook_url is None) == (self.channel is None):
            raise ValueError("needs either webhook_url, or channel (with SLACK_BOT_TOKEN)")
        return self

    def routing(self) -> Routing:
        """Share a queue with every destination that is this channel: Slack limits the rate of each."""
        # Neither can be taken for the other: one begins with http, the other with #.
        url = self.webhook_url
        channel = url.get_secret_value() if url else f"#{self.channel}"
        return Routing(channel=channel, fallback=self.fallback)


def _make(_: str, settings: SlackDestination, context: NotifierContext) -> Notifier:
    options: dict[str, Any] = {
        "pause": timedelta(seconds=1 / settings.rate),
        "group_by": settings.group_by,
        "digest_after": settings.digest_after,
        "page_url": context.page_url,
        "network": context.network,
    }
    if settings.webhook_url is not None:
        url = settings.webhook_url.get_secret_value()
        return SlackWebhook(url, context.app_url, clock=context.clock, **options)
    if not context.bot_token or settings.channel is None:
        raise SettingsError(
            "channel: needs SLACK_BOT_TOKEN: your Slack app's page, OAuth & Permissions, has it"
        )
    options |= {"api_url": context.slack_api_url, "clock": context.clock, "closable": context.closable}
    return SlackBot(context.bot_token, settings.channel, context.app_url, **options)


SLACK_KIND = Kind(SlackDestination, _make, dry_run)
