"""Slack, through an incoming webhook.

Rules: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (answers),
https://docs.slack.dev/reference/block-kit/blocks (sizes),
https://docs.slack.dev/messaging/formatting-message-text (escaping)
"""

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate, takewhile
from typing import Any

import aiohttp
from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)
from slack_sdk.webhook import WebhookResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from app.alerts.incident import Step
from app.alerts.notification import Notification, ValueChange, one_line, text_of
from app.errors import DeliveryFailed, Scope
from app.notifier.base import SEND_TIMEOUT, duration, entity_url, mark, timestamp, words

# Slack's own sizes are larger (a section 3,000, a context element 3,000, all blocks together about 11,000
# characters); these are what a person reads at a glance, and their sum stays below 10,000.
MAX_TITLE = 250
MAX_VALUE = 300
MAX_NAME = 80
MAX_MESSAGE = 600
MAX_OTHERS = 8
MAX_BUTTON_TEXT = 75
MAX_TITLE_URL = 1_500
MAX_ALL_URLS = 2_000

KEEPALIVE_SECONDS = 3.0  # a server that closes an idle connection just as we use it would cost the attempt

RESOLVED_MARK = "🟢"
SEVERITY_MARKS = {"critical": "🔴", "warning": "🟠", "info": "⚪"}
SINCE = {Step.RESOLVED: "Resolved after", Step.CHANGED: "Open for", Step.REMINDED: "Still open after"}

OF_THE_MESSAGE = frozenset(
    {"invalid_payload", "no_text", "too_many_attachments", "invalid_blocks", "invalid_attachments"}
    | {"msg_blocks_too_long", "msg_too_long", "user_not_found"}
)
OF_THE_DESTINATION = frozenset(
    {"action_prohibited", "posting_to_general_channel_denied", "channel_not_found", "no_service"}
    | {"no_service_id", "no_active_hooks", "no_team", "channel_is_archived", "invalid_token", "team_disabled"}
)


def escape(text: str, limit: int) -> str:
    """Return catalog text that Slack shows as it is: one line, `limit` characters at most, no markup in it.

    An unescaped ``<!channel>`` in a title would call everybody.
    """
    line = one_line(text[: 8 * limit])
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # JSON doubles quotes and backslashes, and it is the JSON that must not become too long.
    sizes = accumulate(2 if one in '"\\' else 1 for one in escaped)
    fitting = sum(1 for _ in takewhile(lambda size: size <= limit - 1, sizes))
    if len(escaped) <= fitting + 1:
        return escaped
    return re.sub(r"&[a-z]*$", "", escaped[:fitting]) + "…"  # no half of an escape


def payload(notification: Notification, app_url: str) -> dict[str, Any]:
    """Return the message for an alert: ``text`` for notifications and screen readers, ``blocks`` to look at.

    Args:
        notification: What to say.
        app_url: The address of Port's app, for the link to the entity.
    """
    blocks: list[Block] = [SectionBlock(text=_mrkdwn("\n".join(_headline(notification, app_url))))]
    if notification.others:
        blocks.append(SectionBlock(text=_mrkdwn("\n".join(_others(notification)))))
    blocks.append(ContextBlock(elements=[_mrkdwn(_context(notification))]))
    if buttons := _buttons(notification):
        blocks.append(ActionsBlock(elements=buttons))
    return {"text": _text(notification), "blocks": [block.to_dict() for block in blocks]}


def _mrkdwn(text: str) -> MarkdownTextObject:
    # verbatim: Slack must not find links, channels or people in what comes from the catalog.
    return MarkdownTextObject(text=text, verbatim=True)


def _text(notification: Notification) -> str:
    value = notification.change
    lead = f"{_lead(notification)} {_title(notification)}"
    if value is None:
        return f"{lead}: {_happened(notification)}"
    name, before, now = escape(value.name, MAX_NAME), _shown(value.before), _shown(value.after)
    if notification.step is Step.REMINDED:
        return f"{lead}: {name} still {now}"
    return f"{lead}: {name} {before} → {now}"


def _shown(value: Any) -> str:
    return escape(text_of(value), MAX_VALUE)


def _title(notification: Notification) -> str:
    own = "".join(part.text for part in notification.own_title)
    return (
        escape(own or notification.title, MAX_TITLE) or escape(notification.entity, MAX_TITLE) or "(no name)"
    )


