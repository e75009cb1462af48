"""What an alert is told about itself: its page, what to do, words for any kind."""

import pytest

from app.model.change import DELETE
from app.model.incident import Step
from app.notifier.base import page_of
from app.notifier.failure import remedy
from app.notifier.words import words_of
from tests.notifier.helpers import notification


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("410 channel_is_archived", "unarchive the channel, or give the destination another one"),
        ("for payments, which is on hold: 410 channel_is_archived", "unarchive the channel"),
        ("token_revoked", "install the app again, and set its token"),
        ("404", "check its address"),
        ("502", ""),
        ("4041", ""),
    ],
)
def test_what_to_do_about_it(reason: str, advice: str) -> None:
    """What is known of Slack's words and of statuses; nothing of others."""
    assert remedy(reason).startswith(advice)
    assert bool(remedy(reason)) == bool(advice)


def test_the_page_of_an_entity() -> None:
    """Identifiers cannot end the address."""
    assert page_of("https://x.example/p/", "a&b", "c d|e") == (
        "https://x.example/p/entity?blueprint=a%26b&entity=c%20d%7Ce"
    )


def test_another_kind_has_the_same_words() -> None:
    """Without Slack's escapes: a kind gives the way in which text is made fit for it."""
    alert = notification(title="<b> & *c*", severity="critical", teams=())
    assert words_of(alert).sentence() == "<b> & *c*: healthStatus Healthy → Degraded (critical, rule health)"
    assert words_of(alert, lambda text, _: text.upper()).title() == "<B> & *C*"
    assert (words_of(alert).mark, words_of(alert).state) == ("🟠", "critical")


def test_a_late_end_and_a_deletion_while_it_flapped() -> None:
    """Neither says more than is known: how it is now, or that somebody resolved it."""
    late = notification(step=Step.NOTICED, late=True, ended=True)
    assert words_of(late).state == "late"
    deleted = notification(action=DELETE, step=Step.SETTLED, ended=True, opened_at=late.at)
    assert not any("stable" in words for words in words_of(deleted).course())


@pytest.mark.parametrize(
    ("open_", "others"), [("1 open", "1 degraded"), ("3 or more open", "1 open now: 1 degraded")]
)
def test_a_group_counts_once(open_: str, others: str) -> None:
    """Its state and its lines may say the same number."""
    group = notification(change=None, state=open_, below="1 open now: 1 degraded", members=(), ended=True)
    words = words_of(group)
    assert words.phrase() == f": {open_}"
    assert words.course()[-1] == others
