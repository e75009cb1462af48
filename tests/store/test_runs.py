"""What a store keeps for runs in Port that wait to be told: one suite for all."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.model.delivery import Alert, Outcome, State
from app.model.notification import Message
from app.model.report import RUNS, ReportedAlert
from app.model.silence import Silence
from app.rules.decide import Decision, EntityState
from app.store import queries
from app.store.rows import Aside, Attempt, Claim, Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import LEASE, SECOND, attempt, incoming, reported, resolve_all

POSTED = Message("C0123456789", "1780000000.000100")


def deciding(one: Incoming, *alerts: Alert) -> Incoming:
    """Return a change that leads to its alert and these."""

    def decide(state: EntityState) -> Decision:
        decision = one.decide(state)
        return replace(decision, alerts=(*decision.alerts, *alerts))

    return replace(one, decide=decide)


def for_the_pager(one: Incoming, **facts: object) -> Alert:
    """Return a second alert of a change."""
    (alert,) = one.decide(EntityState()).alerts
    return replace(alert, destination="pager", queue="pager", **facts)  # type: ignore[arg-type]


async def claims(store: Store, *, second: int = 0, token: str = "a") -> dict[str, Claim]:
    """Claim what is due `second` seconds after NOW, by destination."""
    now = NOW + second * SECOND
    limits = {"default": 100, "pager": 100, RUNS: 20}
    found = await store.claim(token=token, now=now, lease_until=now + LEASE, limit=10, batch_limits=limits)
    return {one.destination: one for one in found}


async def told(store: Store, claim: Claim, outcome: Outcome = Outcome.DELIVERED, *, second: int = 0) -> None:
    """Record what came of all that was claimed."""
    assert await store.record(claim, replace(attempt(outcome, second=second, wait=0), failures=0))


async def waits(store: Store, second: int) -> bool:
    """Tell whether a run is to be told something, and give the queue back."""
    claimed = await claims(store, second=second)
    for one in claimed.values():
        await store.give_back(one)
    return RUNS in claimed


def states(alerts: Sequence[ReportedAlert]) -> dict[str, str]:
    """Return where alerts stand, by destination."""
    return {one.destination: one.state for one in alerts}


async def test_who_does_not_ask_is_told_nothing(store: Store) -> None:
    """Without a run that waits, there is nothing but the alert, before and after it."""
    await store.accept([incoming()])
    (only,) = (await claims(store)).values()
    await told(store, only)
    assert await claims(store, second=5) == {}
    assert await store.read(queries.reports.fate, "r_1") is None


async def test_from_the_beginning_to_the_end(store: Store) -> None:
    """A report waits with the alert, and a second one once the alert is delivered; then no more."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    assert claimed.keys() == {"default", RUNS}
    report = claimed[RUNS]
    assert report.run == "r_1"
    assert report.queue == f"{RUNS}/0"
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert (fate.has_ended, fate.again, fate.received_at, fate.reports) == (False, False, NOW, 1)
    assert (fate.reason, states(fate.alerts)) == ("rule 'health' matches", {"default": "pending"})
    await told(store, claimed["default"], second=1)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert (fate.has_ended, fate.reports) == (True, 2)
    await told(store, report, second=1)
    again = await claims(store, second=2)
    assert again.keys() == {RUNS}
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert (fate.alerts, fate.reports) == ((ReportedAlert("default", "delivered", "said"),), 1)
    await told(store, again[RUNS], second=2)
    assert await claims(store, second=9) == {}


async def test_what_waits_for_one_run_goes_out_together(store: Store) -> None:
    """While Port is away the second report joins the first; another run's does not."""
    await store.accept([reported(incoming()), reported(incoming(entity="other"), "r_2")])
    claimed = await claims(store)
    await told(store, claimed["default"])
    await told(store, claimed[RUNS], Outcome.RETRY)
    (first,) = (await claims(store, second=2)).values()
    assert first.run == "r_1"
    assert len(first.deliveries) == 2
    await told(store, first, second=2)
    (second,) = (await claims(store, second=3)).values()
    assert second.run == "r_2"
    assert len(second.deliveries) == 2


