"""Which of Port's forms an unreadable body may be."""

import pytest

from app.receive.forms import forms_tried


@pytest.mark.parametrize(
    ("body", "last_words"),
    [
        (b"[1]", []),
        (b"no", []),
        (b"{}", ["no object `event`", "no text `action`", "no object `context`"]),
        (
            b'{"event":{"action":"UPDATE","diff":{"before":{"identifier":"a"},"after":{}}}}',
            ["`event.diff.after` has no `identifier`", "no text `action`", "no object `context`"],
        ),
        (
            b'{"action":"UPDATE","diff":{"before":null},"context":{"nodeConfig":{"body":{"event":{"action":1}}}}}',
            [
                "no object `event`",
                "`diff` has neither `before` nor `after`",
                "no text `context.nodeConfig.body.event.action`",
            ],
        ),
        (
            b'{"event":{"action":"UPDATE"},"action":"x","diff":{"after":{"identifier":"a"}}}',
            [
                "no object `event.diff`, which an entity's change needs",
                "it has what this form needs; the reason above says what is wrong in it",
                "no object `context`",
            ],
        ),
    ],
)
def test_what_each_form_lacks(body: bytes, last_words: list[str]) -> None:
    """Each form that is tried says the first thing that is missing."""
    assert [form.endswith(words) for form, words in zip(forms_tried(body), last_words, strict=True)] == [
        True
    ] * len(last_words)
