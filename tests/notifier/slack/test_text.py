"""Text of the catalog in Slack: as it was written, in every script, and never markup."""

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from io import StringIO
from typing import Any

import emoji
import pytest
from rich.console import Console

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.model.incident import Step
from app.model.notification import Link, Notification, Part, ValueChange, one_line
from app.model.text import cut
from app.notifier.base import Item, Parcel, Story
from app.notifier.console import draw
from app.notifier.slack.alert import alert_message
from app.notifier.slack.compose import Composed, recompose
from app.notifier.slack.digest import digest
from app.notifier.slack.kind import SlackDestination
from app.notifier.slack.markup import escape, message_of, section
from app.notifier.slack.webhook import SlackWebhook
from tests.notifier.helpers import APP, NOW, notification
from tests.notifier.slack.limits import assert_valid
from tests.notifier.slack.reading import read, read_fallback, styled, whole

TAKEN_OUT = {"Cc", "Cs", "Zl", "Zp"}
DIRECTIONS = range(0x202A, 0x202F), range(0x2066, 0x206A)
MARKED = [
    "*/5 * * * *",
    "*bold* and _italic_ and ~gone~",
    "`code",
    "```",
    "_private_",
    "__init__.py",
    "~/.ssh and ~5",
    "a*b*c",
    "> quoted",
    ":fire: at 10:30:15",
    "\uff0awide\uff0a \uff3fwide\uff3f \uff40wide\uff40",
    '*<b>* & `<!channel>` \\ "_"',
    "\u200b*\u200bx\u200b*\u200b",
    "*️⃣ _é_ 👩🏽‍🚀",
]


def titles() -> list[str]:
    """Make 2,000 titles of all that Unicode has: of each script a few, of neighbouring characters."""
    by_script: dict[str, list[str]] = defaultdict(list)
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        out = unicodedata.category(char) in TAKEN_OUT or any(number in some for some in DIRECTIONS)
        if not out and char != " " and (name := unicodedata.name(char, "")):
            by_script[name.partition(" ")[0].partition("-")[0]].append(char)
    whole_scripts = sorted(by_script.values(), key=len, reverse=True)
    most = [chars[start : start + 9] for chars in whole_scripts for start in range(0, len(chars), 9)]
    first = [chars[:9] for chars in whole_scripts[:1_000]]
    every = len(most) // (2_000 - len(first))
    return [f"a{''.join(chars)}z" for chars in [*first, *most[::every]]][:2_000]


def of_all(texts: list[str], **facts: Any) -> Notification:
    """Make an alert with six texts: its title, its values, its team, its actor, and another value."""
    title, before, after, team, actor, other = texts
    usual = {
        "title": title,
        "change": ValueChange(name="state", before=before, after=after),
        "teams": (team,),
        "actor": actor,
        "others": (ValueChange(name="note", before=None, after=other),),
        "links": (),
    }
    return notification(**(usual | facts))


def full_of(text: str, **facts: Any) -> Notification:
    """Make an alert in which the text stands wherever one of the catalog's or a rule's can."""
    names = dict.fromkeys(("rule", "blueprint", "entity", "origin"), text)
    change = {"change": ValueChange(name=text, before=f"{text}1", after=text)}
    message = (Part("Look _here_: ", literal=True), Part(text, literal=False), Part(" :fire:", literal=True))
    links = (Link(name=text, url="https://example.com"),)
    return of_all([text] * 6, message=message, links=links, **(names | change | facts))


EMOJI = sorted(emoji.EMOJI_DATA)


@pytest.mark.parametrize("texts", [titles, lambda: EMOJI], ids=["scripts", "emoji"])
def test_every_script_and_emoji_arrives_as_it_was_written(texts: Callable[[], list[str]]) -> None:
    """In an alert each text is shown to the letter, and nothing in it is markup."""
    written = texts()
    assert len(written) >= 2_000
    for start in range(0, len(written) - 5, 6):
        six = written[start : start + 6]
        message = alert_message(of_all(six), APP)
        seen = read(message)
        assert [one for one in six if one not in whole(seen)] == []
        assert set(styled(seen)) <= {
            ("bold", six[0]),
            ("bold", six[2]),
            ("code", "notification-service-prod"),
        }
        assert six[0] in whole(read_fallback(message))
        assert not styled(read_fallback(message))


async def test_digests_arrive_as_they_were_written() -> None:
    """Each title reaches Slack's stand-in in one of the digests, to the letter."""
    written = [*titles(), *EMOJI, *MARKED]
    slack = StandInSlack()
    async with serving(slack.app) as address:
        notifier = SlackWebhook(f"{address}/services/T/B/x", APP)
        waiting = [
            Item(str(number), notification(entity=f"e{number}", title=title))
            for number, title in enumerate(written)
        ]
        while waiting:
            sent = await notifier.send(Parcel(tuple(waiting[:100])))
            assert sent.delivered
            waiting = [item for item in waiting if item.delivery_id not in sent.delivered]
        await notifier.close()
    shown = "\n".join(whole(read(message)) for message in slack.messages)
    assert [title for title in written if title not in shown] == []


