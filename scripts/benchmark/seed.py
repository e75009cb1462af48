"""Fills a store past `accept`, row by row in its own tables: a million real requests take minutes."""

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.demo.run import change_body
from app.model.incident import Step
from app.model.notification import Notification, ValueChange
from app.model.times import to_micros
from app.store.rows import notification_json
from app.store.sqlite.schema import prepare

ENTITIES = 20_000
BLUEPRINTS = 20
TEAMS = 50
RULES = 30
OPEN = 500
BATCH = 20_000
SPACING = timedelta(seconds=2)
CHANGES = (
    "INSERT INTO changes (id, key, received_at, at, action, resource, blueprint, entity, teams, reason,"
    " alerts, body) VALUES (?, ?, ?, ?, 'UPDATE', 'entity', ?, ?, ?, ?, ?, ?)"
)
DELIVERIES = (
    "INSERT INTO deliveries (id, change_id, incident_id, queue, destination, rule, step, severity, kind,"
    " notification, state, due_at, created_at, waiting_since, ended_at)"
    " VALUES (?, ?, ?, ?, ?, ?, 'opened', 'critical', 'alert', ?, ?, 0, ?, ?, ?)"
)
ATTEMPTS = (
    "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
    " VALUES (?, 'delivered', 'ok', ?, ?)"
)


@dataclass(frozen=True)
class Contents:
    """What a store is to hold.

    Attributes:
        changes: How many changes.
        alerts_every: Which of them have alerted.
        waiting: The alerts of the last so many changes still wait; of the others each thousandth is dead.
        queue: In which queue: `default`, or `on_hold`, whose webhook is gone.
    """

    changes: int
    alerts_every: int = 4
    waiting: int = 1000
    queue: str = "on_hold"


def fill(path: Path, contents: Contents) -> None:
    """Write changes, deliveries, attempts and incidents into a new file."""
    prepare(path)
    rows = _Rows(contents)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        # Nobody else has the file, and if this fails it is thrown away.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        indexes = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:  # to make them of what is there takes a third of the time
            db.execute(f"DROP INDEX {name}")
        db.execute("INSERT INTO queues (name, destination) VALUES ('default', 'default')")
        db.execute(
            "INSERT INTO queues (name, destination, on_hold) VALUES ('on_hold', 'on_hold', '404 no_service')"
        )
        for first in range(1, contents.changes + 1, BATCH):
            batch = range(first, min(first + BATCH, contents.changes + 1))
            alerting = [number for number in batch if number % contents.alerts_every == 0]
            db.executemany(CHANGES, map(rows.change, batch))
            db.executemany(
                "INSERT OR IGNORE INTO entities VALUES (?, ?)", {_names(number)[1::-1] for number in batch}
            )
            db.executemany(DELIVERIES, map(rows.delivery, alerting))
            db.executemany(ATTEMPTS, (rows.attempt(number) for number in alerting if not rows.waits(number)))
            db.executemany(
                "INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at,"
                " resolved_at, due_at, severity, moves, flapping, told, openings)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                map(rows.incident, alerting),
            )
        for _, statement in indexes:
            db.execute(statement)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")
    os.sync()  # so that nobody's fsync waits for this


def _names(number: int) -> tuple[str, str, str]:
    entity = number * 7919 % ENTITIES
    return f"blueprint-{entity % BLUEPRINTS}", f"service-{entity:05}-prod", f"team-{entity % TEAMS}"


def _rule(number: int) -> str:
    return f"rule-{number % RULES}"


class _Rows:
    """The rows of each table, by the change's number."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        start = datetime.now(UTC) - SPACING * contents.changes
        self._first, self._apart = to_micros(start), SPACING // timedelta(microseconds=1)
        before, after = "Healthy", "Degraded"
        body = change_body(before=before, after=after, at=start, entity="ENTITY")
        self._body = body.decode()
        self._notification = notification_json(
            Notification(
                step=Step.OPENED,
                rule="RULE",
                blueprint="BLUEPRINT",
                entity="ENTITY",
                title="Service ENTITY",
                teams=("TEAM",),
                change=ValueChange(name="healthStatus", before=before, after=after),
                at=start,
            )
        )

    def waits(self, number: int) -> bool:
        """Return whether its alert waits."""
        return number > self._contents.changes - self._contents.waiting

    def change(self, number: int) -> tuple[Any, ...]:
        blueprint, entity, team = _names(number)
        alerts = int(number % self._contents.alerts_every == 0)
        reason = f"rule '{_rule(number)}' matches" if alerts else "rule 'health': healthStatus did not change"
        key, at = hashlib.sha256(b"%d" % number).hexdigest(), self._at(number)
        body = self._body.replace("ENTITY", entity).encode()
        return number, key, at, at, blueprint, entity, json.dumps([team]), reason, alerts, body

    def delivery(self, number: int) -> tuple[Any, ...]:
        blueprint, entity, team = _names(number)
        notification = self._notification.replace("RULE", _rule(number)).replace("BLUEPRINT", blueprint)
        notification = notification.replace("ENTITY", entity).replace("TEAM", team)
        at, waits = self._at(number), self.waits(number)
        state = "pending" if waits else "dead" if number % 1000 == 0 else "delivered"
        queue = self._contents.queue if waits else "default"
        return (
            *(number, number, f"incident-{number}", queue, queue, _rule(number), notification),
            *(state, at, at, None if waits else at),
        )

    def attempt(self, number: int) -> tuple[Any, ...]:
        return number, self._at(number), self._at(number) + 200_000

    def incident(self, number: int) -> tuple[Any, ...]:
        blueprint, entity, _ = _names(number)
        at = self._at(number)
        ended = (
            None
            if number > self._contents.changes - OPEN * self._contents.alerts_every
            else self._at(number + 5)
        )
        severity = "critical" if number % 8 else "warning"
        return (
            *(f"incident-{number}", _rule(number), blueprint, entity, "Degraded", at, at, ended),
            *(None, severity, "[]", 0, "[]", "[]"),
        )

    def _at(self, number: int) -> int:
        return self._first + self._apart * number