async def test_ignored(store: Store) -> None:
    """A change without an alert has ended at once, and one report says so."""
    await store.accept([reported(incoming("Healthy", "Healthy"))])
    claimed = await claims(store)
    assert claimed.keys() == {RUNS}
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert fate.has_ended
    assert fate.label == "Ignored"
    assert "healthStatus" in fate.reason
    await told(store, claimed[RUNS])
    assert await claims(store, second=5) == {}


async def test_the_last_of_several_ends_it(store: Store) -> None:
    """Delivered here, dead there: the run is told when the second is, whichever that is."""
    one = incoming()
    await store.accept([reported(deciding(one, for_the_pager(one)))])
    claimed = await claims(store)
    await told(store, claimed[RUNS])
    await told(store, claimed["default"], second=1)
    assert not await waits(store, 2)
    await told(store, claimed["pager"], Outcome.DEAD, second=2)
    assert await waits(store, 3)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert states(fate.alerts) == {"default": "delivered", "pager": "dead"}
    assert fate.failed


async def test_two_that_end_at_once(store: Store) -> None:
    """The last two deliveries of a change are recorded at the same moment, and its run is told."""
    for number in range(10):
        one, run = incoming(entity=f"e{number}"), f"r_{number}"
        await store.accept([reported(deciding(one, for_the_pager(one)), run)])
        claimed = await claims(store, second=number)
        await asyncio.gather(*(told(store, claim, second=number) for claim in claimed.values()))
        (report,) = (await claims(store, second=number)).values()
        assert report.run == run
        await told(store, report, second=number)


async def test_tried_again_by_hand(store: Store) -> None:
    """What was dead and is delivered after all is reported once more."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    await told(store, claimed["default"], Outcome.DEAD)
    await told(store, claimed[RUNS])
    await told(store, (await claims(store, second=1))[RUNS], second=1)
    assert await store.retry(now=NOW + 2 * SECOND) == 1
    await told(store, (await claims(store, second=2))["default"], second=2)
    assert await waits(store, 3)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert fate.label == "Delivered"


async def test_a_report_that_is_dead(store: Store) -> None:
    """No report is made of a report; it is listed where people look, and can be tried again."""
    await store.accept([reported(incoming("Healthy", "Healthy"))])
    await told(store, (await claims(store))[RUNS], Outcome.DEAD)
    assert await claims(store, second=5) == {}
    (row,) = (await store.read(queries.page.deliveries, state=State.DEAD, limit=9)).rows
    assert (row.destination, row.notification.title) == (RUNS, "Report to run r_1")
    assert await store.retry(now=NOW + 6 * SECOND, ids=[row.id]) == 1
    assert (await claims(store, second=6)).keys() == {RUNS}


async def test_silenced(store: Store) -> None:
    """What a silence keeps back has an end too; when the silence ends and it is told, that is reported."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    number = await store.write(
        queries.silences.add, Silence("*", "*", "*", "*", NOW, NOW + 9 * SECOND, "ada", "move")
    )
    aside = {claimed["default"].deliveries[0].id: Aside(Outcome.SILENCED, "silence 1, by ada", number)}
    nothing = Attempt(Outcome.SILENCED, "", NOW, NOW, NOW, delivery_ids=(), asides=aside)
    assert await store.record(claimed["default"], nothing)
    await told(store, claimed[RUNS])
    await told(store, (await claims(store, second=1))[RUNS], second=1)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert fate.alerts == (ReportedAlert("default", "silenced", "silence 1, by ada"),)
    await told(store, (await claims(store, second=10))["default"], second=10)
    assert await waits(store, 11)


