"""Asks Slack whether a channel would take alerts, without posting to it.

Rules: https://docs.slack.dev/reference/methods/auth.test, https://docs.slack.dev/reference/methods/conversations.info
and conversations.list; the header ``x-oauth-scopes`` of each answer names the token's scopes:
https://docs.slack.dev/apis/web-api/
"""

from typing import Any

from app.errors import DeliveryFailed, Scope
from app.notifier.base import Tried
from app.notifier.slack.web_api import (
    API_DESTINATION_ERRORS,
    CHANNEL_INFO,
    LIST_CHANNELS,
    TEST_TOKEN,
    SlackApi,
)

MAX_CHANNEL_PAGES = 10
CHANNELS_PER_PAGE = 1_000
WRITE, WRITE_PUBLIC = "chat:write", "chat:write.public"


async def probe_channel(api: SlackApi, name: str, channel_id: str | None) -> Tried:
    """Try the token, its scopes, and whether the app can post to a channel, of which the name or ID is known.

    Raises:
        DeliveryFailed: Alerts would not arrive, or Slack does not answer.
    """
    await probe_token(api)
    scopes = api.scopes
    channel, unseen = await _find(api, name, channel_id)
    if channel is None:
        if unseen:
            return Tried("the token is good", unseen=f"the channel: {'; '.join(unseen)}")
        raise _refused("channel_not_found")
    if channel.get("is_archived"):
        raise _refused("is_archived")
    note = ""
    if not channel.get("is_member"):
        if channel.get("is_private") or (scopes is not None and WRITE_PUBLIC not in scopes):
            raise _refused("not_in_channel")
        note = "the app is not in the channel: invite it, so that it can look for its own messages"
    history = "groups:history" if channel.get("is_private") else "channels:history"
    if scopes is not None and history not in scopes:
        note = f"without the scope {history} the app cannot look for its messages: an alert may be sent twice"
    return Tried(f"the token and the channel #{channel.get('name', name)} are good", note=note)


async def probe_token(api: SlackApi, *needed: str) -> None:
    """Try the token, and whether it has the scope to write and these; raises `DeliveryFailed` as above."""
    await api.call(TEST_TOKEN, params={})
    missing = [scope for scope in (WRITE, *needed) if api.scopes is not None and scope not in api.scopes]
    if missing:
        raise DeliveryFailed(
            f"missing_scope: add {' and '.join(missing)} to the app's bot token scopes, and install the app"
            " again",
            Scope.DESTINATION,
        )


async def _find(api: SlackApi, name: str, channel_id: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    """Find a channel; None: it is not there, or among what cannot be seen, which the list names."""
    unseen: list[str] = []
    if channel_id is not None:
        try:
            answer = await api.call(CHANNEL_INFO, params={"channel": channel_id})
        except DeliveryFailed as failed:
            return None, [_unless_a_scope_lacks(failed)]
        return answer.get("channel") or {}, unseen
    for kind in ("public_channel", "private_channel"):  # each wants a scope of its own
        options = {"types": kind, "limit": CHANNELS_PER_PAGE}
        try:
            async for channel in api.items(
                LIST_CHANNELS, key="channels", at_most=MAX_CHANNEL_PAGES, **options
            ):
                if channel.get("name") == name:
                    return channel, unseen
        except DeliveryFailed as failed:
            unseen.append(_unless_a_scope_lacks(failed))
    return None, unseen


def _unless_a_scope_lacks(failed: DeliveryFailed) -> str:
    # Asking wants more than posting does: it may work all the same.
    if not failed.reason.startswith("missing_scope"):
        raise failed
    return failed.reason


def _refused(word: str) -> DeliveryFailed:
    return DeliveryFailed(f"{word}: {API_DESTINATION_ERRORS[word]}", Scope.DESTINATION)
