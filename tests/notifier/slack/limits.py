"""What Slack documents about the sizes of a message, and what must never stand in one."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

OURS = re.compile(r"<https://app\.port\.io/[^|<>\s]*\|[^<>]*>|<!date\^\d+\^[^|<>^]*\|[^|<>]*>")
"""The only markup in angle brackets that we write: the link to an entity's page, and a time."""


def assert_valid(
    message: Mapping[str, Any], *, mentions: Collection[str] = (), links: Collection[str] = ()
) -> None:
    """Fail if Slack would refuse or cut the message, or if it holds markup that is not ours.

    Args:
        message: What would be sent: ``text``, ``blocks``, ``attachments`` of a colour and blocks.
        mentions: Whom it may call, in Slack's notation.
        links: Addresses that it may link to, beside those of Port's app.
    """
    assert_within_slacks_limits(message)
    assert_no_markup_of_others(message, mentions=mentions, links=links)


def assert_within_slacks_limits(message: Mapping[str, Any]) -> None:
    """Fail if Slack would refuse or cut the message.

    Rules: https://docs.slack.dev/reference/block-kit/blocks; that all blocks together have a limit near
    11,000 characters is not documented.
    """
    # Longer text is cut where nothing but text is shown; beside blocks it is for notifications.
    assert 0 < len(message["text"]) < (4_000 if "blocks" in message else 40_000)
    assert message["text"].strip()
    attachments = message.get("attachments", [])
    for attachment in attachments:
        assert set(attachment) == {"color", "fallback", "blocks"}
        assert re.fullmatch(r"#[0-9a-f]{6}|good|warning|danger", attachment["color"])
        assert 0 < len(attachment["fallback"]) < 4_000
    blocks = all_blocks(message)
    assert len(blocks) <= 50
    told = [message.get("blocks", []), attachments] if attachments else message.get("blocks", [])
    assert len(json.dumps(told, ensure_ascii=False)) < 10_000
    for block in blocks:
        _BLOCKS[block["type"]](block)
    for identifier in ("action_id", "block_id"):
        elements = [*blocks, *(one for block in blocks for one in block.get("elements", ()))]
        identifiers = [one[identifier] for one in elements if identifier in one]
        assert len(set(identifiers)) == len(identifiers)


def assert_no_markup_of_others(
    message: Mapping[str, Any], *, mentions: Collection[str] = (), links: Collection[str] = ()
) -> None:
    """Fail if text of the catalog could be read as a link, a mention or an escape.

    Args:
        message: The message.
        mentions: Whom it may call; a mention stands in front of everything else.
        links: Addresses that it may link to, beside those of Port's app.
    """
    fallbacks = [attachment["fallback"] for attachment in message.get("attachments", [])]
    for text in (message["text"], *fallbacks, *_texts(all_blocks(message))):
        rest = text
        while called := next((one for one in mentions if rest.startswith(one)), ""):
            rest = rest.removeprefix(called).lstrip()
        for link in links:
            rest = re.sub(rf"<{re.escape(link)}\|[^<>]*>", "", rest)
        rest = OURS.sub("", rest)
        assert not re.search(r"[<>]", rest), rest
        assert not re.search(r"&(?!amp;|lt;|gt;)", rest), rest


def all_blocks(message: Mapping[str, Any]) -> list[Any]:
    """Return the message's blocks, and those of its attachments."""
    attached = [block for attachment in message.get("attachments", []) for block in attachment["blocks"]]
    return [*message.get("blocks", []), *attached]


def shown(message: Mapping[str, Any]) -> str:
    """Return all text in the message's blocks."""
    return "\n".join(_texts(all_blocks(message)))


def _texts(node: Any) -> Iterator[str]:
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and value.get("type") in {"rich_text_section", "rich_text_quote"}:
            yield "".join(map(_as_markup, value["elements"]))
        elif isinstance(value, dict) and value.get("type") in {"mrkdwn", "plain_text"}:
            yield value["text"]
        elif isinstance(value, dict | list):
            yield from _texts(value)


def _as_markup(part: Mapping[str, Any]) -> str:
    """Return what a part of rich text would be in a text with markup, as far as it is in angle brackets."""
    text = str(part.get("text", "")).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    match part["type"]:
        case "text":
            return text
        case "link":
            return f"<{part['url']}|{text}>"
        case "date":
            return f"<!date^{part['timestamp']}^{part['format']}|{part['fallback']}>"
        case "emoji":
            return f":{part['name']}:"
        case "broadcast":
            return f"<!{part['range']}>"
        case "user":
            return f"<@{part['user_id']}>"
    return f"<!subteam^{part['usergroup_id']}>"


def _text(text: Mapping[str, Any], limit: int, kinds: tuple[str, ...] = ("mrkdwn", "plain_text")) -> None:
    assert text["type"] in kinds
    assert text["text"].strip()
    assert len(text["text"]) <= limit


def _section(block: Mapping[str, Any]) -> None:
    if "text" in block:
        _text(block["text"], 3_000)
    fields = block.get("fields", ())
    assert len(fields) <= 10
    assert "text" in block or fields
    for field in fields:
        _text(field, 2_000)


def _context(block: Mapping[str, Any]) -> None:
    assert 1 <= len(block["elements"]) <= 10
    for element in block["elements"]:
        _text(element, 3_000)


def _rich_text(block: Mapping[str, Any]) -> None:
    for section in block["elements"]:
        assert section["type"] in {"rich_text_section", "rich_text_quote"}
        assert section["elements"]
        for part in section["elements"]:
            assert part.get("text", "-")
            assert set(part.get("style", {})) <= {"bold", "italic", "strike", "code"}


def _actions(block: Mapping[str, Any]) -> None:
    assert 1 <= len(block["elements"]) <= 25
    assert len(block.get("block_id", "")) <= 255
    for element in block["elements"]:
        assert element["type"] in {"button", "static_select", "overflow"}
        assert 0 < len(element.get("url", "-")) <= 3_000
        assert len(element.get("action_id", "")) <= 255
        if element["type"] == "button":
            _text(element["text"], 75, ("plain_text",))
            continue
        if element["type"] == "static_select":
            _text(element["placeholder"], 150, ("plain_text",))
        assert 1 <= len(element["options"]) <= (5 if element["type"] == "overflow" else 100)
        for option in element["options"]:
            _text(option["text"], 75, ("plain_text",))
            assert 1 <= len(option["value"]) <= 150
            assert 0 < len(option.get("url", "-")) <= 3_000


_BLOCKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "section": _section,
    "context": _context,
    "actions": _actions,
    "rich_text": _rich_text,
    "header": lambda block: _text(block["text"], 150, ("plain_text",)),
    "divider": lambda _: None,
}
