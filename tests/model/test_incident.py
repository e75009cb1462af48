"""The life of an incident."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.model.incident import Incident, Step, advance

OPENED = datetime(2026, 6, 9, 12, tzinfo=UTC)
LATER = OPENED + timedelta(minutes=12)
OPEN = Incident("health-1", "health", "deploymentConfig", "checkout-prod", "Degraded", OPENED, OPENED)
CANDIDATE = replace(OPEN, id="health-2", state="Crashed", opened_at=LATER, changed_at=LATER)


def test_the_first_trouble_opens_one() -> None:
    """Without an open incident the candidate is the incident."""
    assert advance(None, candidate=CANDIDATE, resolves=False) == (Step.OPENED, CANDIDATE)


def test_the_next_trouble_changes_it() -> None:
    """An open incident keeps its id and its beginning, and takes the new state."""
    changed = replace(OPEN, state="Crashed", changed_at=LATER, version=2)
    assert advance(OPEN, candidate=CANDIDATE, resolves=False) == (Step.CHANGED, changed)


def test_the_end_of_the_trouble_resolves_it() -> None:
    """What fulfils the rule's end closes the open incident at the change's own time."""
    end = replace(CANDIDATE, state="Healthy")
    resolved = replace(OPEN, state="Healthy", changed_at=LATER, resolved_at=LATER, version=2)
    assert advance(OPEN, candidate=end, resolves=True) == (Step.RESOLVED, resolved)


def test_an_end_without_a_beginning_is_noticed() -> None:
    """Nothing opens where all is well."""
    assert advance(None, candidate=CANDIDATE, resolves=True) == (Step.NOTICED, None)
