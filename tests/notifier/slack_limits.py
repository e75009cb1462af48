"""What Slack documents about the sizes of a message, and what must never stand in one."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

OURS = re.compile(r"<https://app\.port\.io/[^|<>\s]*\|[^<>]*>|<!date\^\d+\^[^|<>^]*\|[^|<>]*>")
"""The only markup in angle brackets that we write: the link to an entity's page, and a time."""


def assert_within_slacks_limits(message: Mapping[str, Any]) -> None:
    """Fail if Slack would refuse or cut the message.

    Rules: https://docs.slack.dev/reference/block-kit/blocks; that all blocks together have a limit near
    11,000 characters is not documented.
    """
    assert 0 < len(message["text"]) < 4_000
    blocks = message.get("blocks", [])
    assert len(blocks) <= 50
    assert len(json.dumps(blocks, ensure_ascii=False)) < 10_000
    for block in blocks:
        _BLOCKS[block["type"]](block)
    action_ids = [
        one["action_id"] for block in blocks for one in block.get("elements", ()) if "action_id" in one
    ]
    assert len(set(action_ids)) == len(action_ids)


def assert_no_markup_of_others(message: Mapping[str, Any]) -> None:
    """Fail if text of the catalog could be read as a link, a mention or an escape."""
    for text in (message["text"], *_texts(message.get("blocks", []))):
        rest = OURS.sub("", text)
        assert not re.search(r"[<>]", rest), rest
        assert not re.search(r"&(?!amp;|lt;|gt;)", rest), rest


def shown(message: Mapping[str, Any]) -> str:
    """Return all text in the message's blocks."""
    return "\n".join(_texts(message["blocks"]))


def _texts(node: Any) -> Iterator[str]:
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict) and value.get("type") in {"mrkdwn", "plain_text"}:
            yield value["text"]
        elif isinstance(value, dict | list):
            yield from _texts(value)


def _text(text: Mapping[str, Any], limit: int, kinds: tuple[str, ...] = ("mrkdwn", "plain_text")) -> None:
    assert text["type"] in kinds
    assert text["text"].strip()
    assert len(text["text"]) <= limit


def _section(block: Mapping[str, Any]) -> None:
    assert "text" in block or "fields" in block
    if "text" in block:
        _text(block["text"], 3_000)
    fields = block.get("fields", ())
    assert len(fields) <= 10
    for field in fields:
        _text(field, 2_000)


def _context(block: Mapping[str, Any]) -> None:
    assert 1 <= len(block["elements"]) <= 10
    for element in block["elements"]:
        _text(element, 3_000)


def _actions(block: Mapping[str, Any]) -> None:
    assert 1 <= len(block["elements"]) <= 25
    for button in block["elements"]:
        assert button["type"] == "button"
        _text(button["text"], 75, ("plain_text",))
        assert 0 < len(button.get("url", "-")) <= 3_000
        assert len(button.get("action_id", "")) <= 255


_BLOCKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "section": _section,
    "context": _context,
    "actions": _actions,
    "header": lambda block: _text(block["text"], 150, ("plain_text",)),
    "divider": lambda _: None,
}
