"""The buttons below messages: which ones, on which messages, within Slack's limits."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.model.incident import Acknowledgement, Person
from app.model.notification import Link
from app.model.silence import Silence
from app.notifier.base import Item, Story
from app.notifier.slack.buttons import About, runbook_of, silence_form
from app.notifier.slack.compose import compose, forms, recompose, with_block
from tests.notifier.slack.helpers import APP, NOW, notification, parcel, resolved
from tests.notifier.slack.limits import assert_valid, shown

ALL = frozenset[str]()
BY_ADA = Acknowledgement(NOW, Person("Ada", "slack", "U1"))
LONGEST_ID = f"{'ß' * 100}-0123456789abcdef01234567"


def actions(message: Any) -> list[list[str]]:
    """List the elements of each block of buttons, links by their addresses."""
    blocks = [*message.get("blocks", ()), *(b for a in message.get("attachments", ()) for b in a["blocks"])]
    return [
        [element.get("url") or element["action_id"] for element in block["elements"]]
        for block in blocks
        if block["type"] == "actions"
    ]


def item(number: int, **facts: Any) -> Item:
    """Give an alert of an incident."""
    return Item(str(number), notification(f"e{number}", version=3, **facts), None, f"health-{number}")


@pytest.mark.parametrize(
    ("facts", "closable", "expected"),
    [
        ({}, ALL, ["acknowledge", "silence", "more"]),
        ({}, frozenset({"health"}), ["acknowledge", "silence", "resolve", "more"]),
        ({"acknowledged": BY_ADA}, ALL, ["unacknowledge", "silence", "more"]),
        ({}, None, None),
    ],
)
def test_an_incidents_buttons(
    facts: dict[str, Any], closable: frozenset[str] | None, expected: list[str] | None
) -> None:
    """An open incident has them where clicks arrive; posted and updated it has the same."""
    one = item(1, **facts)
    composed = compose(parcel(one), APP, closable=closable)
    posted = with_block(composed.message, composed.buttons)
    story = Story(one.notification, one.notification, one.incident_id)
    updated = recompose([story], APP, closable=closable)
    assert actions(posted) == actions(updated) == ([expected] if expected else [])
    if composed.buttons:
        assert About.parse(composed.buttons["block_id"]) == About("health-1", 3)
    assert_valid(posted)
    assert_valid(updated)


@pytest.mark.parametrize("author", ["ada (Slack U1)", "*ada* <!channel>"])
def test_a_silence_shows_in_the_message(author: str) -> None:
    """Who and until when, for everybody; of several how many; nothing once it is over."""
    silence = Silence("*", "*", "*", "*", NOW, NOW, author, "why")
    one, two = item(1), item(2)
    silenced = Story(one.notification, one.notification, one.incident_id, silence)
    other = Story(two.notification, two.notification, two.incident_id)
    alone, both = recompose([silenced], APP, closable=ALL), recompose([silenced, other], APP, closable=ALL)
    for message, words in ((alone, "🔕 Silenced by"), (both, "🔕 1 of 2 silenced by")):
        assert_valid(message)
        assert words in shown(message)
    assert "ada" in shown(alone)
    until_over = replace(silenced, silence=replace(silence, incident_id="health-1"))
    assert "until it is over, at the latest" in shown(recompose([until_over], APP))
    over = Story(one.notification, resolved("e1"), "health-1", silence)
    assert "ilenced" not in shown(recompose([over], APP))


def test_what_is_no_incident_has_none() -> None:
    """An alert without an incident, and one that is over: there is nothing to acknowledge."""
    assert compose(parcel(Item("1", notification())), APP, closable=ALL).buttons is None
    assert compose(parcel(Item("1", resolved(), None, "health-1")), APP, closable=ALL).buttons is None


def test_a_digest_has_one_button() -> None:
    """A digest that names its incidents; not one that sums up, nor one of which all is over."""
    composed = compose(parcel(item(1), item(2)), APP, closable=ALL)
    assert_valid(with_block(composed.message, composed.buttons))
    assert actions(with_block(composed.message, composed.buttons)) == [["silence"]]
    assert compose(parcel(item(1), item(2), more=1), APP, closable=ALL).buttons is None
    stories = [Story(one.notification, one.notification, one.incident_id) for one in (item(1), item(2))]
    assert actions(recompose(stories, APP, closable=ALL)) == [["silence"]]
    over = [Story(story.first, resolved(story.last.entity), story.incident_id) for story in stories]
    assert actions(recompose(over, APP, closable=ALL)) == []


def test_the_largest_still_fit() -> None:
    """The longest name of a rule, and a digest as large as it gets: within Slack's limits."""
    about = About(LONGEST_ID, 10**17)
    assert len(about.block_id) <= 255
    assert About.parse(about.block_id) == about
    many = [item(number, title="x" * 250, teams=("t" * 100,) * 5) for number in range(200)]
    composed = compose(parcel(*many), APP, closable=ALL, page_url="https://listener.example.com")
    assert_valid(
        with_block(composed.message, composed.buttons),
        links=["https://listener.example.com/", "https://listener.example.com/changes"],
    )
    assert (
        len(json.dumps(silence_form({"block_id": about.block_id, "response_url": "x" * 500}, "4 h"))) < 3_000
    )


def test_details_and_runbook_are_links() -> None:
    """*Details* opens the page, by webhook too; *Runbook* is in the menu if the entity has one."""
    links = (
        Link(name="runbookUrl", url="https://wiki.example/a"),
        Link(name="logs", url="https://logs.example"),
    )
    page = "https://listener.example.com"
    one = item(1, links=links)
    composed = compose(parcel(one), APP, closable=ALL, page_url=page)
    details = f"{page}/entity?blueprint=deploymentConfig&entity=e1"
    opened = ["https://wiki.example/a", "https://logs.example", details]
    assert actions(composed.message) == [opened]
    assert composed.buttons is not None
    options = composed.buttons["elements"][-1]["options"]
    assert [(option["value"], option.get("url")) for option in options] == [
        ("why", None),
        ("runbook", "https://wiki.example/a"),
    ]
    for name, found in (("Run Book", True), ("run_book", True), ("runbook", True), ("bookrunner", False)):
        link = Link(name=name, url="https://wiki.example/a")
        assert (runbook_of(notification(links=(link,))) is not None) is found


def test_links_that_slack_refuses_cost_no_button() -> None:
    """The next form lacks what opens an address, and nothing else."""
    one = item(1, links=(Link(name="runbook", url="https://wiki.example/a"),))
    composed = compose(parcel(one), APP, closable=ALL)
    body = with_block(composed.message, composed.buttons)
    (_, full), (how, fewer), (_, plain) = forms(body, composed.plain)
    assert how == "without its links"
    assert actions(full) == [["https://wiki.example/a"], ["acknowledge", "silence", "more"]]
    assert actions(fewer) == [["acknowledge", "silence", "more"]]
    assert "wiki.example" not in json.dumps(fewer)
    assert "app.port.io" in json.dumps(fewer)
    assert "blocks" not in plain


@pytest.mark.parametrize("text", ["", "incident:", "incident:x:y", "incident:1:", "digest", "incident:-1:a"])
def test_other_blocks_are_nobodys(text: str) -> None:
    """Only the name of a block of ours is read."""
    assert About.parse(text) is None
