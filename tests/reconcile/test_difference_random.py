"""Random lives of one entity: changes come late, in another order or never, comparisons in between."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.times import to_micros
from app.port.listing import ListedEntity
from app.reconcile.difference import EntityDifference, compare
from app.rules.rule import Rule
from tests.rules.changes import NOW, rule
from tests.rules.watched_life import HEALTH, SECOND, WatchedLife, entity, moved

STATES = ("Healthy", "Degraded", "Crashed")
ANY_CHANGE: Rule = rule(name="any", when={"property": "healthStatus"})
"""Without an incident: nothing but what is known keeps it from telling something twice."""


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[float, str, int]]:
    """What happens, in order: changes, the arrival of their webhooks, if they arrive, and comparisons."""
    number = draw(st.integers(1, 6))
    happened = sorted(draw(st.lists(st.integers(1, 60), min_size=number, max_size=number, unique=True)))
    events: list[tuple[float, str, int]] = [(at * 10.0, "change", i) for i, at in enumerate(happened)]
    for i, at in enumerate(happened):
        if draw(st.booleans()):
            events.append((at * 10 + draw(st.integers(1, 300)) + 0.3, "webhook", i))
    events += [
        (at * 10 + 5.6, "compare", 0) for at in draw(st.lists(st.integers(1, 90), max_size=6, unique=True))
    ]
    return sorted(events)


@settings(max_examples=500, deadline=None)
@given(lives(), st.lists(st.sampled_from((1, 2)), min_size=6, max_size=6), st.floats(-0.9, 0.9))
def test_never_two_alerts_never_none(
    events: list[tuple[float, str, int]], steps: list[int], skew: float
) -> None:
    """No change is told by its webhook and by a comparison; and in the end what is known is what is so."""
    life = WatchedLife(ANY_CHANGE)
    values, times = ["Healthy"], [0.0]
    told: set[int] = set()
    for at, what, i in [*events, (2_000.0, "compare", 0)]:
        before = len(life.alerts)
        if what == "change":
            values.append(STATES[(STATES.index(values[-1]) + steps[i]) % 3])
            times.append(at)
            continue
        if what == "webhook":
            life.take(moved(values[i], values[i + 1], times[i + 1] + skew))
            alerts = len(life.alerts) - before
            assert alerts == (0 if i + 1 in told else 1), (i, told)
            told.add(i + 1)
            continue
        asked_at = NOW + at * SECOND
        listed = ListedEntity(entity(values[-1]), NOW + times[-1] * SECOND)
        known = life.state.known
        found = compare(known, listed, HEALTH, asked_at=asked_at, first=False, now=asked_at)
        if isinstance(found, EntityDifference) and found.action == "UPDATE":
            assert known is not None
            known_value = known.values["properties.healthStatus"]
            since = known.times["properties.healthStatus"]
            life.take(moved(known_value, values[-1], times[-1]), reconciled=True)
            assert len(life.alerts) == before + 1
            told |= {
                j for j, time in enumerate(times) if j and since < to_micros(NOW + (time + skew) * SECOND)
            }
    assert life.state.known is not None
    assert life.state.known.values["properties.healthStatus"] == values[-1]
