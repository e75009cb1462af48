"""Every kind of message: what its text says on a phone, and its form by a validator not written here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from slackblocks import ActionsBlock, Block, Button, WebhookMessage

from tests.notifier.slack.kinds import PAGE, messages
from tests.notifier.slack.limits import all_blocks, assert_valid

KINDS = dict(messages())
SPOKEN = Path(__file__).with_name("spoken.txt")
MENTIONS = ("<!here>",)
LINKS = (f"{PAGE}/", f"{PAGE}/changes")
LINK = re.compile(r"<[^|<>]*\|([^<>]*)>")
"""A link as it is read aloud: its label alone."""


def spoken() -> str:
    """Write each kind's text as a phone shows it, one a line."""
    texts = (LINK.sub(r"[\1]", message["text"]) for message in KINDS.values())
    return "".join(f"{kind}:\n    {text}\n" for kind, text in zip(KINDS, texts, strict=True))


def test_what_each_says() -> None:
    """From the text alone it is clear what it is about, how bad it is, and whether it is over.

    Judge the difference; if it reads well, write `spoken()` into the file.
    """
    assert spoken() == SPOKEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_its_form(kind: str) -> None:
    """Slack takes it, by its documented sizes and by slackblocks, which raises where a block is not one."""
    message = KINDS[kind]
    history = re.findall(rf"<({re.escape(PAGE)}/entity[^|]*)\|", str(message))
    assert_valid(message, mentions=MENTIONS, links=(*LINKS, *history))
    # slackblocks makes rich text, but reads none.
    blocks = [_read(block) for block in all_blocks(message) if block["type"] != "rich_text"]
    made = json.loads(WebhookMessage(text=message["text"], blocks=blocks or None).json())
    assert len(made.get("blocks", ())) == len(blocks)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "test"])
def test_it_is_never_silent_about_how_bad(kind: str) -> None:
    """The severity, or its end, is in words; a critical one that is not over is marked; no dot is white."""
    text = LINK.sub("", KINDS[kind]["text"])
    assert re.search(r"critical|warning|info|resolved|deleted|on hold|rule health\)", text)
    assert "⚪" not in str(KINDS[kind])
    assert ("🚨" in text) == ("critical" in text.replace("was critical", ""))


def _read(block: dict[str, Any]) -> Block:
    if block["type"] != "actions":
        return Block.from_dict(block)
    return ActionsBlock(
        [Button(one["text"]["text"], one["action_id"], one["url"]) for one in block["elements"]]
    )
