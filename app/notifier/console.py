"""The kind "console": alerts in the terminal, as they would look in Slack."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from app.errors import DeliveryFailed, Scope
from app.notifier.base import Notifier, Parcel, Sent, Tried
from app.notifier.kind import Kind
from app.notifier.slack.alert import alert_message, by_name, dry_run
from app.notifier.slack.markup import rich_part, unescaped
from app.rules.destination import DestinationSettings

SLACK_MENTION = re.compile(r"<[!@#](?:subteam\^)?(\w+)>")
LINK = re.compile(r"<[^|>]+\|([^>]*)>")
MARKUP = re.compile(r"\*(?P<bold>[^*\n]+)\*|`(?P<code>[^`\n]+)`")


class ConsoleDestination(DestinationSettings):
    """The terminal in which the listener runs."""

    type: Literal["console"]
    """The kind of destination."""


def draw(message: Mapping[str, Any]) -> RenderableType:
    """Draw a Slack message (``text``, ``blocks``, ``attachments``) as a panel for the terminal."""
    parts = _blocks(message.get("blocks", ()))
    for attachment in message.get("attachments", ()):
        parts += _blocks(attachment.get("blocks", ())) or [_mrkdwn(attachment["fallback"])]
    return Panel(Group(*parts or [_mrkdwn(message["text"])]), title="Slack", title_align="left", width=100)


def _blocks(blocks: Iterable[Mapping[str, Any]]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for block in blocks:
        if block["type"] == "section":
            parts.append(_mrkdwn(block["text"]["text"]))
        elif block["type"] == "context":
            pieces = (
                _mrkdwn(element["text"], "dim")
                if element["type"] == "mrkdwn"
                else Text(unescaped(element["text"]), "dim")
                for element in block["elements"]
            )
            parts.append(Text("  |  ", "dim").join(pieces))
        elif block["type"] == "rich_text":
            parts.extend(_rich(element["elements"]) for element in block["elements"])
        elif block["type"] == "actions":
            texts = (element.get("text") or element.get("placeholder") for element in block["elements"])
            labels = [unescaped(text["text"]) if text else "…" for text in texts]
            parts.append(Text("  ".join(f"[ {label} ]" for label in labels), "cyan"))
    return parts


def _mrkdwn(text: str, style: str = "") -> Text:
    drawn = Text(style=style)
    text = LINK.sub(r"\1", SLACK_MENTION.sub(r"@\1", text))
    at = 0
    for span in MARKUP.finditer(text):
        drawn.append(unescaped(text[at : span.start()]))
        drawn.append(unescaped(span["bold"] or span["code"]), "bold" if span["bold"] else "cyan")
        at = span.end()
    return drawn.append(unescaped(text[at:]))


def _rich(parts: Iterable[Mapping[str, Any]]) -> Text:
    styles = {"bold": "bold", "italic": "italic", "strike": "strike", "code": "cyan"}
    drawn = Text()
    for part in parts:
        drawn.append(rich_part(part), " ".join(styles[name] for name in part.get("style", {})))
    return drawn


class ConsoleNotifier(Notifier):
    """Prints alerts, to standard output unless `console` is given.

    A terminal scrolls: there is no rate to keep, and no need of digests.
    """

    def __init__(self, app_url: str, console: Console | None = None) -> None:
        self._app_url = app_url
        self._console = console or Console()

    async def send(self, parcel: Parcel) -> Sent:
        """Print the alerts, one after the other.

        Raises:
            DeliveryFailed: The output cannot be written to, as a full disk or a closed pipe: on hold.
        """
        try:
            for item in parcel.items:
                self._console.print(draw(alert_message(by_name(item.notification), self._app_url)))
        except OSError as error:
            reason = f"the output cannot be written to ({error.strerror})"
            raise DeliveryFailed(reason, Scope.DESTINATION) from None
        return Sent("printed")

    async def probe(self, _: str = "") -> Tried:
        """Say where its alerts are to be seen."""
        return Tried(note="its alerts are printed where the listener runs, and reach nobody else")


CONSOLE_KIND = Kind(ConsoleDestination, lambda _, __, context: ConsoleNotifier(context.app_url), dry_run)
