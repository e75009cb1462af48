"""PagerDuty: the events, what is resolved by whom, what each refusal means, and a bad night."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from app.deliver.message import Messages
from app.deliver.turn import Sender
from app.demo.run import change_body, serving
from app.errors import DeliveryFailed, RulesError, Scope
from app.jq.runner import Jq
from app.model.incident import Step
from app.model.notification import Notification, ValueChange
from app.notifier.base import Item, Parcel
from app.notifier.failure import remedy
from app.notifier.kind import NotifierContext
from app.notifier.pagerduty import PAGERDUTY_KIND, PagerDutyDestination, PagerDutyNotifier
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.receive.intake import Intake
from app.receive.rules_source import make_rulebook
from app.receive.signature import Signed
from app.rules.file import load_rules
from app.store import queries
from app.store.sqlite.database import open_sqlite
from tests.conftest import NOW
from tests.deliver.helpers import Clock
from tests.notifier.helpers import context, notification
from tests.notifier.slack.kinds import ALERTS
from tests.notifier.stand_in_pagerduty import KEY, StandInPagerDuty

WELL = ValueChange(name="healthStatus", before="Crashed", after="Healthy")
OVER: dict[str, Any] = {"step": Step.RESOLVED, "change": WELL, "ended": True}


@pytest.fixture
async def pager() -> AsyncIterator[StandInPagerDuty]:
    """A stand-in for PagerDuty, at a fixed time."""
    stand_in = StandInPagerDuty(lambda: NOW, a_minute=1_000)
    async with serving(stand_in.app) as stand_in.url:
        yield stand_in


def make(
    pager: Any, made_with: NotifierContext | None = None, key: str = KEY, **said: Any
) -> PagerDutyNotifier:
    """Make the notifier of a service."""
    settings = PagerDutyDestination(
        type="pagerduty", routing_key=key, url=f"{pager.url}/v2/enqueue", allow_private=True, **said
    )
    return PagerDutyNotifier("pager", settings, made_with or context(page_url="https://listener.example.com"))


async def send(
    notifier: PagerDutyNotifier, alert: Notification, incident: str | None = "i-1", **facts: Any
) -> str:
    """Send one alert, and give the detail."""
    parcel = Parcel((Item("d-1", alert, incident_id=incident, **facts),))
    return (await notifier.send(await notifier.prepare(parcel))).detail


async def test_a_page_from_its_beginning_to_its_end(pager: StandInPagerDuty) -> None:
    """It has the incident's id, its severity, the links and what happened; its end closes it."""
    notifier = make(pager)
    detail = await send(notifier, notification(severity="critical", opened_at=NOW))
    assert detail.startswith("202: ")
    (event,) = pager.events
    assert (event["dedup_key"], event["payload"]["severity"]) == ("i-1", "critical")
    assert event["payload"]["summary"].startswith("🟠 Notification Service: healthStatus Healthy → Degraded")
    assert event["payload"]["custom_details"]["change"]["after"] == "Degraded"
    assert {link["text"]: link["href"] for link in event["links"]} == {
        "Open in Port": "https://app.port.io/deploymentConfigEntity?identifier=notification-service-prod",
        "History": "https://listener.example.com/entity?blueprint=deploymentConfig&entity=notification-service-prod",
        "New Relic": "https://newrelic.com",
        "Sentry": "https://sentry.io/",
        "Prometheus": "https://prometheus.io",
    }
    await send(notifier, notification(step=Step.CHANGED, severity="warning"))
    assert pager.opened == {"i-1": 1}
    await send(notifier, notification(**OVER))
    assert pager.events[-1] == {"routing_key": KEY, "event_action": "resolve", "dedup_key": "i-1"}
    assert pager.open == {}
    await notifier.close()


@pytest.mark.parametrize(
    ("facts", "item", "settings", "sent"),
    [
        ({}, {}, {}, "trigger i-1"),
        ({}, {"over": True}, {}, "resolve i-1"),
        ({}, {"reopened": True}, {}, ""),
        ({"step": Step.ACKNOWLEDGED}, {"reopened": True}, {}, ""),
        (OVER, {"reopened": True}, {}, "resolve i-1"),
        (OVER | {"late": True}, {"reopened": True}, {}, ""),
        ({"step": Step.REMINDED}, {}, {}, "trigger i-1"),
        ({"step": Step.REMINDED}, {"reopened": True}, {}, "trigger i-1"),
        ({"step": Step.FLAPPING, "ended": True}, {}, {}, "trigger i-1"),
        ({"step": Step.SETTLED}, {}, {}, "trigger i-1"),
        ({"step": Step.SETTLED, "ended": True}, {}, {}, "resolve i-1"),
        ({"step": Step.ESCALATED}, {}, {}, "trigger i-1"),
        ({"step": Step.ACKNOWLEDGED}, {}, {}, "acknowledge i-1"),
        ({"step": Step.ACKNOWLEDGED}, {"over": True}, {}, "resolve i-1"),
        ({"step": Step.NOTICED}, {"incident": None}, {}, "trigger d-1"),
        ({"step": Step.NOTICED, "late": True}, {"incident": None}, {}, ""),
        ({"step": Step.NOTICED, "ended": True}, {"incident": None}, {}, ""),
        ({"step": Step.NOTICED}, {"incident": None}, {"change_events": True}, "change"),
        ({"step": Step.NOTICED, "late": True}, {"incident": None}, {"change_events": True}, "change"),
        ({}, {}, {"change_events": True}, "trigger i-1"),
    ],
)
async def test_what_is_sent_of_a_step(
    pager: StandInPagerDuty, facts: dict[str, Any], item: dict[str, Any], settings: dict[str, Any], sent: str
) -> None:
    """What is over opens no page, what nobody would resolve opens none, and a change event pages nobody."""
    notifier = make(pager, **settings)
    await send(notifier, notification(**facts), **item)
    await notifier.close()
    told = [f"{event['event_action']} {event['dedup_key']}" for event in pager.events]
    assert (told or (["change"] if pager.changes else [""])) == [sent]