def _lead(notification: Notification) -> str:
    """Return the mark that begins the message: that of a status, else that of the severity."""
    value = notification.change
    if value is not None and isinstance(value.after, str):
        return mark(value.after)
    if notification.step is Step.RESOLVED:
        return RESOLVED_MARK
    return SEVERITY_MARKS[notification.severity]


def _happened(notification: Notification) -> str:
    timer = f"the timer of {escape(notification.timer or 'a property', MAX_NAME)} ran out"
    return {"CREATE": "created", "DELETE": "deleted", "TIMER_EXPIRED": timer}.get(
        notification.action, "changed"
    )


def _value_line(notification: Notification) -> str:
    value = notification.change
    if value is None:
        return _happened(notification).capitalize()
    name = escape(value.name, MAX_NAME)
    before, now = (
        f"{mark(one)} {_shown(one)}" if isinstance(one, str) else _shown(one)
        for one in (value.before, value.after)
    )
    bold = f"{mark(value.after)} *{_shown(value.after)}*" if isinstance(value.after, str) else f"*{now}*"
    return f"{name}: {bold}" if notification.step is Step.REMINDED else f"{name}: {before} → {bold}"


def _headline(notification: Notification, app_url: str) -> list[str]:
    title = _title(notification)
    url = entity_url(app_url, notification.blueprint, notification.entity)
    urgent = "🚨 " if notification.severity == "critical" and notification.step is not Step.RESOLVED else ""
    lines = [
        urgent + (f"*<{url}|{title}>*" if len(url) <= MAX_TITLE_URL else f"*{title}*"),
        _value_line(notification),
    ]
    if notification.opened_at and (since := SINCE.get(notification.step)):
        lines.append(f"{since} {duration(notification.at - notification.opened_at)}")
    if notification.late:
        lines.append("Late: a newer change of this entity was seen before this one.")
    if notification.message:
        lines.append(_own_message(notification))
    return lines


def _own_message(notification: Notification) -> str:
    # What the rule's author wrote may hold markup; what was put into it may not.
    room = MAX_MESSAGE
    text = ""
    for part in notification.message:
        piece = part.text[:room] if part.literal else escape(part.text, min(room, MAX_VALUE))
        text += piece
        room -= len(piece)
        if room < 2:
            return text + "…"
    return text


def _others(notification: Notification) -> list[str]:
    lines = ["Changed as well:", *map(_other, notification.others[:MAX_OTHERS])]
    left_out = notification.others_left_out + max(0, len(notification.others) - MAX_OTHERS)
    if left_out:
        lines.append(f"… and {left_out} more")
    return lines


def _other(value: ValueChange) -> str:
    limit = MAX_VALUE // 3
    before, after = escape(text_of(value.before), limit), escape(text_of(value.after), limit)
    return f"• {escape(value.name, MAX_NAME)}: {before} → {after}"


def _context(notification: Notification) -> str:
    by = escape(notification.actor, MAX_VALUE) or "unknown"
    via = f" via {escape(notification.origin, MAX_NAME)}" if notification.origin else ""
    time = timestamp(notification.at)
    parts = [f"By {by}{via}", f"<!date^{int(notification.at.timestamp())}^{{date_num}} {{time_secs}}|{time}>"]
    if notification.teams:
        parts.append(f"Team {escape(', '.join(notification.teams), MAX_VALUE)}")
    parts.append(f"{escape(notification.blueprint, MAX_NAME)} `{escape(notification.entity, MAX_NAME)}`")
    return "  |  ".join(parts)


def _buttons(notification: Notification) -> list[ButtonElement]:
    buttons: list[ButtonElement] = []
    room = MAX_ALL_URLS
    for number, link in enumerate(notification.links):
        if len(link.url) <= room:
            room -= len(link.url)
            label = PlainTextObject(text=escape(words(link.name), MAX_BUTTON_TEXT) or "Link")
            buttons.append(ButtonElement(text=label, url=link.url, action_id=f"link-{number}"))
    return buttons


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

    async def send(self, notification: Notification, *, delivery_id: str, event: Mapping[str, Any]) -> str:
        """See `Notifier.send`. A message that Slack refuses for its form is tried once more as plain text."""
        message = payload(notification, self._app_url)
        try:
            await self._post(message)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE:
                raise
            await self._post({"text": message["text"]})
            return f"ok, as plain text, because Slack answered {refused.reason}"
        return "ok"

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
