"""Text in Slack's markup, in which nothing from the catalog is markup: pure.

Slack's markup has no escape for its own marks (``*``, ``_``, ``~``, backticks). A zero-width character beside
one does not help: for Slack a word ends there, so the mark counts. `escape` puts a placeholder in the place
of each mark of the catalog's. A text that has one is sent without markup: by `section` as rich text, by
`label` and `message_of` as plain text.

Rules: https://docs.slack.dev/messaging/formatting-message-text (escaping),
https://docs.slack.dev/reference/block-kit/blocks/rich-text-block
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate, groupby, takewhile
from typing import Any

from app.model.digest import is_over
from app.model.notification import Notification, one_line
from app.model.text import boundary
from app.notifier.base import timestamp

URGENT_MARK = "🚨"

Block = dict[str, Any]
"""A block, an element or a text object, as Slack takes it: slack_sdk's classes took half of the time."""

# Slack takes the full-width ones for marks too. `one_line` leaves no control character, so these are free.
_MARKS = "*_~`:>\uff0a\uff3f\uff40\uff1e"
_HIDE = {ord(mark): chr(0x0E + number) for number, mark in enumerate(_MARKS)}
_SHOW = {ord(hidden): "&gt;" if mark == ord(">") else chr(mark) for mark, hidden in _HIDE.items()}
_HIDDEN = re.compile(r"[\x0e-\x17]")
_LIVE = re.compile(
    r"[*~`\uff0a\uff3f\uff40]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # within a word it is none: most identifiers stay as they are
    r"|:(?!\d\d?:)(?=[\w+'-]{1,100}:)"  # an emoji's name; no minutes of a time
    r"|^[>\uff1e]"  # a quotation
)
_PLAIN = re.compile(r"[^&<>*_~`:\"\\\uff0a\uff3f\uff40\uff1e]*")
# In characters of JSON, which doubles quotes and backslashes: it is the JSON that must not become too long.
_SIZES = {"&": 5, "<": 4, ">": 4, '"': 2, "\\": 2}
_STYLES = {"*": "bold", "_": "italic", "~": "strike"}
_TOKEN = re.compile(
    r"<!date\^(?P<seconds>\d+)\^(?P<format>[^|>]*)\|(?P<fallback>[^>]*)>"
    r"|<(?P<kind>[!@#])(?P<name>[^|>]*)(?:\|[^>]*)?>"
    r"|<(?P<url>[^|>]+)(?:\|(?P<label>[^>]*))?>"
    r"|:(?P<emoji>(?=\d*[a-z_+'-])[a-z0-9_+'-]+):"
    r"|```(?P<block>[^`]+)```"
    r"|`(?P<code>[^`\n]+)`"
    r"|(?<!\w)(?P<mark>[*_~])(?=\S)(?P<inner>(?:(?!(?P=mark))[^\n])+)(?P=mark)(?!\w)"
)


def escape(text: str, limit: int) -> str:
    """Escape catalog text so that Slack shows it as it is: one line, `limit` characters at most, no markup.

    An unescaped ``<!channel>`` in a title would call everybody. The result is for `section`, `label` and
    `message_of` only, which know the placeholders of marks.
    """
    line = one_line(text[: 8 * limit])
    if len(line) > limit or not _PLAIN.fullmatch(line):
        sizes = list(accumulate(_SIZES.get(char, 1) for char in line))
        if sizes and sizes[-1] > limit:
            fitting = sum(1 for _ in takewhile(lambda size: size <= limit - 1, sizes))
            line = one_line(line[: boundary(line, fitting)]) + "…"
        line = _LIVE.sub(lambda live: live[0].translate(_HIDE), line)
        line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line


def has_marks(text: str) -> bool:
    """Tell whether text of `escape` is in a text whose marks are not to be markup."""
    return _HIDDEN.search(text) is not None


def section(text: str) -> Block:
    """Make a block of a text with our markup, as rich text where the catalog has marks in it."""
    return rich(text) if has_marks(text) else {"type": "section", "text": mrkdwn(text)}


def rich(text: str) -> Block:
    """Make a block of rich text, in which only what the markup of `text` says has a style."""
    elements: list[Block] = []
    for quoted, lines in groupby(text.split("\n"), lambda line: line.startswith((">", "&gt;"))):
        if quoted:
            within = "\n".join(line.removeprefix("&gt;").removeprefix(">").lstrip() for line in lines)
            elements.append({"type": "rich_text_quote", "elements": list(_rich(within, {}))})
        else:
            elements.append({"type": "rich_text_section", "elements": list(_rich("\n".join(lines), {}))})
    return {"type": "rich_text", "elements": elements}


