"""What the API answers about incidents, who was told of them, and what it takes to act on one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.model.delivery import State
from app.model.incident import Severity
from app.model.notification import Message
from app.notifier.kind import FindLinks
from app.store import queries
from app.store.store import Store
from app.store.views import Delivery, IncidentRow
from app.web.api.models import Answer, Time, attributes_of


class EscalationOut(Answer):
    """Where an incident goes, and when."""

    destination: str
    at: datetime


class AlertOut(Answer):
    """The last alert of an incident in one place: who was told, and how."""

    destination: str
    queue: str
    state: State
    ended_at: datetime | None
    """When it was delivered or given up; null: it waits."""
    next_at: datetime | None
    detail: str
    """How the last attempt ended, or why its queue is on hold."""
    message_url: str | None
    """The message in Slack; null: it was sent by a webhook, which says no address, or Slack does not say."""
    delivery: int
    """The number of its delivery."""
    change: int
    """The number of its change."""


async def read_alerts(
    store: Store, incidents: Sequence[str], now: datetime, find_links: FindLinks
) -> dict[str, list[AlertOut]]:
    """Read who was told of incidents, by their ids: the alert that counts in each place.

    Args:
        store: The store.
        incidents: The incidents, by id.
        now: The time, UTC.
        find_links: Finds the addresses of messages.
    """
    rows = await store.read(queries.page.alerts_of, incidents, now)
    messages = await store.read(queries.messages.of_incidents, incidents)
    links = await find_links(messages.values())
    return {
        name: [
            AlertOut.model_validate(
                attributes_of(row)
                | {"delivery": row.id, "change": row.change_id, "message_url": _link(row, messages, links)}
            )
            for row in alerts
        ]
        for name, alerts in rows.items()
    }


def _link(
    row: Delivery, messages: Mapping[tuple[str, str], Message], links: Mapping[Message, str]
) -> str | None:
    message = messages.get((row.incident_id or "", row.queue)) if row.state is State.DELIVERED else None
    return links.get(message) if message else None


class IncidentOut(Answer):
    """What a rule finds wrong with an entity."""

    id: str
    rule: str
    blueprint: str
    entity: str
    title: str
    state: str
    severity: Severity
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None
    flapping: bool
    quiet: str | None
    """The id of the incident that explains it, or did: nobody is alerted while that is open."""
    cause: str
    """What that incident is about: `cluster eu-1, rule cluster-health`; empty: there is none."""
    acknowledged_at: datetime | None
    acknowledged_by: str
    """Who looks after it; empty: nobody."""
    version: int
    """Grows with each step and each acknowledgement."""
    escalations: list[EscalationOut]
    """Where it goes if nobody acknowledges it before."""
    alerts: list[AlertOut]
    """Who was told, and how."""

    @classmethod
    def of(cls, row: IncidentRow, alerts: Mapping[str, list[AlertOut]]) -> Self:
        """Make the answer from an incident, and who was told, by id; its title is that of its last alert."""
        title = row.last.title if row.last else row.incident.entity
        by = row.incident.acknowledged
        more = {"acknowledged_at": by and by.at, "acknowledged_by": by.by.name if by else "", "title": title}
        coming = [EscalationOut(destination=destination, at=at) for destination, at in row.escalations]
        others = {"escalations": coming, "cause": row.cause, "alerts": alerts.get(row.incident.id, [])}
        return cls.model_validate(attributes_of(row.incident) | more | others)


class IncidentActionIn(BaseModel):
    """Why, and for `silence` until when; without an end until the incident is over."""

    model_config = ConfigDict(extra="forbid")

    comment: Annotated[str, Field(max_length=500)] = ""
    ends_at: Time | None = None
    seconds: Annotated[int, Field(gt=0, le=366 * 86400)] | None = None
    """In place of `ends_at`: for how long."""

    @model_validator(mode="after")
    def _require_no_two_ends(self) -> Self:
        if self.ends_at is not None and self.seconds is not None:
            raise ValueError("give ends_at or seconds, not both")
        return self

    def end(self, now: datetime) -> datetime | None:
        """Give when it ends, UTC, as given or `seconds` from now; None: with the incident."""
        return now + timedelta(seconds=self.seconds) if self.seconds else self.ends_at
