"""Every operation of the store, each written once: ``await store.read(queries.counts.overview, since)``."""

from app.store.queries import (
    accept,
    changes,
    deliveries,
    last_known,
    messages,
    page,
    prune,
    queues,
    reconcile,
    reports,
    silences,
)

__all__ = [
    "accept",
    "changes",
    "deliveries",
    "last_known",
    "messages",
    "page",
    "prune",
    "queues",
    "reconcile",
    "reports",
    "silences",
]
