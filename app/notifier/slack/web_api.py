"""A client of Slack's Web API: one call, and what each answer means.

Rules: https://docs.slack.dev/reference/methods/chat.postMessage and its neighbours (errors)
"""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from slack_sdk.errors import SlackApiError
from yarl import URL

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.times import clock_ahead
from app.notifier.failure import MAY_PASS, failure_of_status
from app.notifier.http.answer import ShortAnswer
from app.notifier.slack.session import SlackSession, asking_slack, retry_after

POST_MESSAGE, UPDATE_MESSAGE = "chat.postMessage", "chat.update"
CHANNEL_HISTORY, THREAD_REPLIES = "conversations.history", "conversations.replies"
LIST_CHANNELS, CHANNEL_INFO = "conversations.list", "conversations.info"
GET_PERMALINK = "chat.getPermalink"
TEST_TOKEN = "auth.test"  # noqa: S105 - a method of Slack's
SCOPES_HEADER = "x-oauth-scopes"

API_MESSAGE_ERRORS = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "msg_too_large"}
    | {"no_text", "invalid_attachments", "too_many_attachments", "attachment_payload_limit_exceeded"}
    | {"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large"}
    | {"metadata_must_be_sent_from_app", "invalid_arguments", "invalid_arg_name", "invalid_array_arg"}
    | {"invalid_charset", "invalid_form_data", "invalid_post_type", "missing_post_type", "invalid_json"}
    | {"json_not_object", "too_many_contact_cards", "markdown_text_conflict"}
)
API_UPDATE_ERRORS = frozenset(
    {"cant_update_message", "edit_window_closed", "block_mismatch", "streaming_state_conflict"}
)
"""Of an update they concern that message only: the channel may still take new ones."""
API_GONE_ERRORS = frozenset(
    {"message_not_found", "thread_not_found", "cannot_reply_to_message"}
    | {"restricted_action_thread_locked", "restricted_action_non_threadable_channel"}
)
TOKEN_ADVICE = "set a valid bot token"  # noqa: S105 - advice
API_DESTINATION_ERRORS = {
    "not_in_channel": "invite the app to the channel: /invite and its name",
    "channel_not_found": "there is no such channel, or it is private and the app is to be invited: /invite",
    "is_archived": "unarchive the channel, or name another one",
    "is_inactive": "the channel is frozen, archived or deleted: name another one",
    "channel_is_limited_access": "name another channel",
    "messages_tab_disabled": "name a channel instead of the app itself",
    "message_limit_exceeded": "the workspace has reached the limit of its plan",
    "restricted_action": "a preference of the workspace keeps the app from posting",
    "restricted_action_read_only_channel": "nobody may post to this channel: name another one",
    "restricted_action_thread_only_channel": "only replies are allowed in this channel: name another one",
    "missing_scope": "add what is missing to the app's bot token scopes, and install the app again",
    "no_permission": "the app may not do this: is it in the channel?",
    **dict.fromkeys(("invalid_auth", "not_authed", "account_inactive"), TOKEN_ADVICE),
    **dict.fromkeys(("token_revoked", "token_expired"), TOKEN_ADVICE),
    "not_allowed_token_type": f"{TOKEN_ADVICE}, which begins with xoxb-",
    **dict.fromkeys(("org_login_required", "ekm_access_denied", "team_access_not_granted"), ""),
    **dict.fromkeys(("access_denied", "accesslimited", "app_access_restricted", "team_not_found"), ""),
    **dict.fromkeys(("enterprise_is_restricted", "two_factor_setup_required", "team_disabled"), ""),
    **dict.fromkeys(("method_deprecated", "deprecated_endpoint", "unknown_method"), ""),
    **dict.fromkeys(("method_not_supported_for_channel_type", "invalid_types"), ""),
}
"""Each with advice, in few words; empty: there is none to give."""
API_PASSING_ERRORS = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
    | {"team_added_to_org", "external_channel_migrating", "update_failed"}
)
API_UNSURE_ERRORS = frozenset({"internal_error", "fatal_error"})
"""By Slack's documentation the operation may have succeeded all the same, in part or wholly."""


class ApiAnswer(ShortAnswer):
    """An answer of Slack's Web API: a thousand channels, or two hundred messages."""

    most_bytes = 8 * 1024 * 1024


