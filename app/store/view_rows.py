"""How the rows of `Views` stand in the columns of a table, and where pages begin: the same in every store."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from app.model.delivery import Outcome
from app.model.incident import Step
from app.model.notification import Notification
from app.store.columns import delivery_of, from_micros, incident_of, to_micros
from app.store.views import AttemptRow, AuditRow, ChangeRow, DeliveryRow, IncidentRow, Page, QuarantineRow

LOOK_AT_MOST = 10_000
"""How many changes that may fit are looked at for one page, so that none takes long."""
MANY_NAMES = 100
LARGE_BODY = 64 * 1024
FIRST_BYTES = 2_000
END = 2**63 - 1
PROCESSES_DIFFER = timedelta(seconds=30)  # numbers follow arrival, but not to the second between processes
OWN = (
    "id",
    "key",
    "received_at",
    "at",
    "action",
    "resource",
    "blueprint",
    "entity",
    "teams",
    "reason",
    "alerts",
)
CHANGE = ", ".join(OWN)
"""The columns of a change, before its body."""
INCIDENTS = (
    "SELECT blueprint, entity, id, rule, state, opened_at, changed_at, resolved_at, due_at, severity, moves,"
    "  flapping, (SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    "   ORDER BY deliveries.id DESC LIMIT 1)"
    " FROM incidents"
)
WORST = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at"
QUARANTINE = "length(body), signed_at, received_at, path, reason FROM quarantine"
AUDIT = "SELECT at, who, what, details, id FROM audit"
SEEN = ("changes", "attempts", "audit", "silences", "quarantine")
"""The tables to which a row is added whenever there is something new to see."""


@dataclass(slots=True)
class Walk:
    """A walk over the numbers of changes that may fit, newest first, until a page is full or it takes long.

    Attributes:
        limit: How many a page holds.
        found: Those that fit.
        last: The last that was looked at.
        stopped: Whether there may be more behind it.
    """

    limit: int
    found: list[int] = field(default_factory=list)
    last: int = 0
    stopped: bool = False
    _looked_at: int = 0

    def takes(self, number: int, fits: object) -> bool:
        """Look at a number, which may come several times in a row; False: the walk has stopped before it."""
        if number == self.last:
            return True
        if len(self.found) == self.limit or self._looked_at == LOOK_AT_MOST:
            self.stopped = True
            return False
        self.last = number
        self._looked_at += 1
        if fits:
            self.found.append(number)
        return True

    def page(self, rows: Sequence[ChangeRow], received_at: int | None) -> Page[ChangeRow]:
        """Return the page of what was found.

        Args:
            rows: The changes.
            received_at: When the last that was looked at arrived, micros, where the walk was `cut_short`.
        """
        searched_to = None if received_at is None else from_micros(received_at)
        return Page(rows, str(self.last) if self.stopped else None, searched_to)

    @property
    def cut_short(self) -> bool:
        """Whether it stopped because what fits is rare."""
        return self.stopped and len(self.found) < self.limit


def number_of(cursor: str | None) -> int:
    """Return the number that a page's `next` stands for; without one, a number beyond all.

    Raises:
        ValueError: It is none that a page has given.
    """
    if cursor is None:
        return END
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValueError("no cursor of ours")
    return int(cursor)


def start_of_deliveries(before: str | None) -> tuple[int, int]:
    """Return the number of a change and of a delivery before which a page of deliveries begins.

    Raises:
        ValueError: The cursor is none that a page has given.
    """
    if before is None:
        return END, END
    change, _, delivery = before.partition(".")
    return number_of(change), number_of(delivery)


def deliveries_page(rows: Sequence[Sequence[Any]], limit: int) -> Page[DeliveryRow]:
    """Return a page of deliveries from one row more than it holds, if there is one."""
    found = [delivery_row_of(*row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(found)
    return Page(found, f"{found[-1].change_id}.{found[-1].delivery.id}")


def start_of_incidents(before: str | None) -> tuple[int, str]:
    """Return when the incident was opened, micros, and its name, before which a page of incidents begins.

    Raises:
        ValueError: The cursor is none that a page has given.
    """
    if before is None:
        return END, ""
    opened_at, _, name = before.partition(".")
    return number_of(opened_at), name


def incidents_page(rows: Sequence[Sequence[Any]], limit: int) -> Page[IncidentRow]:
    """Return a page of incidents from one row more than it holds, if there is one."""
    found = [incident_row_of(*row) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(found)
    last = found[-1].incident
    return Page(found, f"{to_micros(last.opened_at)}.{last.id}")


def quarantine_page(rows: Sequence[Sequence[Any]], limit: int) -> Page[QuarantineRow]:
    """Return a page of the quarantine from one row more than it holds, if there is one."""
    found = [quarantine_row_of(*row) for row in rows[:limit]]
    return Page(found, str(found[-1].id) if len(rows) > limit else None)


def audit_page(rows: Sequence[Sequence[Any]], limit: int) -> Page[AuditRow]:
    """Return a page of the trail from one row more than it holds, if there is one."""
    found = [audit_row_of(*row) for row in rows[:limit]]
    return Page(found, str(found[-1].id) if len(rows) > limit else None)


def change_row_of(
    id_: int, key: str, received_at: int, at: int, action: str, resource: str, *others: Any
) -> ChangeRow:
    """Return the change that a row holds: `CHANGE`, and the body."""
    blueprint, entity, teams, reason, alerts, body = others
    return ChangeRow(
        id=id_,
        key=key,
        received_at=from_micros(received_at),
        at=from_micros(at),
        action=action,
        resource=resource,
        blueprint=blueprint,
        entity=entity,
        teams=tuple(json.loads(teams)),
        reason=reason,
        alerts=alerts,
        body=body,
    )


def delivery_row_of(*row: Any) -> DeliveryRow:
    """Return the delivery that a row holds: as `delivery_of` has it, then change_id and incident_id."""
    *columns, change_id, incident_id = row
    return DeliveryRow(delivery_of(*columns), change_id, incident_id)


def attempt_row_of(delivery_id: int, outcome: str, detail: str, started_at: int, ended_at: int) -> AttemptRow:
    """Return the attempt that a row holds."""
    return AttemptRow(delivery_id, Outcome(outcome), detail, from_micros(started_at), from_micros(ended_at))


def incident_row_of(*row: Any) -> IncidentRow:
    """Return the incident that a row of `INCIDENTS` holds."""
    *columns, text = row
    return IncidentRow(incident_of(*columns), None if text is None else _said(text))


def quarantine_row_of(
    id_: int, body: bytes, size: int, signed_at: int, received_at: int, path: str, reason: str
) -> QuarantineRow:
    """Return the quarantined body that a row holds."""
    return QuarantineRow(
        id_, body or b"", size, from_micros(signed_at), from_micros(received_at), path, reason
    )


def audit_row_of(at: int, *others: Any) -> AuditRow:
    """Return the entry of the trail that a row of `AUDIT` holds."""
    return AuditRow(from_micros(at), *others)


def news_in(rows: Iterable[Sequence[Any]]) -> list[Notification]:
    """Return what was told once for each change and rule, oldest first, without reminders.

    Args:
        rows: A change's number and a notification each.
    """
    found: dict[tuple[int, str], Notification] = {}
    for change_id, text in rows:
        said = _said(text)
        if said is not None and said.step not in (Step.REMINDED, Step.NOTICE):
            found.setdefault((change_id, said.rule), said)
    return sorted(found.values(), key=lambda one: one.at)


def _said(text: str) -> Notification | None:
    try:
        return Notification.model_validate_json(text)
    except ValidationError:  # written by another release
        return None
