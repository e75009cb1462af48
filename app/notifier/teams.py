"""The kind "teams": a channel or chat of Microsoft Teams, by a flow of Power Automate that posts cards.

A card says what Slack would show, taken over from that message piece by piece. All text stands in
RichTextBlocks, which know no Markdown, so that no text of the catalog is markup.

Rules: https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
(28 kB), https://adaptivecards.io/explorer/RichTextBlock.html (version 1.2),
https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features (dates, no Markdown in a TextRun)
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from app.errors import DeliveryFailed, Scope, SettingsError
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.model.text import cut
from app.notifier.base import Item, Parcel, Sent, Tried
from app.notifier.http.destination import HttpDestination
from app.notifier.http.notifier import HttpNotifier
from app.notifier.kind import Kind, NotifierContext
from app.notifier.slack.compose import COLORS, GONE_COLOR, RESOLVED_COLOR, Composed, compose
from app.notifier.slack.markup import plain_of, rich, rich_part, unescaped
from app.notifier.slack.session import MANY_ALERTS
from app.rules.destination import Address, DestinationSettings, Fallback, Routing
from app.rules.values import Whole

Json = dict[str, Any]

CARD_VERSION = "1.4"
CARD_TYPE = "application/vnd.microsoft.card.adaptive"
MAX_MESSAGE_BYTES = 27_000  # Teams' limit is 28 kB, and what else counts is not said
ROOMS = (9_500, 6_500, 4_500, 3_000)
"""The characters that a digest may have: what they cost in a card depends on the script and the links."""
STYLES = {
    COLORS["critical"]: "attention",
    COLORS["warning"]: "warning",
    COLORS["info"]: "accent",
    RESOLVED_COLOR: "good",
    GONE_COLOR: "emphasis",
}
RUN_STYLES: dict[str, Json] = {
    "bold": {"weight": "Bolder"},
    "italic": {"italic": True},
    "strike": {"strikethrough": True},
    "code": {"fontType": "Monospace"},
}
SMALL: Json = {"size": "Small", "isSubtle": True}
MAX_SPOKEN_CHARS = 500
OUTSIDE_OF_TEAMS = frozenset({"broadcast", "user", "usergroup", "channel"})
"""Whom Slack calls, Teams does not know."""
FLOW_IS_OFF = re.compile(r"Workflow(?:TriggerIsNotEnabled|NotFound|Disabled)")
"""What Power Automate answers, with 400, where a flow was turned off or deleted."""
FUNCTION = re.compile(r"\{(?=\{(?:DATE|TIME)\()")
"""What a card would take for a date to write in the reader's own way."""


class TeamsDestination(DestinationSettings):
    """A channel or a chat of Microsoft Teams, through the webhook of a flow."""

    type: Literal["teams"]
    """The kind of destination."""
    webhook_url: Address
    """The address of the flow's trigger "When a Teams webhook request is received"."""
    group_by: Annotated[tuple[GroupBy, ...], Field(min_length=1)] = BY_RULE_AND_TRANSITION
    """What alerts that go out as one card are grouped by there."""
    digest_after: Annotated[Whole, Field(ge=1)] = 1
    """How many alerts may wait before they go out as one card."""
    acknowledged: bool = False
    """Whether it gets a card when somebody acknowledges an incident."""
    fallback: Fallback | None = None

    def routing(self) -> Routing:
        """Share a queue with every destination that is this flow."""
        flow = self.webhook_url.get_secret_value()
        return Routing(channel=flow, fallback=self.fallback, acknowledged=self.acknowledged)


