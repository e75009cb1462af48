"""Alerts on their way to a channel."""

from datetime import timedelta
from typing import Any

from app.model.incident import Step
from app.model.notification import Message, Notification, ValueChange
from app.notifier.base import Item, Parcel
from tests.notifier import helpers

APP, NOW = helpers.APP, helpers.NOW


def notification(entity: str = "checkout", **facts: Any) -> Notification:
    """Return what there is to say of an entity, which differs from the usual in `facts`."""
    usual = {"entity": entity, "title": entity.capitalize(), "teams": (), "links": ()}
    return helpers.notification(**(usual | facts))


def item(delivery_id: str, entity: str = "checkout", parent: Message | None = None, **facts: Any) -> Item:
    """Return one delivery on its way."""
    return Item(delivery_id, notification(entity, **facts), parent)


def parcel(*items: Item, **more: Any) -> Parcel:
    """Return what waits for a destination."""
    return Parcel(items, **more)


def resolved(entity: str = "checkout", **facts: Any) -> Notification:
    """Return what there is to say when all is well again."""
    well = ValueChange(name="healthStatus", before="Degraded", after="Healthy")
    since = {"opened_at": NOW - timedelta(minutes=5)}
    return notification(entity, **({"step": Step.RESOLVED, "change": well} | since | facts))
