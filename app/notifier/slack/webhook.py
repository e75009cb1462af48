"""Slack, through an incoming webhook.

Rules: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (answers)
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from slack_sdk.webhook import WebhookResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient
from yarl import URL

from app.errors import DeliveryFailed, Scope
from app.network import DIRECT, Network
from app.notifier.base import Parcel, Sent, Tried
from app.notifier.failure import TOO_LATE, failure_of_status
from app.notifier.slack.compose import NO_PREVIEWS, forms
from app.notifier.slack.session import (
    SlackNotifier,
    SlackSession,
    asking_slack,
    in_simpler_forms,
    retry_after,
)

WEBHOOK_MESSAGE_ERRORS = frozenset(
    {"invalid_payload", "no_text", "too_many_attachments", "invalid_blocks", "invalid_attachments"}
    | {"msg_blocks_too_long", "msg_too_long", "user_not_found"}
)
WEBHOOK_DESTINATION_ERRORS = frozenset(
    {"action_prohibited", "posting_to_general_channel_denied", "channel_not_found", "no_service"}
    | {"no_service_id", "no_active_hooks", "no_team", "channel_is_archived", "invalid_token", "team_disabled"}
)

ALIVE = frozenset({"no_text", "missing_text", "missing_text_or_fallback_or_attachments", "invalid_payload"})
"""The answers of a working webhook to a message without text, which Slack does not show.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (its errors), and
https://github.com/trufflesecurity/trufflehog (slackwebhook.go), which checks webhooks the same way.
"""


class SlackWebhook(SlackNotifier):
    """Posts to one incoming webhook, whose address is a secret; the options are those of `SlackNotifier`."""

    def __init__(
        self,
        webhook_url: str,
        app_url: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        network: Network = DIRECT,
        **options: Any,
    ) -> None:
        super().__init__(SlackSession("slack_sdk.webhook", webhook_url, clock, network), app_url, **options)
        # encoded: it is sent as it is written, since a proxy or another product may have signed it so.
        self._webhook_url = URL(webhook_url, encoded=True)
        self.address = json.dumps({"type": "slack", "webhook_url": webhook_url})

    async def send(self, parcel: Parcel) -> Sent:
        """Post a message; one that Slack refuses for its form is tried in simpler ones."""
        composed = await self._compose(parcel)
        detail, _ = await in_simpler_forms(forms(NO_PREVIEWS | composed.message, composed.plain), self._post)
        return Sent(detail, delivered=composed.delivered)

    async def probe(self, message: str = "") -> Tried:
        """Post a text; an empty one Slack refuses, where the webhook works, and shows nobody.

        Raises:
            DeliveryFailed: It does not work.
        """
        try:
            await self._post({"text": message})
        except DeliveryFailed as refused:
            if not message and refused.reason.rpartition(" ")[2] in ALIVE:
                return await self._with_people(Tried("the webhook works"))
            advice = (
                "Unless that passes by itself (429, 5xx, no connection), make a new one on your Slack app's"
                " page, Incoming Webhooks"
            )
            raise DeliveryFailed(f"{refused.reason}. {advice}", refused.scope) from None
        if not message:
            raise DeliveryFailed("it takes a message without text, which Slack does not", Scope.DESTINATION)
        return Tried("it took the test message")

    async def _post(self, body: dict[str, Any]) -> None:
        # retry_handlers=[]: what is to be tried again, and when, is in the store and survives a restart.
        client = AsyncWebhookClient(
            cast("str", self._webhook_url),  # aiohttp, to which it is handed on, takes both
            session=self._session.open(),
            retry_handlers=[],
            logger=self._session.log,
        )
        with asking_slack(self._webhook_url.host or ""):
            raise_for_answer(await self._session.route(client).send_dict(body), self._session.clock())


def raise_for_answer(response: WebhookResponse, now: datetime) -> None:
    """Raise unless Slack took the message: HTTP 200 with the body ``ok``, and nothing else.

    Args:
        response: The answer.
        now: The time, UTC, to which a date in it is compared.

    Raises:
        DeliveryFailed: It did not; the scope says what that concerns.
    """
    status, answer = response.status_code, (response.body or "").strip()
    word = answer.partition(":")[0] if re.fullmatch(r"[a-z_]{1,60}(:.*)?", answer, re.DOTALL) else ""
    if status == 200 and answer == "ok":
        return
    reason, wait = f"{status} {word}".rstrip(), retry_after(response.headers, now)
    if wait is None and status < 500 and status != 429:
        if word in WEBHOOK_DESTINATION_ERRORS:
            raise DeliveryFailed(reason, Scope.DESTINATION)
        if word in WEBHOOK_MESSAGE_ERRORS:
            raise DeliveryFailed(reason, Scope.MESSAGE)
    if 200 <= status < 400:  # a proxy's page, another product: nothing says that Slack has it
        reason = f"{reason}: not an answer from Slack"
    raise failure_of_status(status, reason, retry_after=wait, unsure=status in TOO_LATE)