class TeamsNotifier(HttpNotifier):
    """Posts cards to one flow, whose address is a secret.

    Raises:
        SettingsError: The address has a template, or `HttpNotifier` cannot be made.
    """

    batch_limit = 1000
    pause = timedelta(seconds=1)

    def __init__(self, name: str, settings: TeamsDestination, context: NotifierContext) -> None:
        if "{{" in settings.webhook_url.get_secret_value():
            raise SettingsError("webhook_url: must be one address, without a template")
        job = HttpDestination(
            type="http", url=settings.webhook_url, allow_private=True, proxy="environment", headers={}
        )
        super().__init__(name, job, context)
        self.address = json.dumps({"type": "teams", "webhook_url": settings.webhook_url.get_secret_value()})
        self._card = partial(composed_card, settings=settings, context=context)

    @override
    async def prepare(self, parcel: Parcel) -> Parcel:
        return parcel

    @override
    async def send(self, parcel: Parcel) -> Sent:
        """Post a card; one that is refused is tried as plain text. The flow took it: no more is known.

        Raises:
            DeliveryFailed: As an HTTP job's.
        """
        many = len(parcel.items) > MANY_ALERTS  # meanwhile the event loop has to answer Port
        composed, card = await asyncio.to_thread(self._card, parcel) if many else self._card(parcel)
        key = parcel.items[0].delivery_id
        try:
            detail = await self._post(card, key)
        except DeliveryFailed as failed:
            if failed.scope is not Scope.MESSAGE:
                raise
            if FLOW_IS_OFF.search(failed.reason):  # it says 400, but of every card
                raise DeliveryFailed(failed.reason, Scope.DESTINATION) from None
            await self._post(plain_card(composed), key)
            detail = f"taken as plain text, because the answer was {failed.reason}"
        return Sent(f"the flow took it ({detail})", delivered=composed.delivered)

    @override
    async def probe(self, message: str = "") -> Tried:
        """Post a text; without one only find out whether the host answers."""
        if not message:
            tried = await super().probe()
            host = tried.note.partition(";")[0]
            return Tried(note=f"{host}; only a test message shows whether the flow posts")
        await self._post(text_card(message), "test")
        return Tried("the flow took the test message; whether it posted it, its run history shows")

    @override
    def takes(self, status: int, start: str) -> bool:
        # 202 is the trigger's own; a flow with a response of its own may answer an empty one.
        return status == 202 or (200 <= status < 300 and start.strip() in {"", "1"})

    async def _post(self, card: Json, key: str) -> str:
        return await self.request({"url": (), "headers": {}, "body": message_of_card(card)}, key)


def composed_card(
    parcel: Parcel, *, settings: TeamsDestination, context: NotifierContext
) -> tuple[Composed, Json]:
    """Compose the next card of a parcel, of as many alerts as it can hold."""
    for room in ROOMS:
        composed = compose(
            parcel,
            context.app_url,
            group_by=settings.group_by,
            digest_after=settings.digest_after,
            page_url=context.page_url,
            room=room,
        )
        card = card_of(composed)
        if not composed.lists or fits(card):
            break
    return composed, _cut_to_fit(card)


def fits(card: Json) -> bool:
    """Tell whether Teams takes a card of this size."""
    return (
        len(json.dumps(message_of_card(card), ensure_ascii=False).encode(errors="replace"))
        <= MAX_MESSAGE_BYTES
    )


def _cut_to_fit(card: Json) -> Json:
    """Take the buttons out of a card that is too large, and lines at its end."""
    if not fits(card):
        card.pop("actions", None)
    while not fits(card) and len(card["body"]) > 1:
        card["body"].pop()
    return card


def message_of_card(card: Json) -> Json:
    """Make the body that a flow's webhook takes; a phone shows its summary, or what the card speaks."""
    return {
        "type": "message",
        "summary": card["speak"],
        "attachments": [{"contentType": CARD_TYPE, "contentUrl": None, "content": card}],
    }


def card_of(composed: Composed) -> Json:
    """Make the card of a message."""
    first, *others = composed.message["blocks"]
    head = {"type": "Container", "style": STYLES[composed.color], "bleed": True, "items": [*_elements(first)]}
    body = [head, *(element for block in others for element in _elements(block))]
    buttons = [button for block in others if block["type"] == "actions" for button in block["elements"]]
    actions = [
        {"type": "Action.OpenUrl", "title": unescaped(button["text"]["text"]), "url": button["url"]}
        for button in buttons
    ]
    return _card(body, _aloud(composed.message["text"])) | ({"actions": actions} if actions else {})