@pytest.mark.parametrize("text", MARKED)
def test_marks_of_the_catalog_are_no_markup(text: str) -> None:
    """Wherever it stands, in an alert, a later one, a digest, an updated message or one of text alone."""
    one, other = full_of(text), full_of(text, entity=f"{text}2", step=Step.RESOLVED, opened_at=NOW)
    timer = full_of(text, change=None, action="TIMER_EXPIRED", timer=text)
    digested = digest([one, other, timer], APP, group_by=("rule", "transition", "blueprint", "team")).message
    alone = [alert_message(alert, APP) for alert in (one, other, timer, Notification.notice(text, NOW))]
    updated = [recompose([Story(one, other)], APP), recompose([Story(one, other), Story(timer, timer)], APP)]
    items = tuple(Item(str(number), alert) for number, alert in enumerate((one, other)))
    plain = [Composed(alone[0], items[:1]).plain, Composed(digested, items).plain]
    for message in [*alone, digested, *updated, *plain]:
        if "blocks" in message:
            assert_valid(message)
        seen = read(message)
        assert "blocks" not in message or text in whole(seen)
        ours = {("italic", "here"), ("emoji", "fire"), ("bold", text), ("bold", f"{text}2")}
        headings = {(style, one) for style, one in styled(seen) if style == "bold" and len(one) > len(text)}
        assert set(styled(seen)) <= ours | headings
        assert text in whole(read_fallback(message))
        assert not styled(read_fallback(message))


@pytest.mark.parametrize(
    "text", ["payment_service_prod", "10:30:15", "a > b", "C# and #1", "x-y", "node.js", "fe80::1"]
)
def test_text_without_marks_costs_no_rich_text(text: str) -> None:
    """Most names are sent as ever, and the rule's own markup works."""
    message = alert_message(full_of(text), APP)
    assert {block["type"] for block in message["blocks"]} == {"section", "context", "actions"}
    assert ("italic", "here") in read(message)


@pytest.mark.parametrize("text", ["👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪", "👍🏽", "é", "क्षि", "각", "*️⃣", '"', "&"])
def test_what_a_reader_sees_as_one_character_is_not_cut(text: str) -> None:
    """At every limit a cut text is a number of whole ones, for a value and in a message."""
    for limit in range(len(text) + 1, 40):
        for cut_text in (cut(text * 60, limit), unmarked(escape(text * 60, limit + 4))):
            assert cut_text.removesuffix("…").replace(text, "") == ""
            assert cut_text.endswith("…")
    assert len(cut("e" + "\u0301" * 99, 40)) == 40


def unmarked(text: str) -> str:
    """Undo the escapes of a text, by way of a message of it."""
    return whole(read(message_of("", [section(text)])))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\u202eb", "ab"),
        ("a\u202db\u202cc", "abc"),
        ("\u2067\u05e9\u05dc\u05d5\u05dd\u2069 x", "\u2067\u05e9\u05dc\u05d5\u05dd\u2069 x"),
        ("\u202b\u05e9\u05dc\u05d5\u05dd\u202c x", "\u202b\u05e9\u05dc\u05d5\u05dd\u202c x"),
        ("\u2067\u05e9\u05dc\u05d5\u05dd x", "\u05e9\u05dc\u05d5\u05dd x"),
        ("x\u2069 y\u202c", "x y"),
        ("\u2067a\u202bb\u2069c", "\u2067ab\u2069c"),
        ("\u200f\u061c\u05e9\u05dc\u05d5\u05dd\u200e", "\u200f\u061c\u05e9\u05dc\u05d5\u05dd\u200e"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("東京\u3000駅", "東京\u3000駅"),
        ("a  b", "a  b"),
    ],
)
def test_only_what_reorders_other_text_is_taken_out(text: str, line: str) -> None:
    """An override, and an embedding or isolate without its end; joiners, marks and spaces stay."""
    assert one_line(text) == line
    assert line in whole(read(alert_message(notification(title=text), APP)))


@pytest.mark.parametrize("title", ["\u200b", "\u3000\u200d", "\x00", "\u202e"])
def test_a_title_of_which_nothing_can_be_seen(title: str) -> None:
    """The identifier stands in its place: a link has to be seen to be clicked."""
    assert "notification-service-prod" in alert_message(notification(title=title), APP)["text"]
    assert "(no name)" in alert_message(notification(title=title, entity=title), APP)["text"]


@pytest.mark.parametrize("name", ["_alerts", "-alerts", "#_alerts", "#oncall", "\u969c\u5bb3", "a-b_c"])
def test_names_of_channels(name: str) -> None:
    """What Slack takes for a channel's name is one, whatever it begins with."""
    assert SlackDestination(type="slack", channel=name).channel == name.removeprefix("#")


@pytest.mark.parametrize("text", MARKED)
def test_the_terminal_shows_marks_as_they_are(text: str) -> None:
    """An alert on the terminal has each text as it was written."""
    written = StringIO()
    Console(file=written, width=500).print(draw(alert_message(full_of(text), APP)))
    shown = [line.strip("\u2502 ") for line in written.getvalue().splitlines()]
    assert "".join(shown).replace(" ", "").count(text.replace(" ", "")) >= 9


def test_the_authors_markup_stays_where_a_value_has_marks() -> None:
    """The rule's own text keeps every style, link, mention and emoji, and the value is as it was written."""
    styled_text = "*a* _b_ ~c~ `d` ```e\nf``` "
    before = f"{styled_text}<https://x.example|site> <@U1> <!subteam^S1> <#C1> :fire:\n> quoted\nthe end: "
    message = (Part(before, literal=True), Part("*/5 ~ `x`", literal=False))
    made = alert_message(notification(message=message), APP)["blocks"][0]
    assert [element["type"] for element in made["elements"]] == [
        "rich_text_section",
        "rich_text_quote",
        "rich_text_section",
    ]
    first, quoted, last = (element["elements"] for element in made["elements"])
    styles = {(part.get("text"), *part.get("style", {})) for part in first}
    assert styles >= {("a", "bold"), ("b", "italic"), ("c", "strike"), ("d", "code"), ("e\nf", "code")}
    kinds = [part["type"] for part in first]
    assert [kind for kind in kinds[2:] if kind != "text"] == ["link", "user", "usergroup", "channel", "emoji"]
    assert [part["text"] for part in (*quoted, *last)] == ["quoted", "the end: */5 ~ `x`"]
