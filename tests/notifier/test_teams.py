"""Teams: cards as Microsoft's own library reads them, their size, their words, and what each answer means."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.demo.run import serving
from app.errors import DeliveryFailed, Scope, SettingsError
from app.model.notification import Link, Notification, Part, ValueChange
from app.notifier.base import Item, Parcel
from app.notifier.failure import remedy
from app.notifier.slack.compose import compose
from app.notifier.teams import TEAMS_KIND, TeamsDestination, TeamsNotifier, composed_card, message_of_card
from tests.notifier.helpers import APP, NOW, context, notification
from tests.notifier.slack.kinds import ALERTS, DIGESTS, PAGE, down

HERE = Path(__file__).parent
SETTINGS = TeamsDestination(type="teams", webhook_url="https://flows.example.com/secret?sig=x")
LONG = "خدمات پرداخت 🚀 _a_ **b** [c](https://evil.example) {{DATE(2026-06-09T12:28:20Z)}} <at>all</at> " * 32
HUGE = notification(
    title=LONG,
    rule=LONG[:100],
    change=ValueChange(name="status", before=LONG, after=LONG),
    others=tuple(ValueChange(name=LONG[:200], before=LONG, after=LONG) for _ in range(50)),
    links=tuple(Link(name=f"url{number}", url="https://x.example/" + "x" * 390) for number in range(5)),
    message=(Part("*Call* <https://x.example|Ada> ", True), Part(LONG, False)),
    mention="<!here> <@U0123ABCD>",
    teams=(LONG[:400],),
)
PARCELS: dict[str, tuple[Notification, ...]] = {
    **{name: (alert,) for name, alert in ALERTS.items()},
    **DIGESTS,
    "huge": (HUGE,),
    "300 entities": tuple(
        down(entity=f"service-{number}", title=f"Service {number}") for number in range(300)
    ),
    "300 with long titles": tuple(down(entity=f"e{number}", title=LONG) for number in range(300)),
    "300 emoji": tuple(down(entity=f"e{number}", title="🚀" * 3_000) for number in range(300)),
}


def parcel(alerts: tuple[Notification, ...], **more: Any) -> Parcel:
    """Return alerts that wait."""
    return Parcel(tuple(Item(str(number), alert) for number, alert in enumerate(alerts)), **more)


def made(alerts: tuple[Notification, ...], **more: Any) -> tuple[Any, dict[str, Any]]:
    """Compose the next card."""
    return composed_card(parcel(alerts, **more), settings=SETTINGS, context=context(page_url=PAGE))


@pytest.fixture(scope="module")
def cards() -> dict[str, Any]:
    """The card of every kind of message, by its name."""
    cards = {name: made(alerts)[1] for name, alerts in PARCELS.items()}
    counts = {"critical": 1_200, "resolved": 300}
    return cards | {"1,500 together": made(PARCELS["300 entities"], more=1_200, counts=counts)[1]}


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every element, run and action of a card."""
    if isinstance(node, dict):
        if "type" in node:
            yield node
        for value in node.values():
            yield from parts(value)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value)


def text(card: dict[str, Any]) -> str:
    """Return all text of a card."""
    return "".join(part["text"] for part in parts(card) if part["type"] == "TextRun")


def test_microsofts_library_understands_each_card(cards: dict[str, Any]) -> None:
    """It finds nothing wrong, and nothing that it does not know: what it writes is what it was given.

    The library is adaptivecards of npm, with the version 1.4 that Teams knows; `msteams` is Teams' own key.
    """
    node = compute_driver_executable()[0]
    ran = subprocess.run(
        [node, HERE / "read_cards.js"], input=json.dumps(cards), capture_output=True, text=True, check=True
    )
    read = json.loads(ran.stdout)
    for name, card in cards.items():
        given = {key: value for key, value in card.items() if key != "msteams"}
        assert read[name] == {"wrong": [], "understood": given}, name


def test_it_is_small_enough_and_no_text_is_markup(cards: dict[str, Any]) -> None:
    """28 kB; only types that know no Markdown; at most six buttons; nobody is called as in Slack."""
    for name, card in cards.items():
        body = json.dumps(message_of_card(card), ensure_ascii=False, separators=(",", ":")).encode()
        assert len(body) <= 28_000, name
        types = {part["type"] for part in parts(card)}
        assert types <= {"AdaptiveCard", "Container", "RichTextBlock", "TextRun", "Action.OpenUrl"}, name
        assert len(card.get("actions", ())) <= 6
        assert all(part["text"] for part in parts(card) if part["type"] == "TextRun")
        assert "<!" not in text(card).replace("<!channel>", "")  # the catalog's, in one kind
        functions = [part["text"] for part in parts(card) if "{{DATE(" in part.get("text", "")]
        assert all(part.startswith("{{DATE(2026-06-09T1") for part in functions), name


