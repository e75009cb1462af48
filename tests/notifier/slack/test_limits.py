"""The validator that the tests of messages rely on."""

from typing import Any

import pytest

from tests.notifier.slack.digests import MENTIONS, PAGE
from tests.notifier.slack.limits import assert_valid

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "ok"}}


def with_text(text: str) -> dict[str, Any]:
    """Return a section of a text."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def attached(*blocks: dict[str, Any], colour: str = "#2eb67d") -> dict[str, Any]:
    """Return a message of one attachment."""
    return {"text": "ok", "attachments": [{"color": colour, "fallback": "ok", "blocks": list(blocks)}]}


class TestTheValidator:
    """What these tests rely on."""

    def test_what_is_valid(self) -> None:
        """A message, one with an attachment, and one that calls who may be called."""
        assert_valid({"text": "ok", "blocks": [SECTION] * 50})
        assert_valid(attached(*[SECTION] * 50))
        assert_valid({"text": "<!here> ok", "blocks": [with_text("<!here> <@U1> ok")]}, mentions=MENTIONS)
        assert_valid({"text": "ok", "blocks": [with_text(f"<{PAGE}|more>")]}, links=[PAGE])

    @pytest.mark.parametrize(
        "message",
        [
            {"text": ""},
            {"text": "x" * 40_000},
            {"text": "x" * 4_000, "blocks": [SECTION]},
            {"text": "<!here>"},
            {"text": "ok <!here> at the end"},
            {"text": "a & b"},
            {"text": "ok", "blocks": [SECTION] * 51},
            {"text": "ok", "blocks": [with_text("x" * 3_001)]},
            {"text": "ok", "blocks": [with_text(" ")]},
            {"text": "ok", "blocks": [with_text("x" * 2_500)] * 4},
            {"text": "ok", "blocks": [{"type": "section", "fields": [SECTION["text"]] * 11}]},
            {"text": "ok", "blocks": [{"type": "section", "fields": []}]},
            {"text": "ok", "blocks": [with_text("<https://evil.example|x>")]},
            {"text": "ok", "blocks": [with_text("<@U1>")]},
            attached(with_text("<!channel>")),
            attached(with_text("x" * 3_001)),
            attached(*[with_text("x" * 2_500)] * 4),
            attached(SECTION, colour="green"),
            attached(*[SECTION] * 51),
            attached(*[SECTION] * 30) | {"blocks": [SECTION] * 30},
            attached(*[with_text("x" * 2_500)] * 2) | {"blocks": [with_text("x" * 2_500)] * 2},
        ],
    )
    def test_what_is_not(self, message: dict[str, Any]) -> None:
        """Each mistake is noticed."""
        mentions = ("<!here>",) if message["text"].startswith("ok <!here>") else ()
        with pytest.raises(AssertionError):
            assert_valid(message, mentions=mentions)