async def test_every_kind_of_alert_is_an_event(pager: StandInPagerDuty) -> None:
    """The stand-in refuses what PagerDuty's pages do not allow."""
    everything = ValueChange(name="x", before="🚀" * 2_000, after="خدمات" * 400)
    huge = notification(title="خدمات 🚀" * 400, others=(everything,) * 50, message=())
    notifier, changes = make(pager), make(pager, change_events=True)
    for alert in (*ALERTS.values(), huge):
        for incident in ("i-1", None):
            await send(notifier, alert, incident)
            await send(changes, alert, incident)
    for sender in (notifier, changes):
        await sender.close()
    assert pager.answers == []
    assert {event["event_action"] for event in pager.events} == {"trigger", "acknowledge", "resolve"}


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([400], "202"),
        ([400, 400], Scope.MESSAGE),
        ([413], "202"),
        ([401], Scope.DESTINATION),
        ([404], Scope.DESTINATION),
        ([429], Scope.TRANSIENT),
        ([500], Scope.TRANSIENT),
        ([504], Scope.TRANSIENT),
        ([200], Scope.STRANGE),
    ],
)
async def test_what_pagerduty_refuses(pager: StandInPagerDuty, answers: list[int], outcome: Any) -> None:
    """A body that it refuses is tried once more, plainer; a repeat it knows by the key, whatever arrived."""
    pager.answers = [JSONResponse({"errors": ["x"]}, status) for status in answers]
    notifier = make(pager)
    if not isinstance(outcome, Scope):
        assert (await send(notifier, notification())).startswith(outcome)
        assert pager.events[0]["payload"].keys() == {"summary", "source", "severity"}
    else:
        with pytest.raises(DeliveryFailed) as failed:
            await send(notifier, notification())
        assert (failed.value.scope, failed.value.known_again) == (outcome, True)
    await notifier.close()


@pytest.mark.parametrize("facts", [OVER, {"step": Step.ACKNOWLEDGED}])
async def test_an_event_that_has_no_simpler_form(pager: StandInPagerDuty, facts: dict[str, Any]) -> None:
    """PagerDuty's answer stands, where a resolve or an acknowledgement is refused."""
    pager.answers = [JSONResponse({"errors": ["x"]}, 400)]
    notifier = make(pager)
    with pytest.raises(DeliveryFailed, match="400") as failed:
        await send(notifier, notification(**facts))
    assert failed.value.scope is Scope.MESSAGE
    await notifier.close()


async def test_a_wrong_routing_key(pager: StandInPagerDuty) -> None:
    """No alert is at fault: it holds the destination, says what to do, and does not show the key."""
    wrong = KEY[::-1]
    pager.answers = [JSONResponse({"errors": [f"Invalid routing key {wrong}"]}, 400)]
    notifier = make(pager, key=wrong)
    for ask in (lambda: send(notifier, notification()), notifier.probe):
        with pytest.raises(DeliveryFailed, match="routing_key: 400") as failed:
            await ask()
        assert failed.value.scope is Scope.DESTINATION
        assert wrong not in failed.value.reason
        assert "Events API v2" in remedy(failed.value.reason)
    await notifier.close()


async def test_it_is_asked_without_a_page(pager: StandInPagerDuty) -> None:
    """A resolve of what never opened shows that the key is taken."""
    notifier = make(pager)
    assert "takes the routing key" in (await notifier.probe("a text")).detail
    assert "takes the routing key" in await send(notifier, Notification.notice("x", NOW), None)
    await notifier.close()
    assert pager.opened == {}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"routing_key": "short-secret"}, "routing_key: must be 32 letters and digits"),
        ({"url": "https://x.example.com/{{ .a }}"}, "url: must be one address"),
        ({"url": "https://x.example.com/other", "change_events": True}, "change_events: the url must end in"),
    ],
)
def test_what_can_never_be_sent(said: dict[str, Any], wrong: str) -> None:
    """It is refused with its line, before anything is sent, and without the secret."""
    destination = {"type": "pagerduty", "routing_key": KEY} | said
    rules = load_rules(
        str({"version": 1, "destinations": {"pager": destination}}).replace("True", "true"),
        {},
        models=SETTINGS_MODELS,
    )
    with pytest.raises(RulesError, match=f"destination 'pager': {wrong}") as refused:
        make_notifiers(rules, context())
    assert "short-secret" not in str(refused.value)