async def test_cancelled(store: Store) -> None:
    """What was to be told later, and is not needed any more, is the end of it; in one batch as well."""
    one = incoming()

    def later(state: EntityState) -> Decision:
        decision = one.decide(state)
        alerts = (replace(decision.alerts[0], due_at=NOW + timedelta(minutes=5)),)
        return replace(decision, alerts=alerts)

    def not_needed(state: EntityState) -> Decision:
        (incident,) = state.incidents
        return Decision("it did not last", (), (replace(incident, resolved_at=NOW),), (incident.id,))

    opened = reported(replace(one, decide=later))
    closed = replace(incoming("Degraded", "Healthy", second=1), decide=not_needed)
    await store.accept([opened])
    await told(store, (await claims(store))[RUNS])
    await store.accept([reported(closed, "r_2")])
    for second in (2, 3):
        (report,) = (await claims(store, second=second)).values()
        await told(store, report, second=second)
    labels = [fate.label for run in ("r_1", "r_2") if (fate := await store.read(queries.reports.fate, run))]
    assert labels == ["Not needed", "Ignored"]
    assert await claims(store, second=400) == {}


async def test_cancelled_in_one_batch(store: Store) -> None:
    """A change that is cancelled before it is stored has its end at once."""
    one = incoming()

    def later(state: EntityState) -> Decision:
        decision = one.decide(state)
        return replace(decision, alerts=(replace(decision.alerts[0], due_at=NOW + timedelta(minutes=5)),))

    def not_needed(state: EntityState) -> Decision:
        return Decision("it did not last", (), (), tuple(incident.id for incident in state.incidents))

    closed = replace(incoming("Degraded", "Healthy", second=1), decide=not_needed)
    await store.accept([reported(replace(one, decide=later)), reported(closed, "r_2")])
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert (fate.has_ended, fate.label) == (True, "Not needed")
    runs = []
    for second in (2, 3):
        (report,) = (await claims(store, second=second)).values()
        assert report.run is not None
        runs.append(report.run)
        await told(store, report, second=second)
    assert sorted(runs) == ["r_1", "r_2"]
    assert await claims(store, second=400) == {}


async def test_a_reminder_keeps_no_run_waiting(store: Store) -> None:
    """Reminders, which go on as long as an incident, are not reported, nor is their end."""
    one = incoming()
    hour = timedelta(hours=1)
    reminder = for_the_pager(one, due_at=NOW + hour, repeat=hour)
    await store.accept([reported(deciding(one, reminder))])
    claimed = await claims(store)
    await told(store, claimed["default"])
    await told(store, claimed[RUNS])
    await told(store, (await claims(store, second=1))[RUNS], second=1)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert states(fate.alerts) == {"default": "delivered"}
    await told(store, (await claims(store, second=3601))["pager"], second=3601)
    assert not await waits(store, 3602)
    await store.accept([incoming("Degraded", "Healthy", second=3603)])  # which cancels the next reminder
    assert not await waits(store, 3604)