def small_print(*elements: Block) -> Block:
    """Make a block of small print."""
    return {"type": "context", "elements": list(elements)}


def label(text: str) -> Block:
    """Make a text object without any markup."""
    made = {"type": "plain_text", "text": text.translate(_SHOW)}
    return made | {"emoji": False} if has_marks(text) else made


def message_of(text: str, blocks: Iterable[Block]) -> dict[str, Any]:
    """Make a message: ``text`` for notifications and screen readers, and ``blocks`` to look at.

    The text has no markup but mentions, links and dates, where the catalog has marks in it.
    """
    made = {"text": text.translate(_SHOW), "blocks": list(blocks)}
    return made | {"mrkdwn": False} if has_marks(text) else made


def unescaped(text: str) -> str:
    """Undo the escapes of `escape`."""
    # The ampersand last: else "&amp;lt;" would become "<".
    return text.translate(_SHOW).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def plain_of(block: Mapping[str, Any]) -> str:
    """Write a section, or the rich text that stands for one, as text for a message without blocks."""
    if block["type"] == "section":
        return str(block["text"]["text"])
    text = "\n".join("".join(map(rich_part, element["elements"])) for element in block["elements"])
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def rich_part(part: Mapping[str, Any]) -> str:
    """Write a piece of rich text as it reads where it has no style."""
    match part["type"]:
        case "text":
            return str(part["text"])
        case "link":
            return str(part.get("text", part["url"]))
        case "date":
            return str(part["fallback"])
        case "emoji":
            return f":{part['name']}:"
    return "@" + str(next(value for key, value in part.items() if key not in {"type", "style"}))


def _rich(text: str, style: Mapping[str, bool]) -> Iterator[Block]:
    options: dict[str, Any] = {"style": dict(style)} if style else {}
    at = 0
    for token in _TOKEN.finditer(text):
        if token.start() > at:
            yield {"type": "text", "text": unescaped(text[at : token.start()]), **options}
        at = token.end()
        if token["seconds"]:
            date = {"timestamp": int(token["seconds"]), "format": token["format"]}
            yield {"type": "date", **date, "fallback": token["fallback"], **options}
        elif token["kind"]:
            yield _mention(token["kind"], token["name"]) | options
        elif token["url"]:
            name = {"text": unescaped(token["label"])} if token["label"] else {}
            yield {"type": "link", "url": unescaped(token["url"]), **name, **options}
        elif token["emoji"]:
            yield {"type": "emoji", "name": token["emoji"], **options}
        elif code := token["block"] or token["code"]:
            yield {"type": "text", "text": unescaped(code.strip("\n")), "style": {**style, "code": True}}
        else:
            yield from _rich(token["inner"], {**style, _STYLES[token["mark"]]: True})
    if at < len(text):
        yield {"type": "text", "text": unescaped(text[at:]), **options}


def _mention(kind: str, name: str) -> Block:
    if kind == "@":
        return {"type": "user", "user_id": name}
    if kind == "#":
        return {"type": "channel", "channel_id": name}
    if name.startswith("subteam^"):
        return {"type": "usergroup", "usergroup_id": name.removeprefix("subteam^")}
    return {"type": "broadcast", "range": name}


def called(mention: str, text: str) -> str:
    """Put a mention, by the rule's author, never from the catalog, in front of a text; it may be empty."""
    return f"{mention} {text}" if mention else text


def link_to(url: str, text: str) -> str:
    """Write a link; empty if there is no address."""
    return f"<{url}|{text}>" if url else ""


def mrkdwn(text: str) -> Block:
    """Make a text object of text with markup, to which Slack adds none by itself."""
    # verbatim: Slack must not find links, channels or people in text of the catalog.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def when(time: datetime) -> str:
    """Write a time so that Slack shows it in the reader's own time zone."""
    return f"<!date^{int(time.timestamp())}^{{date_num}} {{time_secs}}|{timestamp(time)}>"


def urgent(notification: Notification) -> str:
    """Return the mark of a critical alert that is not over, with a space; of another one an empty text."""
    return f"{URGENT_MARK} " if notification.severity == "critical" and not is_over(notification) else ""