async def test_a_dry_run_hides_the_key() -> None:
    """It shows the event."""
    settings = PagerDutyDestination(type="pagerduty", routing_key=KEY)
    item = Item("d-1", notification(), incident_id="i-1")
    assert '"dedup_key": "i-1"' in (shown := await PAGERDUTY_KIND.dry_run(settings, item, {}, context()))
    assert KEY not in shown
    assert (
        await PAGERDUTY_KIND.dry_run(
            settings, replace(item, notification=notification(late=True), incident_id=None), {}, context()
        )
        == "nothing"
    )


RULES = """
version: 1
destinations:
  pager: {{type: pagerduty, routing_key: {key}, url: "{url}/v2/enqueue", allow_private: true}}
rules:
  - name: health
    when: {{property: healthStatus, to: Crashed}}
    resolve: {{property: healthStatus, to: Healthy}}
    send: pager
  - name: any
    when: {{property: healthStatus, to: {{not: Healthy}}}}
    resolve: {{property: healthStatus, to: Healthy}}
    send: pager
"""
ENTITIES, STILL_DOWN, AGAIN = 250, 20, 10
FIRST_AGAIN = {f"e{number}" for number in range(STILL_DOWN, STILL_DOWN + AGAIN)}


async def test_a_bad_night(tmp_path: Path) -> None:
    """500 pages by two rules, 120 a minute, an outage, a kill: in the end PagerDuty has what is open here."""
    clock = Clock()
    pager, store = StandInPagerDuty(clock), open_sqlite(tmp_path / "listener.db")
    async with serving(pager.app) as url:
        rules = load_rules(RULES.format(key=KEY, url=url), {}, models=SETTINGS_MODELS)
        notifiers = make_notifiers(rules, context(clock=clock))

        async def nobody(*_: Any) -> list[object]:
            return []

        book, jq = make_rulebook(rules.file), Jq()
        intake = Intake(store, book, clock, jq.evaluate, nobody, wake=lambda _=(): None)
        messages = Messages(lambda key: store.read(queries.changes.body, key), jq, book.rules)
        sender = Sender(store, notifiers, prepare=messages.prepare, clock=clock, jitter=lambda: 0.0)

        async def happens(before: str, after: str, entities: range) -> None:
            bodies = (
                change_body(before=before, after=after, at=clock(), entity=f"e{number}")
                for number in entities
            )
            await asyncio.gather(*(intake.accept(Signed(body, clock())) for body in bodies))

        async def deliver(until: timedelta, *, killed: bool = False) -> None:
            """Deliver until a time; where it is killed, the last attempt is not recorded."""
            while clock.now < NOW + until:
                now = clock.now
                claims = await store.claim(
                    token=str(now),
                    now=now,
                    lease_until=now + timedelta(seconds=30),
                    limit=1,
                    batch_limits={"pager": 1},
                )
                if not claims:
                    due = await store.read(queries.queues.next_due, now)
                    clock.now = min(NOW + until, due or NOW + until)
                    continue
                attempt = await sender.attempt(claims[0])
                clock.now += timedelta(milliseconds=50)
                if killed:
                    return
                if attempt is not None:
                    await store.record(claims[0], attempt)

        second, minute = timedelta(seconds=1), timedelta(minutes=1)
        await happens("Healthy", "Crashed", range(ENTITIES))
        await deliver(30 * second)
        await deliver(31 * second, killed=True)
        clock.now += 31 * second  # the dead process's lease ends
        await happens("Crashed", "Healthy", range(STILL_DOWN, ENTITIES))
        for again in (range(STILL_DOWN, STILL_DOWN + AGAIN), range(ENTITIES - AGAIN, ENTITIES)):
            await happens("Healthy", "Crashed", again)
        pager.down = True
        await deliver(2 * minute)
        pager.down = False
        await deliver(30 * minute)
        page = await store.read(queries.incidents.page, is_open=True, limit=100)
        for notifier in notifiers.values():
            await notifier.close()
        await jq.close()
    await store.close()
    assert pager.refused > 0
    assert {*pager.open} == {row.incident.id for row in page.rows}
    assert len(pager.open) == 2 * (STILL_DOWN + 2 * AGAIN)
    assert pager.reopened == []
    # Within an hour it is one incident. Of those that crashed again, it had heard the first half before.
    twice = {key for key, times in pager.opened.items() if times > 1}
    assert twice == {row.incident.id for row in page.rows if row.incident.entity in FIRST_AGAIN}
    assert sum(pager.opened.values()) < ENTITIES  # what was over was never opened
