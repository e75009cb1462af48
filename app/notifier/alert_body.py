"""What a job gets of an alert: its default body, and `.alert` in its templates."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from app.model.digest import is_over
from app.model.incident import Severity, Step
from app.model.notification import Notification, ValueChange, text_of
from app.notifier.base import Item, entity_url, page_of
from app.notifier.kind import NotifierContext
from app.notifier.words import mark_of, words_of

VERSION: Literal[1] = 1
MAX_ENVELOPE_BYTES = 100


class AlertLinks(BaseModel):
    """Where an alert leads."""

    port: str | None
    """The entity's page in Port, or the run's; null: the alert is about no entity."""
    page: str | None
    """The entity's history on the listener's own page; null: `PAGE_URL` is not set."""
    properties: dict[str, str]
    """The entity's own URL properties by name, 5 at most."""


class AlertBody(BaseModel):
    """An alert as a job gets it. New keys may come at any time; `version` grows if one changes or goes."""

    model_config = ConfigDict(
        title="Alert", use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )

    version: Literal[1] = VERSION
    """The version of this form."""
    rule: str
    """The rule's name; empty: the listener itself has something to say."""
    step: Step
    """The step of the incident; `noticed`: there is none, `notice`: the listener itself speaks."""
    severity: Severity
    """How bad it is, or was if it is over."""
    state: str
    """The new value of the rule's property, as text, or what its jq program gave; else empty."""
    opened_at: AwareDatetime | None
    """When the incident opened; null: there is none."""
    duration_seconds: int | None
    """For how long the incident had been open at `at`, or was; null: there is none."""
    incident: str | None
    """The incident's id, the same at each of its steps and for no other incident: the dedup key of a pager;
    null: there is none."""
    key: str
    """The same at every attempt at this alert, and for no other alert: an idempotency key."""
    links: AlertLinks
    """Where it leads."""
    labels: dict[str, str]
    """`rule`, `severity`, `blueprint`, `entity` and, if it has owners, `team`, to group and to route by."""
    text: str
    """The alert in one sentence, in the words that Slack shows, without markup."""
    message: str
    """The rule's own message; empty: it has none."""
    at: AwareDatetime
    """When it happened."""
    action: str
    """`CREATE`, `UPDATE`, `DELETE` or `TIMER_EXPIRED`; `CLOSED`: no change ended the incident."""
    resource: str
    """`entity`, or `run`: a run of an action, whose id and blueprint stand in the place of an entity's."""
    blueprint: str
    """The entity's blueprint."""
    entity: str
    """The entity's identifier."""
    title: str
    """The rule's own title, else the entity's, else its identifier."""
    teams: tuple[str, ...]
    """The owning teams."""
    change: ValueChange | None
    """The value that the rule is about; null: it is about none."""
    others: tuple[ValueChange, ...]
    """What else changed, 50 values at most."""
    actor: str
    """Who or what did it; empty: that is not known."""
    origin: str
    """Where it was done; `reconcile`: the listener found it in Port."""
    over: bool
    """The incident is over by now, even if the alert is of its beginning: it must open no page any more."""
    closed: str
    """Why it is over, if no change ended it."""
    late: bool
    """A newer change of the entity was seen before this one."""
    worse: bool
    """The change made the incident more severe."""
    acknowledged_at: AwareDatetime | None
    """Since when somebody looks after the incident; null: nobody does."""
    acknowledged_by: str
    """Who does; empty: nobody."""
    instead: str
    """For a fallback or a default: in whose place it gets the alert, and why; else empty."""
    below: str
    """What is quiet because of the incident: `11 below it: 9 degraded, 2 crashed`; empty: nothing."""
    affected: str
    """What depends on the entity: `affects 12: checkout, billing, … and 2 more`; empty: that is not asked."""
    members: tuple[str, ...]
    """Of a group what of it is open, as `entity: state`, the worst 10, and how many more."""
    was_quiet: str
    """Why it alerts now, if it was quiet before: by another incident, or outside of hours; else empty."""


def alert_body(item: Item, context: NotifierContext) -> AlertBody:
    """Make what a job gets of one delivery."""
    alert, words = item.notification, words_of(item.notification)
    page = context.page_url if alert.entity else None
    opened_at, about = alert.opened_at, (alert.blueprint, alert.entity, alert.resource)
    team = {"team": ", ".join(alert.teams)} if alert.teams else {}
    return AlertBody(
        rule=alert.rule,
        step=alert.step,
        severity=alert.severity,
        state=_state(alert),
        opened_at=opened_at,
        duration_seconds=None if opened_at is None else max(0, int((alert.at - opened_at).total_seconds())),
        incident=item.incident_id,
        key=item.delivery_id,
        links=AlertLinks(
            port=entity_url(context.app_url, *about) if alert.entity else None,
            page=page_of(page, alert.blueprint, alert.entity) if page else None,
            properties={link.name: link.url for link in alert.links},
        ),
        labels={name: getattr(alert, name) for name in ("rule", "severity", "blueprint", "entity")} | team,
        text=f"{mark_of(alert)} {words.sentence()}",
        message="".join(part.text for part in alert.message),
        at=alert.at,
        action=alert.action,
        resource=alert.resource,
        blueprint=alert.blueprint,
        entity=alert.entity,
        title=words.title(),
        teams=alert.teams,
        change=alert.change,
        others=alert.others,
        actor=alert.actor,
        origin=alert.origin,
        over=item.over or is_over(alert),
        closed=alert.closed,
        late=alert.late,
        worse=alert.worse,
        acknowledged_at=alert.acknowledged.at if alert.acknowledged else None,
        acknowledged_by=alert.acknowledged.by.name if alert.acknowledged else "",
        instead=words.instead(),
        below=alert.below or "",
        affected=alert.affected,
        members=alert.members or (),
        was_quiet=alert.was_quiet,
    )


def digest_of(
    items: Sequence[Item], context: NotifierContext, most_bytes: int
) -> tuple[dict[str, Any], tuple[Item, ...]]:
    """Make what a job gets of several deliveries at once, of as many as have room.

    Args:
        items: The deliveries, in their order; the first has room in any case.
        context: What notifiers are made with.
        most_bytes: How long it may be as JSON.

    Returns:
        The body, ``{"version": 1, "alerts": [...]}``, and the deliveries in it.
    """
    alerts: list[dict[str, Any]] = []
    room = most_bytes - MAX_ENVELOPE_BYTES
    for item in items:
        alert = alert_body(item, context).model_dump(mode="json")
        room -= len(json.dumps(alert)) + 1
        if room < 0 and alerts:
            break
        alerts.append(alert)
    return {"version": VERSION, "alerts": alerts}, tuple(items[: len(alerts)])


def digest_id(delivery_ids: Sequence[str]) -> str:
    """Name a digest by its deliveries: the same for the same ones, and for no others."""
    return f"digest-{sha256(' '.join(delivery_ids).encode()).hexdigest()[:32]}"


def alert_event(event: Mapping[str, Any], item: Item, context: NotifierContext) -> dict[str, Any]:
    """Give what a job's templates see: Port's bare event, and beside it the alert as `.alert`."""
    return {**event, "alert": alert_body(item, context).model_dump(mode="json")}


def _state(alert: Notification) -> str:
    return text_of(alert.change.after) if alert.change else alert.state
