"""What a rules file can say of a destination."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.rules.values import Strict

HTTP_QUEUES = 8
CHANNEL = re.compile(r"#?[^\W_A-Z][^\sA-Z#@,.:/!?'\"]{0,79}|[CGD][A-Z0-9]{5,}")

JobStep = Literal["opened", "changed", "resolved", "reminded"]
Steps = Annotated[
    tuple[JobStep, ...],
    Field(description="At which steps of an incident it runs; without an incident, at every match"),
]
JOB_STEPS: tuple[JobStep, ...] = ("opened", "changed")
"""A job that mends something is not to run again because it is mended."""


def _address(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().lower().startswith(("https://", "http://")):
        raise ValueError("must be an address that begins with https://")
    return value


def _channel(name: str) -> str:
    if not CHANNEL.fullmatch(name):
        raise ValueError("must be a channel's name, such as '#oncall', or its ID, such as C0123456789")
    return name.removeprefix("#")


Address = Annotated[SecretStr, AfterValidator(_address)]


Fallback = Annotated[str, Field(min_length=1, description="Hears of it when this destination is on hold")]


class SlackDestination(Strict):
    """A channel, through its incoming webhook or through SLACK_BOT_TOKEN.

    Attributes:
        webhook_url: The incoming webhook's address.
        channel: The channel's name or ID, for the bot token: then an incident is one message.
        group_by: What alerts that go out as one message are grouped by there.
        digest_after: How many alerts may wait before they go out as one message.
        rate: How many messages a second the channel takes. Slack's own limit is 1.
        fallback: Hears of it when this destination is on hold.
    """

    type: Literal["slack"]
    webhook_url: Address | None = None
    channel: Annotated[str, AfterValidator(_channel)] | None = None
    group_by: Annotated[tuple[GroupBy, ...], Field(min_length=1)] = BY_RULE_AND_TRANSITION
    digest_after: Annotated[int, Field(ge=1)] = 1
    rate: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    fallback: Fallback | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.webhook_url is None) == (self.channel is None):
            raise ValueError("needs either webhook_url, or channel (with SLACK_BOT_TOKEN)")
        return self


class HttpDestination(Strict):
    """A job at an HTTP address. Texts in url, headers and body may hold templates: jq in `{{ }}`."""

    type: Literal["http"]
    fallback: Fallback | None = None
    url: Address
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    headers: Annotated[dict[str, SecretStr], Field(default_factory=dict)]
    body: Any = None
    secret: SecretStr | None = None
    allow_private: bool = False
    queues: Annotated[int, Field(ge=1, le=64)] = HTTP_QUEUES
    steps: Steps = JOB_STEPS


class PortActionDestination(Strict):
    """A run of a self-service action in Port. Texts in inputs may hold templates."""

    type: Literal["port_action"]
    fallback: Fallback | None = None
    action: Annotated[str, Field(min_length=1)]
    inputs: Annotated[dict[str, Any], Field(default_factory=dict)]
    entity: str | None = None
    steps: Steps = JOB_STEPS


class ConsoleDestination(Strict):
    """The terminal in which the listener runs."""

    type: Literal["console"]


Destination = Annotated[
    SlackDestination | HttpDestination | PortActionDestination | ConsoleDestination,
    Field(discriminator="type"),
]


DESTINATIONS: Mapping[str, type[Strict]] = {
    "slack": SlackDestination,
    "http": HttpDestination,
    "port_action": PortActionDestination,
    "console": ConsoleDestination,
}
TEMPLATES = {"http": ("url", "headers", "body"), "port_action": ("inputs", "entity")}
"""Which parts of a destination may hold templates, by its type."""