async def test_what_is_said_of_a_destination_is_no_alert(store: Store) -> None:
    """That the fallback hears of a destination which is on hold is not what the run asks for."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    (one,) = claimed["default"].deliveries
    notice = Alert("pager", "pager", one.notification.notice("Destination default is on hold", NOW))
    on_hold = replace(attempt(Outcome.ON_HOLD, wait=600), notice=notice)
    assert await store.record(claimed["default"], on_hold)
    await told(store, claimed[RUNS])
    await told(store, (await claims(store, second=1))["pager"], Outcome.DEAD, second=1)
    assert not await waits(store, 2)
    fate = await store.read(queries.reports.fate, "r_1")
    assert fate is not None
    assert states(fate.alerts) == {"default": "pending"}


async def test_a_change_that_comes_again(store: Store) -> None:
    """The same run has one report; another run that brings the same change hears of its end as well."""
    await store.accept([reported(incoming()), reported(incoming())])
    again = replace(incoming(), received_at=NOW + SECOND)
    await store.accept([reported(again), reported(again, "r_2")])
    claimed = await claims(store, second=2)
    assert len(claimed[RUNS].deliveries) == 1
    await told(store, claimed[RUNS], second=2)
    await told(store, claimed["default"], second=2)
    runs = []
    for second in range(3, 6):
        for report in (await claims(store, second=second)).values():
            assert report.run is not None
            runs.append((report.run, len(report.deliveries)))
            await told(store, report, second=second)
    assert sorted(runs) == [("r_1", 1), ("r_2", 2)]
    labels = [
        (fate.label, fate.again)
        for run in ("r_1", "r_2")
        if (fate := await store.read(queries.reports.fate, run))
    ]
    assert labels == [("Delivered", False), ("Duplicate", True)]


async def test_the_message_that_tells_of_it(store: Store) -> None:
    """An alert's message is its incident's; without an incident it is the one that was posted with it."""
    one = incoming(entity="none")
    (alert,) = one.decide(EntityState()).alerts
    loose = replace(one, decide=lambda _: Decision("noticed", (replace(alert, incident_id=None),)))
    for second, (change, run) in enumerate([(incoming(), "r_1"), (loose, "r_2")]):
        await store.accept([reported(change, run)])
        claimed = await claims(store, second=second)
        message = replace(POSTED, ts=f"178000000{second}.000100")
        sent = replace(attempt(Outcome.DELIVERED, second=second, wait=0), message=message)
        assert await store.record(claimed["default"], sent)
        await told(store, claimed[RUNS], second=second)
        await told(store, (await claims(store, second=second))[RUNS], second=second)
        fate = await store.read(queries.reports.fate, run)
        assert fate is not None
        assert [told.message for told in fate.alerts] == [message]
    # A reply in its thread leads to the incident's message.
    await store.accept([reported(incoming("Degraded", "Crashed", second=9), "r_3")])
    claimed = await claims(store, second=9)
    await told(store, claimed["default"], second=9)
    fate = await store.read(queries.reports.fate, "r_3")
    assert fate is not None
    assert [told.message for told in fate.alerts] == [replace(POSTED, ts="1780000000.000100")]


async def test_reports_are_not_counted_as_alerts(store: Store) -> None:
    """What people see counted, listed and told is alerts; a change's own page has its reports too."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    await told(store, claimed["default"])
    await told(store, claimed[RUNS])
    counts = await store.read(queries.counts.overview, NOW - SECOND)
    assert (counts.pending, counts.ended[State.DELIVERED]) == (0, 1)
    assert (await store.read(queries.counts.by_state))[State.DELIVERED] == 1
    assert [
        one.destination for one in (await store.read(queries.page.deliveries, state=None, limit=9)).rows
    ] == ["default"]
    assert await store.read(queries.counts.alerts, NOW - SECOND) == {("health", "default"): 1}
    page = await store.read(queries.page.deliveries, before=None, limit=9)
    assert [one.destination for one in page.rows] == ["default"]
    rows = await store.read(queries.page.deliveries_of, [page.rows[0].change_id])
    assert [one.destination for one in rows] == ["default", RUNS, RUNS]


async def test_a_run_is_kept_as_long_as_its_change(store: Store) -> None:
    """A change that still waits keeps its run, however old; with the change the run is forgotten."""
    await store.accept([reported(incoming())])
    claimed = await claims(store)
    await told(store, claimed[RUNS])
    await store.give_back(claimed["default"])
    later = NOW + timedelta(days=40)
    while await store.prune(before=later, limit=10):
        pass
    assert await store.read(queries.reports.fate, "r_1") is not None
    await told(store, (await claims(store, second=1))["default"], second=1)
    await told(store, (await claims(store, second=2))[RUNS], second=2)
    await resolve_all(store)
    while await store.prune(before=later, limit=10):
        pass
    assert await store.read(queries.reports.fate, "r_1") is None
    assert await claims(store, second=9) == {}