def plain_card(composed: Composed) -> Json:
    """Make a card of a message that has nothing but text."""
    text = unescaped(plain_of(rich(composed.plain["text"])))
    return _cut_to_fit(text_card(text, _aloud(composed.message["text"])))


def text_card(text: str, aloud: str = "") -> Json:
    """Make a card of a text, which is no markup; what it speaks may be another text."""
    return _card([_block([_run(line)]) for line in text.split("\n") if line.strip()], aloud or text)


def _aloud(text: str) -> str:
    """Write a text in Slack's form for a screen reader, and for where no card is shown: without its links."""
    runs = (run for line in _lines(rich(text)) for run in (*line, _run(" ")) if "selectAction" not in run)
    return cut(" ".join("".join(run["text"] for run in runs).split()), MAX_SPOKEN_CHARS)


def _card(body: list[Json], spoken: str) -> Json:
    return {
        "speak": spoken,
        "fallbackText": spoken,
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": CARD_VERSION,
        "msteams": {"width": "Full"},
        "body": body,
    }


def _elements(block: Mapping[str, Any]) -> Iterator[Json]:
    """Yield a line of a card for each line of a block in Slack's form."""
    if block["type"] == "context":
        texts = [
            _lines(rich(element["text"]))
            if element["type"] == "mrkdwn"
            else [[_run(unescaped(element["text"]))]]
            for element in block["elements"]
        ]
        runs = [run for lines in texts for line in lines for run in (*line, _run("  |  "))][:-1]
        yield _block([run | SMALL for run in runs], "Medium")
    elif block["type"] in {"section", "rich_text"}:
        whole = rich(block["text"]["text"]) if block["type"] == "section" else block
        for number, line in enumerate(_lines(whole)):
            yield _block(line, "None" if number else "Small")


def _lines(block: Mapping[str, Any]) -> list[list[Json]]:
    """Write rich text in Slack's form as lines of runs; an empty line is left out."""
    lines: list[list[Json]] = []
    for element in block["elements"]:
        lines.append([])
        for part in element["elements"]:
            if part["type"] in OUTSIDE_OF_TEAMS:
                continue
            style = {key: value for name in part.get("style", {}) for key, value in RUN_STYLES[name].items()}
            for number, text in enumerate(_text_of(part).split("\n")):
                if number:
                    lines.append([])
                if text.strip() or (text and lines[-1]):
                    url = part.get("url")
                    select = {"selectAction": {"type": "Action.OpenUrl", "url": url}} if url else {}
                    lines[-1].append(
                        _run(text if lines[-1] else text.lstrip(), literal=part["type"] != "date")
                        | style
                        | select
                    )
    return [line for line in lines if line]


def _text_of(part: Mapping[str, Any]) -> str:
    if part["type"] != "date":
        return rich_part(part)
    at = datetime.fromtimestamp(part["timestamp"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{{{{DATE({at}, SHORT)}}}} {{{{TIME({at})}}}}"


def _run(text: str, *, literal: bool = True) -> Json:
    return {"type": "TextRun", "text": FUNCTION.sub("{\u2060", text) if literal else text}


def _block(runs: list[Json], spacing: str = "Small") -> Json:
    return {"type": "RichTextBlock", "spacing": spacing, "inlines": runs}


async def _dry_run(
    settings: TeamsDestination, item: Item, _: Mapping[str, Any], context: NotifierContext
) -> str:
    card = composed_card(Parcel((item,)), settings=settings, context=context)[1]
    return f"card {json.dumps(card, ensure_ascii=False)}"


TEAMS_KIND = Kind(TeamsDestination, TeamsNotifier, _dry_run)