def test_it_says_what_slack_says(cards: dict[str, Any]) -> None:
    """Title, values, course, who and when; links to Port and to the page; the colour of the severity."""
    card = cards["got worse"]
    assert card["body"][0]["style"] == "attention"
    assert "Payments: critical" in text(card)
    aloud = (
        "🚨 🔴 Payments: healthStatus Degraded → Crashed, got worse, open for 12 min (critical, rule health)"
    )
    assert [message_of_card(card)["summary"], card["speak"], card["fallbackText"]] == [aloud] * 3
    assert "healthStatus: 🟠 Degraded → 🔴 Crashed" in text(card)
    assert "By ada@example.com via UI  |  {{DATE(2026-06-09T12:28:20Z, SHORT)}}" in text(card)
    urls = [part["url"] for part in parts(card) if part["type"] == "Action.OpenUrl"]
    assert urls[0] == f"{APP}/deploymentConfigEntity?identifier=payments"
    assert f"{PAGE}/entity?blueprint=deploymentConfig&entity=payments" in urls
    assert cards["resolved"]["body"][0]["style"] == "good"
    assert cards["deleted while crashed"]["body"][0]["style"] == "emphasis"
    own = [part for part in parts(cards["opened, with its rule's own words"]) if part["type"] == "TextRun"]
    assert any("*Ada*" in part["text"] for part in own)


def test_a_digest_takes_as_many_as_fit(cards: dict[str, Any]) -> None:
    """The others follow in the next card, and the headline counts those alone; a sum stands for all."""
    composed, card = made(PARCELS["300 with long titles"])
    shown = len(composed.shown)
    assert 20 < shown < 300
    assert f"{shown} entities" in text(card)
    assert f"{300 - shown} more follow in the next message" in text(card)
    whole = compose(parcel(PARCELS["300 entities"]), APP, page_url=PAGE)
    assert len(made(PARCELS["300 entities"])[0].shown) >= len(whole.shown) * 0.6
    assert "1,500 changes: 1,200 critical, 300 resolved" in text(cards["1,500 together"])


class Flow:
    """A flow of Power Automate: 202, unless another answer is set."""

    def __init__(self) -> None:
        self.answers: list[Response] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self.app = Starlette(routes=[Route("/flow", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        return self.answers.pop(0) if self.answers else Response(status_code=202)


@pytest.fixture
async def flow() -> AsyncIterator[Flow]:
    """A flow on loopback."""
    flow = Flow()
    async with serving(flow.app) as url:
        flow.url = f"{url}/flow?sig=very-secret-signature"
        yield flow


def notifier_of(url: str) -> TeamsNotifier:
    """Make the notifier of a flow."""
    return TeamsNotifier("teams", TeamsDestination(type="teams", webhook_url=url), context())


async def test_a_card_is_posted(flow: Flow) -> None:
    """202 means that the flow took it, and no more is said."""
    notifier = notifier_of(flow.url)
    sent = await notifier.send(await notifier.prepare(parcel((notification(), notification(entity="b")))))
    assert (sent.detail, sent.delivered) == ("the flow took it (202)", frozenset({"0", "1"}))
    (attachment,) = flow.bodies[0]["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["version"] == "1.4"
    await notifier.close()


async def test_a_card_that_is_refused(flow: Flow) -> None:
    """It is tried once as text alone; what is refused then is dead, and the address is never shown."""
    notifier = notifier_of(flow.url)
    flow.answers = [PlainTextResponse("very-secret-signature", 400)]
    sent = await notifier.send(parcel((HUGE,)))
    assert sent.detail == "the flow took it (taken as plain text, because the answer was 400: [hidden])"
    plain = flow.bodies[1]["attachments"][0]["content"]
    assert {part["type"] for part in parts(plain)} == {"AdaptiveCard", "RichTextBlock", "TextRun"}
    assert "خدمات پرداخت" in text(plain)
    flow.answers = [Response(status_code=413)] * 2
    with pytest.raises(DeliveryFailed, match=r"^413$"):
        await notifier.send(parcel(PARCELS["digest of two"]))
    await notifier.close()


async def test_a_flow_that_is_off(flow: Flow) -> None:
    """It answers 400 to every card: the destination goes on hold, and says what to do."""
    said = {"error": {"code": "WorkflowTriggerIsNotEnabled", "message": "state 'Disabled'"}}
    flow.answers = [JSONResponse(said, 400)]
    notifier = notifier_of(flow.url)
    with pytest.raises(DeliveryFailed) as failed:
        await notifier.send(parcel((notification(),)))
    await notifier.close()
    assert failed.value.scope is Scope.DESTINATION
    assert "turn the flow on" in remedy(failed.value.reason)


async def test_it_is_tried(flow: Flow) -> None:
    """Without a text nothing is posted; a text that is given is."""
    notifier = notifier_of(flow.url)
    assert "answers (405 to OPTIONS)" in (await notifier.probe()).note
    assert flow.bodies == []
    assert "the flow took the test message" in (await notifier.probe("a *test*")).detail
    assert text(flow.bodies[0]) == "a *test*"
    await notifier.close()


async def test_a_dry_run_and_a_wrong_address() -> None:
    """It shows the card; an address with a template is refused."""
    shown = await TEAMS_KIND.dry_run(SETTINGS, Item("1", notification(at=NOW)), {}, context())
    assert '"type": "AdaptiveCard"' in str(shown)
    with pytest.raises(SettingsError, match="webhook_url: must be one address"):
        notifier_of("https://{{ .a }}.example.com")
