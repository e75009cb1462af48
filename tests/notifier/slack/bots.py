"""Bots that post to the stand-in for Slack's Web API."""

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import DeliveryFailed
from app.model.incident import Step
from app.model.notification import Message
from app.notifier.base import Item, Parcel
from app.notifier.slack.bot import SlackBot
from tests.notifier.slack.helpers import APP, item, parcel
from tests.notifier.slack.stand_in_api import TOKEN, StandInSlackApi

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def posting(api: StandInSlackApi, channel: str = "#oncall", **options: Any) -> AsyncIterator[SlackBot]:
    """Yield a bot for a channel, and close it."""
    bot = SlackBot(api.token, channel, APP, api_url=api.url, **options)
    try:
        yield bot
    finally:
        await bot.close()


async def failure(bot: SlackBot, what: Parcel | None = None) -> DeliveryFailed:
    """Send, and return the failure that comes of it."""
    with pytest.raises(DeliveryFailed) as failed:
        await bot.send(what or parcel(item("1")))
    return failed.value


def reply(delivery_id: str, parent: Message | None, **facts: Any) -> Item:
    """Return a change of an incident that has a message in the channel already."""
    return item(delivery_id, parent=parent, **({"step": Step.CHANGED} | facts))


async def opened(bot: SlackBot, delivery_id: str = "0", entity: str = "checkout") -> Message:
    """Post the first message of an incident, and return its name."""
    sent = await bot.send(parcel(item(delivery_id, entity)))
    assert sent.message is not None
    return sent.message


def told(*ids: str) -> frozenset[str]:
    """Return delivery ids."""
    return frozenset(ids)


def secret_is_kept(error: BaseException) -> bool:
    """Tell whether an error shows neither the token nor the message."""
    text = "".join(traceback.format_exception(error))
    return TOKEN not in text and "Checkout" not in text
