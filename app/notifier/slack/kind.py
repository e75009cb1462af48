"""The kind "slack": a channel, by an incoming webhook or a bot token."""

import re
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from app.errors import SettingsError
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.notifier.base import Notifier
from app.notifier.kind import Kind, NotifierContext
from app.notifier.slack.alert import dry_run
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.catalog import CatalogBot, channel_queue, person_queue
from app.notifier.slack.people import People
from app.notifier.slack.session import SlackSession
from app.notifier.slack.web_api import SlackApi
from app.notifier.slack.webhook import SlackWebhook
from app.rules.destination import (
    Address,
    ByCatalog,
    DestinationSettings,
    Fallback,
    Rate,
    Routing,
    spacing_of,
)
from app.rules.targets import DEFAULT_DESTINATION, CatalogText
from app.rules.template import OPEN
from app.rules.values import Whole

# Slack: lower-case letters of any script, digits, hyphens and underscores; 80 characters at most.
CHANNEL_NAME = re.compile(r"#?(?:[^\WA-Z]|-)[^\sA-Z#@,.:/!?'\"]{0,79}|[CGD][A-Z0-9]{5,}")
# They answer {"ok":true} to whatever is posted, and start a workflow instead of posting the message.
WORKFLOW = re.compile(r"https?://hooks\.slack(-gov)?\.com(:\d+)?/+(triggers|workflows)\b", re.IGNORECASE)
NOT_A_WEBHOOK = (
    "starts a workflow and posts no message: give the URL of an incoming webhook"
    " (hooks.slack.com/services/…), or call the workflow by a destination of the type http"
)


def _channel(channel: CatalogText) -> CatalogText:
    if not isinstance(channel, str) or OPEN in channel:
        return channel
    if not CHANNEL_NAME.fullmatch(channel):
        raise ValueError("must be a channel's name, such as '#oncall', or its ID, such as C0123456789")
    return channel.removeprefix("#")


class SlackDestination(DestinationSettings):
    """A channel, through its incoming webhook or through SLACK_BOT_TOKEN."""

    templates: ClassVar[tuple[str, ...]] = ("channel", "user")

    type: Literal["slack"]
    """The kind of destination."""
    webhook_url: Address | None = None
    """The incoming webhook's address."""
    channel: Annotated[CatalogText, AfterValidator(_channel)] | None = None
    """The channel's name or ID, for the bot token: then an incident is one message. Or a template or a
    look-up, which gives it for each alert."""
    user: CatalogText | None = None
    """The e-mail address or ID of who gets direct messages, for the bot token; or what gives it."""
    allow: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    """What the catalog may name: channels or e-mail addresses, or patterns of them; needed for a channel."""
    default: Annotated[str, Field(min_length=1)] | None = None
    """Where goes what the catalog leads nowhere: a channel, with its #, or a destination."""
    group_by: Annotated[tuple[GroupBy, ...], Field(min_length=1)] = BY_RULE_AND_TRANSITION
    """What alerts that go out as one message are grouped by there."""
    digest_after: Annotated[Whole, Field(ge=1)] = 1
    """How many alerts may wait before they go out as one message."""
    rate: Rate | None = 1.0
    """How many messages a channel takes, a second or as in `30/min`. Slack's own limit is 1 a second."""
    acknowledged: bool = False
    """Whether a webhook's channel gets a message when somebody acknowledges an incident."""
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
        if [self.webhook_url, self.channel, self.user].count(None) != 2:
            raise ValueError("needs either webhook_url, or channel or user (with SLACK_BOT_TOKEN)")
        if self.acknowledged and self.webhook_url is None:
            raise ValueError("acknowledged: is for a webhook_url: a bot's message shows it in its own place")
        if self.catalog is None and (self.allow or self.default):
            raise ValueError(
                f"{'allow' if self.allow else 'default'}: is for a channel that the catalog names"
            )
        if self.catalog is not None and self.user is None and not self.allow:
            raise ValueError('allow: is needed for a channel that the catalog names: allow: ["team-*"]')
        return self

    @property
    def catalog(self) -> CatalogText | None:
        """What gives the channel or the person for each alert; None: it is one channel."""
        if self.user is not None:
            return self.user
        return None if isinstance(self.channel, str) and OPEN not in self.channel else self.channel

    @property
    def reads_event(self) -> bool:
        """Whether a template chooses the channel."""
        return isinstance(self.catalog, str) and OPEN in self.catalog

    @property
    def spacing(self) -> timedelta:
        """Nothing of the destination's own: the rate is each channel's."""
        return timedelta(0)

    def routing(self) -> Routing:
        """Share a queue with every destination that is this channel: Slack limits the rate of each."""
        if self.catalog is not None:
            read = partial(person_queue if self.user is not None else channel_queue, allow=self.allow)
            catalog = ByCatalog(self.catalog, read, self.default or DEFAULT_DESTINATION)
            return Routing(fallback=self.fallback, catalog=catalog)
        # Neither can be taken for the other: one begins with http, the other with #.
        url = self.webhook_url
        channel = url.get_secret_value() if url else f"#{self.channel}"
        return Routing(channel=channel, fallback=self.fallback, acknowledged=self.acknowledged)


def _make(_: str, settings: SlackDestination, context: NotifierContext) -> Notifier:
    options: dict[str, Any] = {
        "pause": spacing_of(settings.rate or 1.0),
        "group_by": settings.group_by,
        "digest_after": settings.digest_after,
        "page_url": context.page_url,
        "calls_people": context.calls_people,
        "network": context.network,
    }
    if settings.webhook_url is not None:
        url = settings.webhook_url.get_secret_value()
        if context.bot_token:  # the webhook itself cannot be asked
            session = SlackSession("slack_sdk.web", context.slack_api_url, context.clock, context.network)
            api = SlackApi(context.bot_token, context.slack_api_url, session)
            options["people"] = People(api, context.clock)
        return SlackWebhook(url, context.app_url, clock=context.clock, **options)
    if not context.bot_token:
        key = "channel" if settings.user is None else "user"
        raise SettingsError(
            f"{key}: needs SLACK_BOT_TOKEN: your Slack app's page, OAuth & Permissions, has it"
        )
    options |= {"api_url": context.slack_api_url, "clock": context.clock, "closable": context.closable}
    if settings.catalog is None:
        return SlackBot(context.bot_token, str(settings.channel), context.app_url, **options)
    default = settings.default if (settings.default or "").startswith("#") else None
    return CatalogBot(
        context.bot_token, default or "", context.app_url, to_people=settings.user is not None, **options
    )


SLACK_KIND = Kind(SlackDestination, _make, dry_run)
