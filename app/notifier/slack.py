"""Slack, through an incoming webhook.

Rules: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (answers)
"""

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import aiohttp
from slack_sdk.webhook import WebhookResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from app.errors import DeliveryFailed, Scope
from app.notifier.base import SEND_TIMEOUT, Parcel, Sent
from app.notifier.slack_message import payload

KEEPALIVE_SECONDS = 3.0  # a server that closes an idle connection just as we use it would cost the attempt

OF_THE_MESSAGE = frozenset(
    {"invalid_payload", "no_text", "too_many_attachments", "invalid_blocks", "invalid_attachments"}
    | {"msg_blocks_too_long", "msg_too_long", "user_not_found"}
)
OF_THE_DESTINATION = frozenset(
    {"action_prohibited", "posting_to_general_channel_denied", "channel_not_found", "no_service"}
    | {"no_service_id", "no_active_hooks", "no_team", "channel_is_archived", "invalid_token", "team_disabled"}
)


class SlackNotifier:
    """Posts to one incoming webhook.

    Args:
        webhook_url: The webhook's address: a secret.
        app_url: The address of Port's app.
        pause: How long to rest after each message; Slack takes one a second.
    """

    def __init__(self, webhook_url: str, app_url: str, pause: timedelta = timedelta(seconds=1)) -> None:
        self.pause = pause
        self._webhook_url = webhook_url
        self._app_url = app_url
        self._session: aiohttp.ClientSession | None = None
        # slack_sdk logs the address and the message as soon as its logger lets DEBUG through.
        self._log = logging.getLogger("slack_sdk.webhook")
        self._log.setLevel(logging.INFO)

    async def send(self, parcel: Parcel) -> Sent:
        """See `Notifier.send`. A message that Slack refuses for its form is tried once more as plain text."""
        message = payload(parcel.items[0].notification, self._app_url)
        try:
            await self._post(message)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE:
                raise
            await self._post({"text": message["text"]})
            return Sent(f"ok, as plain text, because Slack answered {refused.reason}")
        return Sent("ok")

    async def _post(self, body: dict[str, Any]) -> None:
        try:
            raise_for_answer(await self._client().send_dict(body))
        except TimeoutError:
            raise DeliveryFailed("no answer in time; it may have arrived", Scope.TRANSIENT) from None
        except aiohttp.ServerDisconnectedError:
            reason = "the connection ended before the answer; it may have arrived"
            raise DeliveryFailed(reason, Scope.TRANSIENT) from None
        except (UnicodeDecodeError, LookupError):
            raise DeliveryFailed("an answer that is no text", Scope.TRANSIENT) from None
        except (aiohttp.ClientError, OSError) as error:
            # The error's own text may hold the webhook's address, which is a secret.
            raise DeliveryFailed(f"no connection ({type(error).__name__})", Scope.TRANSIENT) from None

    def _client(self) -> AsyncWebhookClient:
        if self._session is None or self._session.closed:
            timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT.total_seconds())
            trace = aiohttp.TraceConfig()
            trace.on_request_redirect.append(_refuse_redirect)
            connector = aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[trace])
        # retry_handlers=[]: what is to be tried again, and when, is in the store and survives a restart.
        return AsyncWebhookClient(
            self._webhook_url, session=self._session, retry_handlers=[], logger=self._log
        )

    async def close(self) -> None:
        """See `Notifier.close`."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(
                0
            )  # aiohttp closes connections in the background: see its "Graceful shutdown"


async def _refuse_redirect(*_: object) -> None:
    # slack_sdk would follow it, and somebody else's "ok" would count as Slack's.
    raise DeliveryFailed("a redirect: not an answer of Slack's", Scope.TRANSIENT)


def raise_for_answer(response: WebhookResponse) -> None:
    """Return if Slack took the message: HTTP 200 with the body ``ok``, and nothing else.

    Raises:
        DeliveryFailed: It did not; the scope says whom that concerns.
    """
    status, answer = response.status_code, (response.body or "").strip()
    word = answer.partition(":")[0] if re.fullmatch(r"[a-z_]{1,60}(:.*)?", answer, re.DOTALL) else ""
    if status == 200 and answer == "ok":
        return
    reason = f"{status} {word}".rstrip()
    if status == 429 or status >= 500:
        raise DeliveryFailed(reason, Scope.TRANSIENT, _retry_after(response.headers))
    if word in OF_THE_DESTINATION or (word not in OF_THE_MESSAGE and status in {401, 403, 404, 410}):
        raise DeliveryFailed(reason, Scope.DESTINATION)
    if word in OF_THE_MESSAGE or status == 400:
        raise DeliveryFailed(reason, Scope.MESSAGE)
    # A proxy's page, a redirect, a 200 that is not ok: nothing says that Slack has it, or that it never will.
    raise DeliveryFailed(f"{reason}: not an answer of Slack's", Scope.TRANSIENT)


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(text)
    except ValueError:
        return None
    return timedelta(seconds=seconds) if math.isfinite(seconds) and 0 <= seconds < 1e9 else None
