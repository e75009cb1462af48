"""Checks whether clicks in Slack would arrive, and whether the app may look up who may do what."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

import httpx

from app.clicks.app_token import ask_for_socket
from app.clicks.membership import Membership
from app.clicks.signature import (
    CLICKS_PATH,
    SLACK_SIGNATURE_HEADER,
    SLACK_TIMESTAMP_HEADER,
    sign_for_slack,
)
from app.doctor.finding import CheckStatus, Remark
from app.errors import ListenerError
from app.network import DIRECT, Network
from app.notifier.slack.session import SlackSession
from app.notifier.slack.web_api import ApiAnswer, SlackApi

TRY_SECONDS = 10.0
NO_WAY = (
    "no click arrives, so messages have no buttons: set SLACK_APP_TOKEN (Socket Mode), or"
    " SLACK_SIGNING_SECRET and the app's Request URL (docs/slack.md)"
)


@dataclass(frozen=True, slots=True)
class ClickSetup:
    """How clicks are to come; what is empty is not configured.

    Attributes:
        bot_token: The bot token: a secret.
        app_token: The app-level token: a secret.
        signing_secret: The signing secret.
        api_url: The address of Slack's Web API.
        public_url: The listener's address, as Slack has to call it.
        network: The way to other hosts.
    """

    bot_token: str = field(repr=False)
    app_token: str = field(repr=False)
    signing_secret: str = field(repr=False)
    api_url: str
    public_url: str = ""
    network: Network = DIRECT

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return self.bot_token, self.app_token, self.signing_secret


async def check_clicks(setup: ClickSetup, groups: Sequence[str]) -> str | Remark:
    """Try each way in which clicks are to come, by the clients that the listener uses.

    Args:
        setup: How they are to come.
        groups: The user groups that the rules file names.

    Raises:
        ListenerError: A way does not work, or the groups cannot be looked up; the text says what to do.
    """
    if not setup.app_token and not setup.signing_secret:
        return CheckStatus.NOTE, NO_WAY
    ways, notes = [], []
    if setup.app_token:
        await _call(setup, setup.app_token, lambda api: ask_for_socket(api, secure=_is_secure(setup)))
        ways.append("Slack gives a socket for SLACK_APP_TOKEN")
    if setup.signing_secret and setup.public_url:
        ways.append(f"this listener takes clicks at {await _post_nothing(setup)}")
    elif setup.signing_secret:
        notes.append(f"that Slack reaches {CLICKS_PATH} cannot be tried: WEBHOOK_URL is not set")
    if not setup.bot_token:
        notes.append("only messages by SLACK_BOT_TOKEN have buttons, and it is not set")
    elif groups:
        await _call(
            setup, setup.bot_token, lambda api: Membership(api, lambda: datetime.now(UTC)).check(groups)
        )
    return (CheckStatus.NOTE, "\n".join((*ways, *notes))) if notes else "\n".join(ways)


def _is_secure(setup: ClickSetup) -> bool:
    return urlsplit(setup.api_url).scheme == "https"


async def _call(setup: ClickSetup, token: str, ask: Callable[[SlackApi], Awaitable[object]]) -> None:
    session = SlackSession(
        "slack_sdk.web", setup.api_url, lambda: datetime.now(UTC), setup.network, answer=ApiAnswer
    )
    try:
        async with asyncio.timeout(TRY_SECONDS):
            await ask(SlackApi(token, setup.api_url, session))
    except TimeoutError:
        raise ListenerError("no answer from Slack in time") from None
    finally:
        await session.close()


async def _post_nothing(setup: ClickSetup) -> str:
    """Post a click on nothing, as Slack signs it, and give the address."""
    url, timestamp = f"{setup.public_url.rstrip('/')}{CLICKS_PATH}", str(int(time.time()))
    body = urlencode({"payload": '{"type": "doctor"}'}).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        SLACK_TIMESTAMP_HEADER: timestamp,
        SLACK_SIGNATURE_HEADER: sign_for_slack(body, timestamp, setup.signing_secret),
    }
    try:
        async with httpx.AsyncClient(timeout=TRY_SECONDS, **setup.network.httpx(url)) as client:
            answer = await client.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ListenerError(f"cannot reach {url}: {type(error).__name__}. Is the listener running?") from None
    if answer.status_code != httpx.codes.OK or answer.content:
        advice = "is it running with this SLACK_SIGNING_SECRET, and does the proxy let this path through?"
        raise ListenerError(f"{url} answers {answer.status_code}: {advice}")
    return url
