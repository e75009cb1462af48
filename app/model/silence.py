"""Silences: alerts that are suppressed for a while."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from app.model.incident import Step
from app.model.notification import Notification

ANY = "*"


@dataclass(frozen=True, slots=True)
class Silence:
    """What is silenced, until when, by whom and why. Each of the four patterns must fit: `*`, `?`, `[…]`.

    Attributes:
        rule: The rule's name.
        blueprint: The entity's blueprint.
        entity: The entity's identifier.
        team: One of the owning teams; `*`: also an entity that has none.
        starts_at: From when on, UTC.
        ends_at: Until when, UTC.
        author: Who silenced it.
        comment: Why.
        id: Its number in the store; 0: it is in none yet.
        silenced: How many alerts it has silenced.
        incident_id: The incident with whose end it ends, if that comes first; None: with none.
    """

    rule: str
    blueprint: str
    entity: str
    team: str
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    id: int = 0
    silenced: int = 0
    incident_id: str | None = None

    def covers(self, notification: Notification) -> bool:
        """Tell whether it suppresses an alert. A notice of the listener itself is never silenced."""
        return notification.step is not Step.NOTICE and self.fits(
            notification.rule, notification.blueprint, notification.entity, notification.teams
        )

    def fits(self, rule: str, blueprint: str, entity: str, teams: Iterable[str]) -> bool:
        """Tell whether the four patterns fit a rule's alerts of an entity."""
        return (
            fnmatchcase(rule, self.rule)
            and fnmatchcase(blueprint, self.blueprint)
            and fnmatchcase(entity, self.entity)
            # An entity without a team is covered by `*` only.
            and (self.team == ANY or any(fnmatchcase(team, self.team) for team in teams))
        )

    def is_active(self, now: datetime) -> bool:
        """Tell whether it silences at a time, UTC."""
        return self.starts_at <= now < self.ends_at


@dataclass(frozen=True, slots=True)
class SilencePreview:
    """What a silence would cover.

    Attributes:
        incidents: How many open incidents.
        alerts: How many alerts of the last 24 hours.
    """

    incidents: int
    alerts: int


def silence_of(notification: Notification, silences: Iterable[Silence]) -> Silence | None:
    """Find the silence that covers an alert; of several the one that ends last; None if none does."""
    covering = (silence for silence in silences if silence.covers(notification))
    return max(covering, key=lambda silence: silence.ends_at, default=None)
