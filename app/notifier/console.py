"""The terminal: alerts as a person would see them in Slack."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from app.notifier.base import Parcel, Sent
from app.notifier.slack.message import payload

MENTION = re.compile(r"<[!@#](?:subteam\^)?(\w+)>")
LINK = re.compile(r"<[^|>]+\|([^>]*)>")
MARKUP = re.compile(r"\*(?P<bold>[^*\n]+)\*|`(?P<code>[^`\n]+)`")


def draw(message: Mapping[str, Any]) -> RenderableType:
    """Return a Slack message (``text``, ``blocks``, ``attachments``) as a panel for the terminal."""
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
            parts.extend(_mrkdwn(element["text"], "dim") for element in block["elements"])
        elif block["type"] == "actions":
            labels = [_plain(element["text"]["text"]) for element in block["elements"]]
            parts.append(Text("  ".join(f"[ {label} ]" for label in labels), "cyan"))
    return parts


def _mrkdwn(text: str, style: str = "") -> Text:
    drawn = Text(style=style)
    text = LINK.sub(r"\1", MENTION.sub(r"@\1", text))
    at = 0
    for found in MARKUP.finditer(text):
        drawn.append(_plain(text[at : found.start()]))
        drawn.append(_plain(found["bold"] or found["code"]), "bold" if found["bold"] else "cyan")
        at = found.end()
    return drawn.append(_plain(text[at:]))


def _plain(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class ConsoleNotifier:
    """Prints alerts.

    Args:
        app_url: The address of Port's app.
        console: Where to print; standard output unless given.
    """

    pause = timedelta(0)
    at_once = 1

    def __init__(self, app_url: str, console: Console | None = None) -> None:
        self._app_url = app_url
        self._console = console or Console()

    async def send(self, parcel: Parcel) -> Sent:
        """See `Notifier.send`."""
        for item in parcel.items:
            self._console.print(draw(payload(item.notification, self._app_url)))
        return Sent("printed")

    async def close(self) -> None:
        """See `Notifier.close`."""
