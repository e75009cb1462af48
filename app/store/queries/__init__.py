"""Every operation of the store, each written once: ``await store.read(queries.counts.overview, since)``."""

from app.store.queries import (
    accept,
    audit,
    changes,
    counts,
    deliveries,
    fallbacks,
    incidents,
    last_known,
    messages,
    page,
    prune,
    quarantine,
    queues,
    reconcile,
    reports,
    silences,
)

__all__ = [
    "accept",
    "audit",
    "changes",
    "counts",
    "deliveries",
    "fallbacks",
    "incidents",
    "last_known",
    "messages",
    "page",
    "prune",
    "quarantine",
    "queues",
    "reconcile",
    "reports",
    "silences",
]
