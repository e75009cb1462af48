"""Slack, through an incoming webhook.

Rules: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (answers)
"""

import re
from typing import Any

from slack_sdk.webhook import WebhookResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from app.errors import DeliveryFailed, Scope
from app.network import DIRECT, Network
from app.notifier.base import Parcel, Sent
from app.notifier.slack.session import SlackNotifier, SlackSession, asking_slack, retry_after

WEBHOOK_MESSAGE_ERRORS = frozenset(
    {"invalid_payload", "no_text", "too_many_attachments", "invalid_blocks", "invalid_attachments"}
    | {"msg_blocks_too_long", "msg_too_long", "user_not_found"}
)
WEBHOOK_DESTINATION_ERRORS = frozenset(
    {"action_prohibited", "posting_to_general_channel_denied", "channel_not_found", "no_service"}
    | {"no_service_id", "no_active_hooks", "no_team", "channel_is_archived", "invalid_token", "team_disabled"}
)


class SlackWebhook(SlackNotifier):
    """Posts to one incoming webhook, whose address is a secret; the options are those of `SlackNotifier`."""

    def __init__(self, webhook_url: str, app_url: str, *, network: Network = DIRECT, **options: Any) -> None:
        super().__init__(SlackSession("slack_sdk.webhook", webhook_url, network), app_url, **options)
        self._webhook_url = webhook_url

    async def send(self, parcel: Parcel) -> Sent:
        """Post a message; one that Slack refuses for its form is tried once more as plain text."""
        composed, detail = await self._compose(parcel), "ok"
        try:
            await self._post(composed.message)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE:
                raise
            await self._post(composed.plain)
            detail = f"ok, as plain text, because Slack answered {refused.reason}"
        return Sent(detail, delivered=composed.delivered)

    async def _post(self, body: dict[str, Any]) -> None:
        # retry_handlers=[]: what is to be tried again, and when, is in the store and survives a restart.
        client = AsyncWebhookClient(
            self._webhook_url, session=self._session.open(), retry_handlers=[], logger=self._session.log
        )
        with asking_slack():
            raise_for_answer(await self._session.route(client).send_dict(body))


def raise_for_answer(response: WebhookResponse) -> None:
    """Raise unless Slack took the message: HTTP 200 with the body ``ok``, and nothing else.

    Raises:
        DeliveryFailed: It did not; the scope says what that concerns.
    """
    status, answer = response.status_code, (response.body or "").strip()
    word = answer.partition(":")[0] if re.fullmatch(r"[a-z_]{1,60}(:.*)?", answer, re.DOTALL) else ""
    if status == 200 and answer == "ok":
        return
    reason = f"{status} {word}".rstrip()
    if status == 429 or status >= 500:
        raise DeliveryFailed(reason, Scope.TRANSIENT, retry_after(response.headers))
    unusable = status in {401, 403, 404, 410} and word not in WEBHOOK_MESSAGE_ERRORS
    if word in WEBHOOK_DESTINATION_ERRORS or unusable:
        raise DeliveryFailed(reason, Scope.DESTINATION)
    if word in WEBHOOK_MESSAGE_ERRORS or status == 400:
        raise DeliveryFailed(reason, Scope.MESSAGE)
    # A proxy's page, a redirect, a 200 that is not ok: nothing says that Slack has it, or that it never will.
    raise DeliveryFailed(f"{reason}: not an answer from Slack", Scope.TRANSIENT)
