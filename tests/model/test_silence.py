"""What a silence covers."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.model.incident import Step
from app.model.notification import Notification
from app.model.silence import Silence, silence_of
from tests.rules.changes import NOW

ALL = Silence("*", "*", "*", "*", NOW, NOW + timedelta(hours=1), "ada", "deploy")


def notification(**facts: Any) -> Notification:
    """An alert of the team Rocket that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "step": Step.OPENED,
        "rule": "health",
        "blueprint": "deploymentConfig",
        "entity": "notification-service-prod",
        "title": "Notification Service",
        "teams": ("Rocket",),
        "change": None,
        "at": NOW,
    }
    return Notification(**(usual | facts))


@pytest.mark.parametrize(
    ("patterns", "covers"),
    [
        ({}, True),
        ({"rule": "health"}, True),
        ({"rule": "heal*"}, True),
        ({"rule": "Health"}, False),
        ({"blueprint": "deployment?onfig"}, True),
        ({"entity": "notification-*-prod"}, True),
        ({"entity": "notification"}, False),
        ({"team": "Rock[ae]t"}, True),
        ({"team": "Payments"}, False),
        ({"rule": "health", "team": "Payments"}, False),
        ({"rule": "health", "blueprint": "*Config", "entity": "*-prod", "team": "R*"}, True),
    ],
)
def test_patterns(patterns: dict[str, str], covers: bool) -> None:
    """Each pattern must fit the whole name, and its case."""
    changed: dict[str, Any] = dict(patterns)
    assert replace(ALL, **changed).covers(notification()) is covers


def test_teams() -> None:
    """One team of several is enough; an entity without a team is covered by no team's silence."""
    rocket = replace(ALL, team="Rocket")
    assert rocket.covers(notification(teams=("Payments", "Rocket")))
    assert not rocket.covers(notification(teams=()))
    assert ALL.covers(notification(teams=()))


def test_the_listeners_own_words_are_never_silenced() -> None:
    """That a destination is on hold must be heard."""
    assert not ALL.covers(Notification.notice("Destination x is on hold", NOW))


def test_times() -> None:
    """It silences from its begin until just before its end."""
    assert ALL.is_active(NOW)
    assert not ALL.is_active(NOW - timedelta(seconds=1))
    assert not ALL.is_active(NOW + timedelta(hours=1))


def test_of_several_the_one_that_ends_last_counts() -> None:
    """So that nothing is told when the first one ends."""
    longer = replace(ALL, id=2, ends_at=NOW + timedelta(hours=2))
    assert silence_of(notification(), [replace(ALL, id=1), longer]) == longer
    assert silence_of(notification(), [replace(ALL, rule="other")]) is None