class SlackApi:
    """Calls Slack's Web API, at an address, with one bot token: a secret.

    Attributes:
        scopes: Those of the token, as the last answer named them; None: it did not.
        ahead: By how much our clock is ahead of Slack's, by the last answer.
        clock: Gives the time, UTC.
    """

    def __init__(self, token: str, url: str, session: SlackSession) -> None:
        self._token, self._url, self._session = token, url, session
        self._host = URL(url).host or ""
        self.scopes: frozenset[str] | None = None
        self.ahead = timedelta(0)
        self.clock = session.clock
        from slack_sdk.web.async_client import AsyncWebClient  # 1 MB, which a webhook does not need

        self._make_client = AsyncWebClient

    async def call(
        self, method: str, *, body: dict[str, Any] | None = None, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Call a method; the result is its answer, whose ``ok`` is true.

        Args:
            method: Its name.
            body: Its arguments as JSON, sent by POST; None: the call is a GET.
            params: Its arguments in the address; those that are None are left out.

        Raises:
            MessageGone: The message to be updated or replied to is not there.
            DeliveryFailed: Slack did not do it; the scope says what that concerns.
        """
        verb = "GET" if body is None else "POST"
        with asking_slack(self._host, sends=method == POST_MESSAGE):
            # retry_handlers=[]: what is to be tried again, and when, is in the store and survives a restart.
            client = self._make_client(
                self._token,
                base_url=self._url,
                session=self._session.open(),
                retry_handlers=[],
                logger=self._session.log,
            )
            try:
                response = await self._session.route(client).api_call(
                    method, http_verb=verb, json=body, params=params
                )
            except SlackApiError as error:
                # Its text holds the answer, and with that the message.
                answer = error.response
                # It is aiohttp's own response where it was no JSON.
                status = answer.status_code if hasattr(answer, "status_code") else answer.status
                wait = retry_after(answer.headers, self.clock())
                raise failure_of(method, status, wait, getattr(answer, "data", None)) from None
            except (AttributeError, TypeError):
                # slack_sdk trips over an answer that is no JSON object.
                raise _strange(method, 200) from None
        self.ahead = clock_ahead(response.headers.get("Date"), self.clock())
        granted = response.headers.get(SCOPES_HEADER)
        self.scopes = None if granted is None else frozenset(re.split(r"[,\s]+", granted))
        if not isinstance(response.data, dict):
            raise _strange(method, response.status_code)
        return response.data

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def items(
        self, method: str, *, key: str, at_most: int, **params: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield item by item what `pages` yields page by page."""
        async for page in self.pages(method, key=key, at_most=at_most, **params):
            for item in page:
                yield item

    async def pages(
        self, method: str, *, key: str, at_most: int, **params: Any
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the objects in the `key` of each answer of a method that gives pages, `at_most` of them.

        Raises:
            DeliveryFailed: As `call` does.
        """
        cursor = None
        for _ in range(at_most):
            page = await self.call(method, params={**params, "cursor": cursor})
            items, rest = page.get(key), page.get("response_metadata")
            if not isinstance(items, list):
                raise _strange(method, 200)
            yield [item for item in items if isinstance(item, dict)]
            cursor = rest.get("next_cursor") if isinstance(rest, dict) else None
            if not cursor:
                return


def failure_of(method: str, status: int, wait: timedelta | None, data: object) -> DeliveryFailed:
    """Turn an answer that is not ``ok`` into a failure with its scope.

    Args:
        method: What was called.
        status: The HTTP status.
        wait: How long Slack asks to wait; None: it does not.
        data: The answer, as far as it could be read.
    """
    answer = data if isinstance(data, dict) else {}
    error = answer.get("error")
    word = error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,60}", error) else ""
    if not word:
        return _strange(method, status, wait)
    unsure = method == POST_MESSAGE and (status >= 500 or word in API_UNSURE_ERRORS)
    if wait is not None or status == 429 or status >= 500 or word in API_PASSING_ERRORS:
        return DeliveryFailed(word, Scope.TRANSIENT, wait, unsure=unsure)
    if word in API_GONE_ERRORS:
        return MessageGone(word)
    if word in API_MESSAGE_ERRORS or (method == UPDATE_MESSAGE and word in API_UPDATE_ERRORS):
        return DeliveryFailed(word, Scope.MESSAGE)
    if word in API_DESTINATION_ERRORS or word.startswith("restricted_action"):
        return DeliveryFailed(_with_advice(word, answer), Scope.DESTINATION)
    # A word that nobody knows: of an update it says nothing about what is posted.
    return DeliveryFailed(word, Scope.MESSAGE if method == UPDATE_MESSAGE else Scope.STRANGE)


def _with_advice(word: str, answer: Mapping[str, Any]) -> str:
    advice = API_DESTINATION_ERRORS.get(word) or ""
    needed = answer.get("needed")
    if word == "missing_scope" and isinstance(needed, str) and re.fullmatch(r"[a-z:._, ]{1,200}", needed):
        advice = f"add {needed} to the app's bot token scopes, and install the app again"
    return f"{word}: {advice}" if advice else word


def _strange(method: str, status: int, wait: timedelta | None = None) -> DeliveryFailed:
    # A proxy's page, a login: nothing says that Slack has it, or that it never will.
    sends, reason = method == POST_MESSAGE, str(status)
    if status < 500 and status not in MAY_PASS:
        reason = f"{status}: not an answer from Slack"
    failed = failure_of_status(status, reason, retry_after=wait, unsure=sends)
    # Slack itself names what is wrong with a message.
    return DeliveryFailed(reason, Scope.STRANGE) if failed.scope is Scope.MESSAGE else failed
