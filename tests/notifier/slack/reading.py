"""How a reader sees a message in Slack: a reading of its markup that knows nothing of the code that wrote it.

It takes for markup whatever some client of Slack's may take for it.
Rules: https://docs.slack.dev/messaging/formatting-message-text
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.notifier.slack.limits import all_blocks

Seen = tuple[str, str]
"""A style, such as ``bold``, and the text that has it; without one, the style is empty."""

_ANGLE = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
# A mark counts at the edge of a word, for which a character of no width is taken too.
_PAIRS = {
    "code": re.compile(r"[`\uff40]+([^`\uff40\n]+)[`\uff40]+"),
    "bold": re.compile(r"(?<![A-Za-z0-9])[*\uff0a](?!\s)([^*\uff0a\n]*[^\s*\uff0a])[*\uff0a](?![A-Za-z0-9])"),
    "italic": re.compile(r"(?<![A-Za-z0-9])[_\uff3f](?!\s)([^\n]*?[^\s])[_\uff3f](?![A-Za-z0-9])"),
    "strike": re.compile(r"(?<![A-Za-z0-9])~(?!\s)([^~\n]*[^\s~])~(?![A-Za-z0-9])"),
    "emoji": re.compile(r":(?!\d\d?:)([\w+'-]+):"),
    "quote": re.compile(r"(?m)^(?:&gt;|\uff1e)(.*)$"),
}


def read(message: Mapping[str, Any]) -> list[Seen]:
    """Read a message's blocks: each whole text without its marks, then each style with its text."""
    seen: list[Seen] = []
    for block in all_blocks(message):
        if block["type"] == "rich_text":
            for element in block["elements"]:
                parts = [(_rich(part), part.get("style", {})) for part in element["elements"]]
                seen.append(("", "".join(text for text, _ in parts)))
                seen += [(name, text) for text, style in parts for name, on in style.items() if on]
        for text in _texts(block):
            seen += _plain(text["text"]) if text["type"] == "plain_text" else _marked(text["text"])
    return seen


def read_fallback(message: Mapping[str, Any]) -> list[Seen]:
    """Read a message's own text, which notifications and screen readers have."""
    text = str(message["text"])
    return _plain(text) if message.get("mrkdwn") is False else _marked(text)


def whole(seen: list[Seen]) -> str:
    """Join the texts of a message, without their styles."""
    return "\n".join(text for style, text in seen if not style)


def styled(seen: list[Seen]) -> list[Seen]:
    """List what has a style."""
    return [(style, text) for style, text in seen if style]


def _texts(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if block["type"] == "section":
        yield block["text"]
    elif block["type"] == "context":
        yield from block["elements"]
    elif block["type"] == "actions":
        yield from (button["text"] for button in block["elements"])


def _rich(part: Mapping[str, Any]) -> str:
    return str(part.get("text") or part.get("fallback") or "@")


def _plain(text: str) -> list[Seen]:
    return [("", _spelled(_without_angles(text)))]


def _marked(text: str) -> list[Seen]:
    seen: list[Seen] = []
    rest = _without_angles(text)
    for style, pair in _PAIRS.items():
        seen += [(style, _spelled(match[1])) for match in pair.finditer(rest)]
        rest = pair.sub(lambda match: match[1], rest)
    return [("", _spelled(rest)), *seen]


def _without_angles(text: str) -> str:
    return _ANGLE.sub(lambda match: match[2] or match[1], text)


def _spelled(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
