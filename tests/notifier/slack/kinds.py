"""One message of every kind that a channel may get, by what it is about."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.model.incident import Acknowledgement, Person, Step
from app.model.notification import Notification, Part, ValueChange
from app.notifier.base import Item, Story
from app.notifier.slack.compose import compose, recompose
from tests.notifier.helpers import APP, NOW, notification
from tests.notifier.slack.helpers import parcel

PAGE = "https://listener.example.com"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LASTED: dict[str, Any] = {"opened_at": NOW - 12 * MINUTE}
OVER: dict[str, Any] = {"step": Step.RESOLVED, "ended": True, **LASTED}
FLAPS: dict[str, Any] = {"moves": 4, "window": 30 * MINUTE, **LASTED}
BY_ADA = Acknowledgement(NOW - 5 * MINUTE, Person("Ada", "slack", "U1ADA"))
ON_HOLD = "for payments, which is on hold: 410 channel_is_archived"


def status(before: Any, after: Any, name: str = "healthStatus", **facts: Any) -> Notification:
    """Return an alert of Payments, by the rule `health`."""
    change = ValueChange(name=name, before=before, after=after)
    return notification(**({"entity": "payments", "title": "Payments", "change": change} | facts))


def down(**facts: Any) -> Notification:
    """Return an alert of a status whose words have no marks."""
    return status("Up", "Down", "status", **({"severity": "critical", "rule": "uptime"} | facts))


def crashed(**facts: Any) -> Notification:
    """Return a critical alert."""
    return status("Healthy", "Crashed", **({"severity": "critical"} | facts))


def cpu(before: Any, after: Any, **facts: Any) -> Notification:
    """Return an alert of a number."""
    usual = {"entity": "orders-db", "title": "Orders DB", "rule": "database-cpu", "blueprint": "database"}
    return status(before, after, "cpuUtil", **(usual | facts))


def whole(
    action: str, before: EntitySnapshot | None, after: EntitySnapshot | None, **facts: Any
) -> Notification:
    """Return the alert of a change, made as the listener makes it."""
    entity = after or before
    assert entity is not None
    change = CatalogChange(
        "k", action, "entity", entity.blueprint, entity.identifier, entity.title or entity.identifier, (),
        before, after, "ada@example.com", "UI", NOW,
    )  # fmt: skip
    changes = diff(before, after)
    main = next((one for one in changes if one.name in ("healthStatus", "result")), None)
    usual = {"rule": "catalog", "step": Step.NOTICED}
    return Notification.about(change, main, changes, **(usual | facts))


SERVICE = EntitySnapshot("billing", "service", "Billing", properties={"healthStatus": "Crashed", "tier": 1})
RESULT = EntitySnapshot(
    "ready_owner_billing",
    "_rule_result",
    "Has an owner",
    properties={"result": "Passed", "entity": "billing"},
)
FAILED = EntitySnapshot(
    "ready_owner_billing",
    "_rule_result",
    "Has an owner",
    properties={"result": "Not passed", "entity": "billing"},
)

UP = ValueChange(name="status", before="Down", after="Up")
ALERTS: dict[str, Notification] = {
    "opened": status("Healthy", "Degraded"),
    "opened, critical": crashed(mention="<!here>"),
    "opened, a status without marks": down(),
    "opened, info": status("Healthy", "Restarting", severity="info"),
    "opened, critical though its value's mark is orange": status("Healthy", "Degraded", severity="critical"),
    "opened, a number": cpu(45, 91, severity="critical", limit="above 80"),
    "opened, a fraction": cpu(0.1 + 0.2, 0.95, limit="above 0.9"),
    "opened for the third time": crashed(times=3, last_at=NOW - 2 * HOUR),
    "opened for the 21st time": crashed(times=21, last_at=NOW - 3 * MINUTE),
    "opened, with its rule's own words": crashed(
        own_title=(Part("Checkout is on fire", True),), message=(Part("Call ", True), Part("*Ada*", False))
    ),
    "changed": status("Degraded", "Restarting", step=Step.CHANGED, **LASTED),
    "got worse": status("Degraded", "Crashed", severity="critical", step=Step.CHANGED, worse=True, **LASTED),
    "got better": status("Crashed", "Degraded", step=Step.CHANGED, better=True, **LASTED),
    "resolved": status("Crashed", "Healthy", severity="critical", **OVER),
    "resolved, a status without marks": down(change=UP, **OVER),
    "resolved, a number": cpu(91, 60, limit="below 70", **OVER),
    "resolved, though nothing had opened": status("Down", "Up", "status", step=Step.NOTICED, ended=True),
    "reminder": down(step=Step.REMINDED, opened_at=NOW - 2 * HOUR, mention="<!here>"),
    "reminder, a number": cpu(45, 91, step=Step.REMINDED, limit="above 80", **LASTED),
    "reminder, of no value": status(None, None, change=None, step=Step.REMINDED, **LASTED),
    "flapping": status("Healthy", "Degraded", step=Step.FLAPPING, **FLAPS),
    "flapping, well at the moment": status("Degraded", "Healthy", step=Step.FLAPPING, ended=True, **FLAPS),
    "flapping, a status without marks": down(step=Step.FLAPPING, **FLAPS),
    "settled, still open": status("Healthy", "Degraded", step=Step.SETTLED, **FLAPS),
    "settled, over": status("Degraded", "Healthy", step=Step.SETTLED, ended=True, **FLAPS),
    "created": whole("CREATE", None, EntitySnapshot("billing", "service", "Billing", properties={"tier": 1})),
    "created, crashed": whole("CREATE", None, SERVICE, severity="critical", step=Step.OPENED),
    "deleted": whole("DELETE", EntitySnapshot("billing", "service", "Billing"), None, severity="critical"),
    "deleted while crashed": whole("DELETE", SERVICE, None, severity="critical", **OVER),
    "deleted while above": cpu(91, None, action="DELETE", **OVER),
    "timer": status(None, None, change=None, action="TIMER_EXPIRED", timer="expiresAt"),
    "relation": status("checkout", "billing", "relations.service", step=Step.NOTICED),
    "relation, none before": status(None, "billing", "relations.service", step=Step.NOTICED),
    "team": status(["Rocket"], ["Rocket", "Payments"], "team", step=Step.NOTICED),
    "title": status("Pay", "Payments", "title", step=Step.NOTICED, severity="info"),
    "jq, with a state": status(None, None, change=None, state="Bronze", severity="critical"),
    "jq, true": status(None, None, change=None),
    "a scorecard's rule": whole("UPDATE", RESULT, FAILED),
    "late": status("Healthy", "Degraded", step=Step.NOTICED, late=True),
    "late, an end": status("Degraded", "Healthy", step=Step.NOTICED, late=True, ended=True),
    "an empty value": status("", " ", "owner", step=Step.NOTICED),
    "found by reconciling": status("Healthy", "Degraded", actor="", origin="reconcile"),
    "closed": crashed(**LASTED).closing("rule 'health' is no longer in the rules file", NOW),
    "for a destination on hold": crashed(instead=ON_HOLD),
    "for a destination on hold, nobody knows why": crashed(instead="for rocket, which is on hold: 502"),
    "acknowledged": crashed(step=Step.ACKNOWLEDGED, acknowledged=BY_ADA, **LASTED),
    "a reminder of one that is acknowledged": down(step=Step.REMINDED, acknowledged=BY_ADA, **LASTED),
    "got worse, acknowledged before": status("Degraded", "Crashed", severity="critical", step=Step.CHANGED,
                                             worse=True, unacknowledged="Ada", **LASTED),
    "escalated": crashed(step=Step.ESCALATED, window=15 * MINUTE, mention="<!here>", **LASTED),
    "a cause": down(title="eu-1", rule="cluster-health", below="11 below it: 9 degraded, 2 crashed"),
    "quiet until now": status("Healthy", "Degraded", was_quiet="cluster eu-1 was Down for 12 min", **LASTED),
    "affects others": crashed(affected="3 depend on it: Checkout, Billing, Mail"),
    "a group": status(None, None, change=None, title="Rocket", entity="Rocket", blueprint="team",
                      rule="several", state="3 or more open", below="5 open now: 4 degraded, 1 crashed",
                      members=("Checkout: Crashed", "and 4 more")),
    "a group, over": status(None, None, change=None, title="Rocket", entity="Rocket", blueprint="team",
                            rule="several", state="2 or fewer open", below="", members=(), **OVER),
    "for a channel that the catalog names": crashed(instead="for #team-pay of teams: channel_not_found"),
    "notice": Notification.notice("Destination payments is on hold: 410 channel_is_archived.", NOW),
    "markup in the catalog": status("*b*", "<!channel>", "status", title="_Pay_ <b>", entity="a*b"),
}  # fmt: skip


def _entities(number: int, **facts: Any) -> list[Notification]:
    return [down(entity=f"service-{one}", title=f"Service {one}", **facts) for one in range(number)]


DIGESTS: dict[str, tuple[Notification, ...]] = {
    "digest of one: met again": (
        status("Met", "AtRisk", "slo", at=NOW, rule="slo", title="Billing"),
        status("AtRisk", "Met", "slo", rule="slo", title="Billing", at=NOW + 36 * MINUTE,
               step=Step.RESOLVED, ended=True, opened_at=NOW),
    ),
    "digest of one: still open": (
        status("Healthy", "Degraded"),
        status("Degraded", "Crashed", severity="critical", step=Step.CHANGED, worse=True, at=NOW + MINUTE,
               opened_at=NOW),
    ),
    "digest of one and a notice": (
        Notification.notice("Destination payments is on hold: 410 channel_is_archived.", NOW),
        crashed(instead=ON_HOLD),
    ),
    "digest of two": (crashed(), status("Healthy", "Degraded", entity="billing", title="Billing")),
    "digest of three, one a number": (
        crashed(), cpu(45, 91, severity="critical", limit="above 80"),
        cpu(80, 60, entity="b", title="B DB", **OVER),
    ),
    "digest of all kinds": tuple(alert.but(entity=kind, title=kind.capitalize())
                                 for kind, alert in ALERTS.items() if alert.step is not Step.NOTICE),
    "digest of 40": (
        *_entities(38), *(crashed(entity=str(one), title=f"App {one}", **OVER) for one in range(2))
    ),
    "digest of reminders": tuple(_entities(3, step=Step.REMINDED, opened_at=NOW - 2 * HOUR)),
    "digest of those flapping": tuple(_entities(2, step=Step.FLAPPING, **FLAPS)),
    "digest of those deleted": tuple(
        cpu(91, None, action="DELETE", entity=str(one), title=f"DB {one}", **OVER) for one in range(2)
    ),
    "digest of 1,000": tuple(_entities(1000)),
}  # fmt: skip


def messages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each kind of message with its name: alerts, their messages once updated, digests, and a test."""
    for kind, alert in ALERTS.items():
        yield kind, compose(parcel(Item("a", alert)), APP, page_url=PAGE).message
    for kind in ("got worse", "resolved", "reminder", "flapping", "settled, over", "deleted while crashed"):
        yield f"{kind}, updated", recompose([Story(ALERTS["opened"], ALERTS[kind])], APP, page_url=PAGE)
    for kind, alerts in DIGESTS.items():
        items = [Item(str(number), alert) for number, alert in enumerate(alerts)]
        yield kind, compose(parcel(*items), APP, page_url=PAGE).message
    items = [Item(str(number), alert) for number, alert in enumerate(_entities(1000))]
    counts = {"critical": 1200, "resolved": 300}
    yield "digest of 1,500", compose(parcel(*items, more=500, counts=counts), APP, page_url=PAGE).message
    stories = [Story(first, first) for first in DIGESTS["digest of two"]]
    yield "digest, updated", recompose(stories, APP)
    yield "test", {"text": "A test of this channel."}
