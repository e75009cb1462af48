"""Alerts on the terminal."""

import asyncio
import contextlib
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from app.errors import DeliveryFailed, Scope
from app.model.incident import Step
from app.model.notification import Link, Notification, ValueChange
from app.notifier.base import Item, Parcel, Sent
from app.notifier.console import ConsoleNotifier, draw
from app.notifier.slack.alert import alert_message
from app.notifier.slack.digest import digest

APP = "https://app.port.io"


def notification(**facts: Any) -> Notification:
    """Return a notification that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "step": Step.OPENED,
        "rule": "health",
        "blueprint": "deploymentConfig",
        "entity": "checkout-prod",
        "title": "Checkout",
        "change": ValueChange(name="healthStatus", before="Healthy", after="Degraded"),
        "links": (
            Link(name="newRelicUrl", url="https://newrelic.com"),
            Link(name="r&d", url="https://example.com"),
        ),
        "actor": "ada@example.com",
        "at": datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC),
    }
    return Notification(**(usual | facts))


def terminal(*, colours: bool = False) -> tuple[Console, StringIO]:
    """Return a console, and what it writes to."""
    written = StringIO()
    console = Console(
        file=written, width=120, force_terminal=colours, color_system="truecolor" if colours else None
    )
    return console, written


def printed(what: RenderableType) -> str:
    """Return what a terminal shows, without the panel's frame."""
    console, written = terminal()
    console.print(what)
    lines = written.getvalue().splitlines()[1:-1]
    return "\n".join(line.strip("│ ") for line in lines)


def test_an_alert_reads_as_in_slack() -> None:
    """Marks, words, the date's own text and the buttons' labels are there; markup and addresses are not."""
    assert printed(draw(alert_message(notification(), APP))).splitlines() == [
        "🟠 Checkout: warning",
        "healthStatus: 🟢 Healthy → 🟠 Degraded",
        "By ada@example.com  |  2026-06-09 12:28:20 UTC  |  deploymentConfig checkout-prod  |  Rule",
        "health",
        "[ New Relic ]  [ R&d ]",
    ]


def test_slacks_escapes_are_undone() -> None:
    """What the catalog says is shown as it says it, once."""
    shown = printed(draw(alert_message(notification(title="<b> & &lt; <!channel>"), APP)))
    assert shown.splitlines()[0] == "🟠 <b> & &lt; <!channel>: warning"


def test_marked_text_is_bold() -> None:
    """Slack's stars become the terminal's bold."""
    console, written = terminal(colours=True)
    console.print(draw(alert_message(notification(), APP)))
    assert "\x1b[1mDegraded\x1b[0m" in written.getvalue()


def test_a_message_of_text_alone() -> None:
    """A message without blocks shows its text."""
    assert printed(draw({"text": "*Crashed* & gone: `checkout`"})) == "Crashed & gone: checkout"


def test_richs_own_markup_means_nothing() -> None:
    """Square brackets and emoji names in a title are text."""
    shown = printed(draw(alert_message(notification(title="[red]x[/red] :rocket: [/]"), APP)))
    assert shown.splitlines()[0] == "🟠 [red]x[/red] :rocket: [/]: warning"


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_value_reaches_the_terminal_as_a_command(title: str, value: str) -> None:
    """Whatever the catalog says, nothing but printable lines is written."""
    told = notification(title=f"\x1b]0;{title}\x07", change=ValueChange(name=title, after=f"\x9b2J{value}"))
    shown = printed(draw(alert_message(told, APP)))
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown.replace("\n", ""))


async def test_the_notifier_prints() -> None:
    """It delivers to the console that it was given, and there is nothing to let go of."""
    console, written = terminal()
    notifier = ConsoleNotifier(APP, console)
    assert await notifier.send(Parcel((Item("1", notification()),))) == Sent("printed")
    await notifier.close()
    assert "Checkout" in written.getvalue()


def test_a_digest_has_its_headings_and_lines() -> None:
    """Many alerts read as in Slack, and whom they call is named."""
    waiting = [notification(entity=name, title=name, mention="<!subteam^S1>") for name in ("a<b", "c")]
    assert printed(draw(digest(waiting, APP).message)).splitlines() == [
        "@S1 🟠 2 entities of deploymentConfig changed: 2 warning",
        "health: 🟢 Healthy → 🟠 Degraded",
        "• a<b",
        "• c",
        "2026-06-09 12:28:20 UTC",
    ]


def test_attachments_are_drawn() -> None:
    """Their blocks follow the message's own; without blocks there is what stands for them."""
    blocks = alert_message(notification(links=()), APP)["blocks"]
    attached = [{"color": "#2eb67d", "fallback": "-", "blocks": blocks[1:]}, {"fallback": "Details"}]
    assert printed(draw({"text": "-", "blocks": blocks[:1], "attachments": attached})).splitlines() == [
        *printed(draw({"text": "-", "blocks": blocks})).splitlines(),
        "Details",
    ]


def test_an_output_that_takes_nothing() -> None:
    """A full disk or a closed pipe is nobody's alert's fault: it holds the destination."""
    with contextlib.suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:
        notifier = ConsoleNotifier(APP, Console(file=full))
        with pytest.raises(DeliveryFailed, match="No space left on device") as failed:
            asyncio.run(notifier.send(Parcel((Item("1", notification()),))))
    assert failed.value.scope is Scope.DESTINATION
