"""Makes the alerts of a step of an incident, for each place that gets them; pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from app.model.delivery import Alert
from app.model.digest import STILL
from app.model.incident import Incident, Route, Step
from app.model.notification import Notification
from app.rules.match import Hit, Match
from app.rules.rule import UNNAMED


def places_of(told: Iterable[Route], routes: Iterable[Route]) -> tuple[Route, ...]:
    """List where an alert goes: where its rule sends now, and where its incident was told; no queue twice."""
    queue_of = {place.destination: place.queue for place in told}
    places: dict[str, Route] = {}
    for route in routes:
        # By the queue that it was told in: another one might be faster, and overtake it.
        queue = queue_of.get(route.destination, route.queue)
        places.setdefault(queue, Route(route.destination, queue, route.steps))
    for place in told:
        places.setdefault(place.queue, place)
    return tuple(places.values())


def make_alerts(
    hit: Hit,
    matched: Match,
    step: Step,
    incident: Incident | None,
    *,
    due_at: datetime | None = None,
    repeat: timedelta | None = None,
    **facts: Any,
) -> tuple[Alert, ...]:
    """Make the alerts of a step, one for each route of a hit that wants the step.

    Args:
        hit: The rule, and where its alerts go.
        matched: The change.
        step: The step.
        incident: The incident after it; None: there is none.
        due_at: Not to be sent before this time, UTC; None: at once.
        repeat: The time after which to repeat it.
        facts: Further attributes of the notification.
    """
    change, rule = matched.change, hit.rule
    openings = incident.openings if incident and step is Step.OPENED else ()
    main = rule.main(change)
    notification = Notification.about(
        change,
        main,
        matched.changes,
        rule=rule.name,
        severity=incident.severity if incident else rule.severity_of(change, hit.state),
        step=step,
        limit=rule.limit(change),
        state=hit.state if main is None and hit.state != UNNAMED and any(rule.programs()) else "",
        opened_at=incident.opened_at if incident else None,
        times=len(openings),
        last_at=openings[-2] if len(openings) > 1 else None,
        ended=incident.resolved_at is not None if incident else hit.resolves,
        acknowledged=incident.acknowledged if incident else None,
        version=incident.version if incident else 0,
        **facts,
    )
    # A reminder shows when it is sent; what waits shows when it happened.
    if due_at is not None and step in STILL:
        notification = notification.model_copy(update={"at": due_at})
    incident_id = incident.id if incident else None
    return tuple(
        Alert(route.destination, route.queue, notification, incident_id, due_at, repeat)
        for route in hit.routes
        if step.of_job(ended=notification.ended) in route.steps
    )
