"""What people look at, from every store."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from app.demo.run import change_body
from app.model.delivery import Alert, Outcome, State
from app.model.incident import Incident, Step
from app.model.notification import Message, Notification
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import Decision
from app.store import queries
from app.store.rows import Incoming
from app.store.store import Store
from app.store.views import AuditEntry, ChangeFilter, IncidentFilter
from tests.conftest import NOW
from tests.store.helpers import attempt, claim_one, incoming

SECOND = timedelta(seconds=1)


@pytest.fixture
def views(store: Store) -> Store:
    """What there is to see in the store."""
    return store


def quiet(second: int, entity: str = "quiet-prod", team: str = "Rocket") -> Incoming:
    """A change that alerts nobody."""
    at = NOW + second * SECOND
    body = change_body(before="Healthy", after="Degraded", at=at, entity=entity, team=team)
    return Incoming(parse_event(Signed(body, at)), body, at, lambda _: Decision("nobody cares"))


async def entities(views: Store, limit: int = 50, before: str | None = None, **which: object) -> list[str]:
    """Return the entities of the changes that fit."""
    page = await views.read(queries.changes.changes, ChangeFilter(**which), before=before, limit=limit)  # type: ignore[arg-type]
    return [one.entity for one in page.rows]


async def test_changes_newest_first_page_by_page(store: Store, views: Store) -> None:
    """Pages follow one another without a gap, also when something comes in between, and end."""
    await store.accept([incoming(second=number, entity=f"e{number}") for number in range(5)])
    first = await views.read(queries.changes.changes, ChangeFilter(), before=None, limit=2)
    await store.accept([incoming(second=9, entity="new")])
    second = await views.read(queries.changes.changes, ChangeFilter(), before=first.next, limit=2)
    third = await views.read(queries.changes.changes, ChangeFilter(), before=second.next, limit=2)
    found = [[one.entity for one in page.rows] for page in (first, second, third)]
    assert found == [["e4", "e3"], ["e2", "e1"], ["e0"]]
    assert (third.next, third.searched_to) == (None, None)


async def test_a_change_as_it_is_stored(store: Store, views: Store) -> None:
    """A change has its reason, its teams and its body."""
    one = incoming()
    await store.accept([one])
    (row,) = (await views.read(queries.changes.changes, ChangeFilter(), before=None, limit=9)).rows
    assert row == await views.read(queries.changes.change, row.id)
    assert (row.key, row.teams, row.alerts, row.body) == (one.change.key, ("Rocket",), 1, one.body)
    assert row.reason == "rule 'health' matches"
    assert await views.read(queries.changes.change, row.id + 1) is None


async def test_a_large_body_is_not_in_a_list(store: Store, views: Store) -> None:
    """Fifty bodies of a megabyte are not read for a list."""
    one = incoming()
    await store.accept([replace(one, body=one.body + b" " * 100_000)])
    (row,) = (await views.read(queries.changes.changes, ChangeFilter(), before=None, limit=9)).rows
    assert row.body is None
    whole = await views.read(queries.changes.change, row.id)
    assert whole is not None
    assert len(whole.body or b"") > 100_000


async def test_filters(store: Store, views: Store) -> None:
    """Each filter finds what fits, alone and with others."""
    await store.accept([incoming(entity="checkout-prod"), quiet(1), quiet(2, "search-prod", "Discovery")])
    assert await entities(views, entity="checkout-prod") == ["checkout-prod"]
    assert await entities(views, entity="checkout-prod", blueprint="deploymentConfig") == ["checkout-prod"]
    assert await entities(views, entity="checkout-prod", blueprint="other") == []
    assert await entities(views, entity="check") == []
    assert await entities(views, text="CHECK") == ["checkout-prod"]
    assert await entities(views, text="%") == []
    assert await entities(views, text="prod", team="Discovery") == ["search-prod"]
    assert await entities(views, blueprint="deploymentConfig", state="none") == ["search-prod", "quiet-prod"]
    assert await entities(views, blueprint="other") == []
    assert await entities(views, team="Rocket") == ["quiet-prod", "checkout-prod"]
    assert await entities(views, team="Rock") == []
    assert await entities(views, rule="health") == ["checkout-prod"]
    assert await entities(views, rule="other", team="Rocket") == []
    assert await entities(views, state="pending", rule="health", team="Rocket") == ["checkout-prod"]
    assert await entities(views, state="dead") == []
    assert await entities(views, since=NOW + SECOND, until=NOW + 2 * SECOND) == ["quiet-prod"]
    assert await entities(views, until=NOW) == []
    assert await entities(views, since=NOW + 60 * SECOND) == []


async def test_a_change_with_two_alerts_is_found_once(store: Store, views: Store) -> None:
    """Two deliveries of one rule do not make two changes of it."""
    one = incoming()
    said = Notification.about(one.change, None, (), rule="both", step=Step.NOTICED)
    alerts = (Alert("a", "a", said), Alert("b", "b", said))
    await store.accept(
        [replace(one, decide=lambda _: Decision("", alerts)), incoming(entity="other", second=1)]
    )
    assert await entities(views, rule="both") == ["checkout-prod"]
    assert await entities(views, rule="both", limit=1) == ["checkout-prod"]


async def test_a_search_stops_and_goes_on(store: Store, views: Store) -> None:
    """Where few fit, a page ends early, says how far it looked, and the next one goes on from there."""
    alerting = [incoming(second=number, entity=f"e{number}") for number in range(1, 6)]
    await store.accept([quiet(0, "rare-prod", "Rare"), *alerting])
    assert await entities(views, state="none", team="Rare") == ["rare-prod"]
    which = ChangeFilter(state="none", blueprint="deploymentConfig")
    first = await views.read(queries.changes.changes, which, before=None, limit=9, longest=3)
    assert (first.rows, first.searched_to) == ([], NOW + 3 * SECOND)
    second = await views.read(queries.changes.changes, which, before=first.next, limit=9, longest=3)
    assert [one.entity for one in second.rows] == ["rare-prod"]
    assert second.next is None


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1,5", "9" * 40, "1' OR '1'='1", "²"])
async def test_a_cursor_that_is_none(views: Store, cursor: str) -> None:
    """What no page has given is refused."""
    with pytest.raises(ValueError, match="cursor"):
        await views.read(queries.changes.changes, ChangeFilter(), before=cursor, limit=1)
    with pytest.raises(ValueError, match="cursor"):
        await views.read(queries.audit.entries, before=cursor, limit=1)
    with pytest.raises(ValueError, match="cursor"):
        await views.read(queries.page.deliveries, before=cursor, limit=1)
    with pytest.raises(ValueError, match="cursor"):
        await views.read(queries.incidents.page, before=cursor, limit=1)


async def test_deliveries_with_their_attempts(store: Store, views: Store) -> None:
    """Deliveries have their change, their incident and every attempt; pages of them follow one another."""
    await store.accept([incoming(second=number, entity=f"e{number}") for number in range(3)])
    claim = await claim_one(store, second=5)
    assert claim is not None
    await store.record(claim, attempt(Outcome.DEAD, second=5))
    first = await views.read(queries.page.deliveries, before=None, limit=2)
    second = await views.read(queries.page.deliveries, before=first.next, limit=2)
    rows = [*first.rows, *second.rows]
    assert [one.notification.entity for one in rows] == ["e2", "e1", "e0"]
    assert second.next is None
    (dead,) = (await views.read(queries.page.deliveries, state=State.DEAD, before=None, limit=9)).rows
    assert dead == await views.read(queries.page.delivery, dead.id)
    assert [dead] == await views.read(queries.page.deliveries_of, [dead.change_id])
    assert dead.incident_id
    await store.write(
        lambda tx: tx.execute_many(
            "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
            " VALUES ($1, 'retry', $2, 0, 0)",
            [(rows[0].id, str(number)) for number in range(5_001)],
        )
    )
    attempts = await views.read(queries.page.attempts, [dead.id, rows[0].id])
    assert [one.detail for one in attempts[rows[0].id]] == [str(number) for number in range(5_001)]
    (tried,) = attempts[dead.id]
    assert (tried.outcome, tried.detail, tried.started_at) == (Outcome.DEAD, "said", NOW + 5 * SECOND)
    assert (
        len((await views.read(queries.page.deliveries, state=State.PENDING, before=None, limit=9)).rows) == 2
    )
    assert await views.read(queries.page.delivery, 99) is None


async def test_held_and_pending(store: Store, views: Store) -> None:
    """What waits in a queue that is on hold is on hold, here too."""
    await store.accept([incoming()])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.ON_HOLD, wait=600))
    assert await entities(views, state="on_hold") == ["checkout-prod"]
    assert await entities(views, state="pending") == []
    assert (
        len((await views.read(queries.page.deliveries, state=State.ON_HOLD, before=None, limit=9)).rows) == 1
    )
    assert not (await views.read(queries.page.deliveries, state=State.PENDING, before=None, limit=9)).rows


def opens(second: int, entity: str, severity: str = "warning") -> Incoming:
    """A change that opens an incident of a severity."""
    one = quiet(second, entity)
    incident = Incident(
        f"i-{entity}", "r", "deploymentConfig", entity, "bad", one.received_at, one.received_at
    )
    incident = replace(incident, severity=severity)  # type: ignore[arg-type]
    said = Notification.about(one.change, None, (), rule="r", step=Step.OPENED)
    alert = Alert("default", "default", said, incident.id)
    return replace(one, decide=lambda _: Decision("", (alert,), (incident,)))


async def test_incidents_worst_first(store: Store, views: Store) -> None:
    """The worst is first, and of equals the one that has been open longest; resolved ones are in the list."""
    await store.accept(
        [opens(0, "mild", "info"), opens(1, "old"), opens(2, "new"), opens(3, "worst", "critical")]
    )
    await store.accept(
        [incoming(entity="over", second=4), incoming("Degraded", "Healthy", entity="over", second=5)]
    )
    worst = await views.read(queries.incidents.worst, 9)
    assert [one.incident.entity for one in worst] == ["worst", "old", "new", "mild"]
    page = partial(queries.incidents.page, is_open=True, worst_first=True, limit=1)
    before = None
    for row in worst:
        read = await views.read(page, before=before)
        before = read.next
        assert read.rows == [row]
    assert before is None
    for worst_first in (True, False):  # nor does a cursor lead on in the other order
        of_the_other = (await views.read(page, worst_first=not worst_first)).next
        for wrong in (of_the_other, ""):
            with pytest.raises(ValueError, match=r"cursor|not in list"):
                await views.read(page, worst_first=worst_first, before=wrong)
    assert worst[0].last is not None
    assert worst[0].last.title == "Notification Service"
    assert await views.read(queries.incidents.incident, "i-worst") == worst[0]
    assert await views.read(queries.incidents.incident, "no") is None
    first = await views.read(queries.incidents.page, before=None, limit=3)
    second = await views.read(queries.incidents.page, before=first.next, limit=3)
    rows = [one.incident.entity for one in (*first.rows, *second.rows)]
    assert rows == ["over", "worst", "new", "old", "mild"]
    assert len((await views.read(queries.incidents.page, is_open=False, before=None, limit=9)).rows) == 1
    assert len((await views.read(queries.incidents.page, is_open=True, before=None, limit=9)).rows) == 4
    assert (
        len((await views.read(queries.incidents.page, since=NOW + 9 * SECOND, before=None, limit=9)).rows)
        == 4
    )
    of_one = await views.read(
        queries.incidents.page, which=IncidentFilter(entity="old"), before=None, limit=9
    )
    assert [one.incident.entity for one in of_one.rows] == ["old"]


async def test_counts(store: Store, views: Store) -> None:
    """What came and ended since a time, and what waits now."""
    await store.accept([quiet(0), incoming(second=10), incoming(second=11, entity="other")])
    claim = await claim_one(store, second=12)
    assert claim is not None
    await store.record(claim, attempt(Outcome.DELIVERED, second=12))
    await store.quarantine(b"{}", signed_at=NOW, received_at=NOW, path="", reason="r")
    counts = await views.read(queries.counts.overview, NOW + 5 * SECOND)
    assert (counts.changes, counts.pending, counts.dead, counts.open, counts.quarantined) == (2, 1, 0, 2, 1)
    assert counts.ended[State.DELIVERED] == 1
    assert (await views.read(queries.counts.overview, NOW + 60 * SECOND)).ended[State.DELIVERED] == 0


async def test_what_was_told_since(store: Store, views: Store) -> None:
    """What was told since a time, oldest first, once however many destinations heard of it."""
    one = incoming(second=5)
    said = Notification.about(one.change, None, (), rule="both", step=Step.NOTICED)
    both = Decision("", (Alert("a", "a", said), Alert("b", "b", said)))
    await store.accept([incoming(entity="early"), replace(one, decide=lambda _: both), incoming(second=6)])
    told = await views.read(queries.page.news, NOW + SECOND, 99)
    assert [each.rule for each in told] == ["both", "health"]


async def test_choices(store: Store, views: Store) -> None:
    """There is to filter by what is in the store, each once."""
    await store.accept([incoming(), quiet(1), quiet(2, "search", "Discovery")])
    found = await views.read(queries.changes.choices)
    assert (found.blueprints, found.teams, found.rules) == (
        ["deploymentConfig"],
        ["Discovery", "Rocket"],
        ["health"],
    )


async def test_the_newest_numbers_grow(store: Store, views: Store) -> None:
    """Whatever there is new to see changes them."""
    seen = [await views.read(queries.counts.newest)]
    await store.accept([incoming()])
    seen.append(await views.read(queries.counts.newest))
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.RETRY))
    seen.append(await views.read(queries.counts.newest))
    await views.write(queries.audit.write, AuditEntry(NOW, "ada", "retry", "it"))
    seen.append(await views.read(queries.counts.newest))
    await store.quarantine(b"{}", signed_at=NOW, received_at=NOW, path="", reason="r")
    seen.append(await views.read(queries.counts.newest))
    assert len(set(seen)) == 5
    assert seen == sorted(seen)


async def test_quarantine(store: Store, views: Store) -> None:
    """What is in quarantine is listed with its beginning, and given whole when asked for."""
    for number in range(3):
        body = b"[%d]" % number + b" " * 5_000
        await store.quarantine(body, signed_at=NOW, received_at=NOW, path="a.b", reason="why")
    first = await views.read(queries.quarantine.bodies, before=None, limit=2)
    second = await views.read(queries.quarantine.bodies, before=first.next, limit=2)
    assert [one.body[:3] for one in (*first.rows, *second.rows)] == [b"[2]", b"[1]", b"[0]"]
    assert (first.rows[0].size, len(first.rows[0].body), first.rows[0].path) == (5_003, 2_000, "a.b")
    whole = await views.read(queries.quarantine.body, first.rows[0].id)
    assert whole is not None
    assert len(whole.body) == 5_003
    assert (await views.read(queries.quarantine.body, 99), second.next) == (None, None)
    await store.quarantine(b"", signed_at=NOW, received_at=NOW, path="", reason="why")
    assert (await views.read(queries.quarantine.bodies, before=None, limit=1)).rows[0].body == b""


async def test_the_trail(views: Store) -> None:
    """What was done is kept, newest first, and can be found again by its number."""
    numbers = [
        await views.write(queries.audit.write, AuditEntry(NOW, "ada", "retry", f"{number}"))
        for number in range(3)
    ]
    first = await views.read(queries.audit.entries, before=None, limit=2)
    second = await views.read(queries.audit.entries, before=first.next, limit=2)
    assert [one.details for one in (*first.rows, *second.rows)] == ["2", "1", "0"]
    assert await views.read(queries.audit.entry, numbers[1]) == AuditEntry(
        NOW, "ada", "retry", "1", numbers[1]
    )
    assert await views.read(queries.audit.entry, 99) is None


async def test_names_are_forgotten_with_their_changes(store: Store, views: Store) -> None:
    """A name is found as long as one of its changes is kept."""
    await store.accept([quiet(0, "a"), quiet(1, "a"), quiet(2, "b")])
    assert await store.prune(before=NOW + SECOND, limit=9) == 1
    assert await entities(views, text="a") == ["a"]
    assert await store.prune(before=NOW + 9 * SECOND, limit=9) == 2
    assert await entities(views, text="a") == []


async def test_a_change_of_a_message_is_no_alert(store: Store, views: Store) -> None:
    """Neither while it waits nor when it is done."""
    posted = replace(attempt(Outcome.DELIVERED), message=Message("C0123456789", "1780000000.000100"))
    await store.accept([incoming()])
    for second, what in ((0, posted), (5, attempt(Outcome.DELIVERED, second=5))):
        claim = await claim_one(store, second=second)
        assert claim is not None
        await store.record(claim, what)
        await store.accept([incoming("Degraded", "Crashed", second=3)])
    counts = await views.read(queries.counts.overview, NOW)
    assert (counts.pending, counts.ended[State.DELIVERED]) == (0, 2)
    update = await claim_one(store, second=10)
    assert update is not None
    assert update.message == posted.message
    await store.record(update, attempt(Outcome.DELIVERED, second=10))
    assert (await views.read(queries.counts.overview, NOW)).ended[State.DELIVERED] == 2
