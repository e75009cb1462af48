"""Last known states in every store: learned, moved with changes, compared by one process at a time."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.model.times import Micros, to_micros
from app.rules.decide import OVERTAKEN, Decision, EntityState
from app.rules.last_known import LastKnown, ReconcileAlert, canonical, first_state
from app.rules.watched import Watched
from app.store import queries
from app.store.rows import Incoming
from app.store.store import Store
from app.store.views import ReconcileProgress
from tests.conftest import NOW
from tests.store.helpers import SECOND, incoming

HEALTH = Watched(frozenset({"title", "team", "properties.healthStatus"}))
BLUEPRINT = "deploymentConfig"
LEASE = timedelta(minutes=2)


def known(health: str = "Healthy", *, version: int = 1) -> LastKnown:
    """What was learned of an entity at NOW."""
    at = to_micros(NOW)
    values = {"title": "Checkout", "team": ["Rocket"], "properties.healthStatus": health}
    return replace(first_state(values, at, HEALTH, at), version=version)


def times(**micros: int) -> dict[str, Micros]:
    """Times of fields."""
    return {name: Micros(time) for name, time in micros.items()}


def alerted(since: int, until: int, nearly: int, digest: str) -> ReconcileAlert:
    """An alert by reconciling."""
    return ReconcileAlert(Micros(since), Micros(until), Micros(nearly), digest)


def watched(one: Incoming, found: LastKnown | None = None, *, stored: bool = True) -> Incoming:
    """The same change of a watched blueprint, after which `found` is known."""

    def decide(state: EntityState) -> Decision:
        return replace(one.decide(state), known=found) if stored else OVERTAKEN

    return replace(one, decide=decide, watched=True)


async def begin(store: Store, *, second: int = 0, token: str = "a", since: int | None = None) -> int | None:
    """Begin a run `second` seconds after NOW."""
    now = NOW + second * SECOND
    after = None if since is None else NOW + since * SECOND
    return await store.write(
        queries.reconcile.begin, reason="interval", token=token, now=now, lease_until=now + LEASE, since=after
    )


async def test_what_is_learned_is_known(store: Store) -> None:
    """Value by value, with all that is noted of it; of others nothing is known."""
    marked = replace(
        known(),
        times=times(title=5, team=9) | times(**{"properties.healthStatus": 9, "properties.gone": 7}),
        reconciled=frozenset({"title", ""}),
        alerted={"health": (alerted(1, 2, 3, "ab"), alerted(4, 5, 6, "cd"))},
        exists=None,
        exists_at=Micros(4),
    )
    whole = first_state({"properties.a.b": {"c": [1, "é\ud83d", None]}}, Micros(7), Watched(None), Micros(8))
    unreadable = replace(known(), values={"title": "a\0b"}, times=times(title=5))
    given = {"a": marked, "b": whole, "c": unreadable}
    assert await store.write(queries.last_known.record_states, BLUEPRINT, given) == []
    found = await store.read(queries.last_known.last_known, BLUEPRINT, ["a", "b", "c", "d"])
    assert found == {"a": marked, "b": whole, "c": replace(unreadable, values={"title": "a\ufffdb"})}
    assert await store.read(queries.last_known.last_known, "other", ["a"]) == {}


async def test_those_that_differ(store: Store) -> None:
    """What is as it is listed, and is known to exist, is left out; of the unknown nothing is known."""
    whole = first_state({"title": "x"}, Micros(7), Watched(None), Micros(8))
    given = {
        "same": known(),
        "other": known("Degraded"),
        "unsure": replace(known(), exists=None),
        "gone": LastKnown({}, {}, exists=False, exists_at=Micros(5)),
        "whole": whole,
    }
    assert await store.write(queries.last_known.record_states, BLUEPRINT, given) == []
    listed = dict.fromkeys((*given, "new"), canonical(known().values)) | {"whole": canonical(whole.values)}
    found = await store.read(queries.last_known.differing, BLUEPRINT, listed, whole=False)
    assert found == {**{name: one for name, one in given.items() if name != "same"}, "new": None}
    found = await store.read(queries.last_known.differing, BLUEPRINT, {"whole": listed["whole"]}, whole=True)
    assert found == {}
    assert await store.read(queries.last_known.differing, BLUEPRINT, {}, whole=True) == {}


async def test_to_learn_replaces_only_what_was_seen(store: Store) -> None:
    """A change that came in between stays, and is named."""
    assert await store.write(queries.last_known.record_states, BLUEPRINT, {"a": known(), "b": known()}) == []
    again = {"a": known("Degraded", version=2), "b": known("Degraded"), "c": known("Degraded", version=5)}
    assert await store.write(queries.last_known.record_states, BLUEPRINT, again) == ["b", "c"]
    found = await store.read(queries.last_known.last_known, BLUEPRINT, ["a", "b", "c"])
    values = {name: one.values["properties.healthStatus"] for name, one in found.items()}
    assert values == {"a": "Degraded", "b": "Healthy"}


async def test_a_decision_sees_and_moves_what_is_known(store: Store) -> None:
    """In one transaction with the change, and in one batch each sees what the one before has moved."""
    seen: list[LastKnown | None] = []

    def spy(one: Incoming) -> Incoming:
        def decide(state: EntityState) -> Decision:
            seen.append(state.known)
            return one.decide(state)

        return replace(one, decide=decide)

    first, second = known("Degraded"), known("Crashed", version=2)
    batch = [
        spy(watched(incoming(), first)),
        spy(watched(incoming("Degraded", "Crashed", second=1), second)),
        spy(watched(incoming("Crashed", "Healthy", second=2))),
        spy(incoming("Healthy", "Degraded", second=3)),
    ]
    await store.accept(batch)
    assert seen == [None, first, second, None]
    (later,) = await store.accept([spy(watched(incoming("Degraded", "Healthy", second=4)))])
    assert seen[-1] == second
    assert later.stored


async def test_a_change_that_is_not_to_be_stored(store: Store) -> None:
    """Leaves nothing behind, and the others of its batch are stored."""
    batch = [
        watched(incoming(entity="a"), known(), stored=False),
        watched(incoming(entity="b"), known()),
        watched(incoming(entity="a"), known(), stored=False),
    ]
    accepted = await store.accept(batch)
    assert [(one.stored, one.duplicate, one.alerts) for one in accepted] == [
        (False, False, 0),
        (True, False, 1),
        (False, False, 0),
    ]
    (only,) = await store.accept(batch[:1])
    assert not only.stored
    assert (await store.read(queries.last_known.last_known, BLUEPRINT, ["a", "b"])).keys() == {"b"}
    assert len(await store.read(queries.changes.history, since=NOW, after=None, limit=10)) == 1
    (now,) = await store.accept([incoming(entity="a")])
    assert (now.stored, now.duplicate) == (True, False)


async def test_a_change_of_which_a_comparison_told(store: Store) -> None:
    """Whoever sent it is told nothing of that, but the listener is."""
    one = incoming()

    def decide(_: EntityState) -> Decision:
        return Decision("alerted by reconciling already", already_alerted=True)

    (accepted,) = await store.accept([replace(one, decide=decide, watched=True)])
    assert (accepted.already_alerted, accepted.alerts) == (True, 0)


async def test_changes_and_learning_at_the_same_moment(store: Store) -> None:
    """Whichever comes first, a change is never overwritten by what was learned before it."""

    async def change(entity: str) -> None:
        await store.accept([watched(incoming(entity=entity), known("Degraded", version=2))])

    names = [f"e{number}" for number in range(60)]
    await store.write(queries.last_known.record_states, BLUEPRINT, dict.fromkeys(names[:30], known()))
    recording = (
        store.write(queries.last_known.record_states, BLUEPRINT, {name: state})
        for state in (known("x"), known("y", version=2))
        for name in names
    )
    await asyncio.gather(*(change(name) for name in names), *recording)
    found = await store.read(queries.last_known.last_known, BLUEPRINT, names)
    assert {one.values["properties.healthStatus"] for one in found.values()} == {"Degraded"}


async def test_entities_in_pages(store: Store) -> None:
    """By identifier, in the order of its bytes, without those that were deleted."""
    gone = LastKnown({}, {}, exists=False, exists_at=Micros(5))
    names = ["B", "a", "b", "é", "z"]
    await store.write(
        queries.last_known.record_states, BLUEPRINT, {**dict.fromkeys(names, known()), "c": gone}
    )
    await store.write(queries.last_known.record_states, "other", {"x": known()})
    found, last = [], ""
    while page := await store.read(queries.last_known.last_known_after, BLUEPRINT, last, limit=2):
        found += [name for name, _ in page]
        last = found[-1]
    assert found == ["B", "a", "b", "z", "é"]


async def test_blueprints_that_were_read_to_the_end(store: Store) -> None:
    """Are remembered until no rule names them any more; then what is known of them is forgotten."""
    reconciling = store
    for name in (BLUEPRINT, "other", BLUEPRINT):
        await reconciling.write(queries.reconcile.mark_baseline, name)
        await reconciling.write(queries.last_known.record_states, name, {"a": known(), "b": known()})
    assert await reconciling.read(queries.reconcile.baselines) == {BLUEPRINT, "other"}
    assert await reconciling.write(queries.last_known.forget_others, {BLUEPRINT}, limit=1) == 1
    assert await reconciling.write(queries.last_known.forget_others, {BLUEPRINT}, limit=9) == 1
    assert await reconciling.write(queries.last_known.forget_others, {BLUEPRINT}, limit=9) == 0
    assert await reconciling.read(queries.reconcile.baselines) == {BLUEPRINT}
    assert (await reconciling.read(queries.last_known.last_known, BLUEPRINT, ["a", "b"])).keys() == {"a", "b"}
    assert await reconciling.read(queries.last_known.last_known, "other", ["a", "b"]) == {}


async def test_one_run_at_a_time(store: Store) -> None:
    """Of many who begin at the same moment one does; who keeps the lease has it, and who died is replaced."""
    numbers = await asyncio.gather(*(begin(store, token=str(number)) for number in range(8)))
    (token,) = [str(number) for number, run in enumerate(numbers) if run is not None]
    (first,) = [run for run in numbers if run is not None]
    progress = ReconcileProgress(5, 1, 2, 1)
    later = NOW + 200 * SECOND
    assert await store.write(queries.reconcile.keep, first, token=token, lease_until=later, progress=progress)
    assert not await store.write(
        queries.reconcile.keep, first, token="?", lease_until=later, progress=progress
    )
    assert await begin(store, second=199) is None
    second = await begin(store, second=201, token="b")
    assert second is not None
    assert not await store.write(
        queries.reconcile.keep, first, token=token, lease_until=later, progress=progress
    )
    await store.write(
        queries.reconcile.end, second, token="b", now=NOW + 210 * SECOND, progress=progress, error=""
    )
    newest, before = await store.read(queries.reconcile.runs, limit=9)
    assert (newest.id, newest.ended_at, newest.progress) == (second, NOW + 210 * SECOND, progress)
    assert (before.id, before.ended_at, before.reason) == (first, None, "interval")


async def test_no_run_where_there_was_one(store: Store) -> None:
    """Since a time; but one that failed does not count."""
    for second, error in ((0, ""), (100, "Port is away")):
        run = await begin(store, second=second)
        assert run is not None
        now = NOW + (second + 5) * SECOND
        await store.write(
            queries.reconcile.end, run, token="a", now=now, progress=ReconcileProgress(), error=error
        )
    assert await begin(store, second=300, since=-1) is None
    assert await begin(store, second=300, since=50) is not None
    newest, *_ = await store.read(queries.reconcile.runs, limit=9)
    assert newest.started_at == NOW + 300 * SECOND


@pytest.mark.parametrize("ended", [True, False])
async def test_a_clock_that_was_set_back(store: Store, ended: bool) -> None:
    """A run of the future hinders nobody: neither one that ended, nor one whose process died."""
    run = await begin(store, second=86_400)
    if ended:
        now = NOW + 86_405 * SECOND
        await store.write(
            queries.reconcile.end, run or 0, token="a", now=now, progress=ReconcileProgress(), error=""
        )
    assert await begin(store, second=86_400, since=86_390) is None
    assert await begin(store, since=-60) is not None


async def test_what_is_old_is_pruned(store: Store) -> None:
    """Entities that were deleted long ago, and old runs; what is known of others stays."""
    old, late = to_micros(NOW), to_micros(NOW + 60 * SECOND)
    gone = LastKnown({}, {}, exists=False, exists_at=old, moved_at=old)
    await store.write(
        queries.last_known.record_states,
        BLUEPRINT,
        {"a": gone, "b": replace(gone, moved_at=late), "c": replace(known(), moved_at=old)},
    )
    await begin(store)
    await begin(store, second=500)
    await store.prune(before=NOW + 30 * SECOND, limit=9)
    assert (await store.read(queries.last_known.last_known, BLUEPRINT, ["a", "b", "c"])).keys() == {"b", "c"}
    assert [run.started_at for run in await store.read(queries.reconcile.runs, limit=9)] == [
        NOW + 500 * SECOND
    ]
