"""The domain's own model of a change, for all of Port's payloads."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

import orjson

from app.model.immutable import immutable
from app.model.times import to_micros

CREATE = "CREATE"
UPDATE = "UPDATE"
DELETE = "DELETE"
TIMER_EXPIRED = "TIMER_EXPIRED"
ENTITY = "entity"
ACTION_RUN = "run"
RECONCILE = "reconcile"
"""The origin of a change that reconciling found: Port sent no webhook."""

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=datetime.isoformat
)
RULE_RESULT = "_rule_result"
"""The blueprint of Port's own entities that hold what a scorecard's rule says of another entity, `entity`.
https://docs.port.io/scorecards/concepts-and-structure (rule result)"""


@immutable(frozen=True, slots=True)
class EntitySnapshot:
    """An entity of the catalog at one moment, without bookkeeping (``updatedAt`` and the like)."""

    identifier: str
    blueprint: str
    title: str | None = None
    icon: str | None = None
    teams: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    relations: Mapping[str, Any] = field(default_factory=dict)
    scorecards: Mapping[str, Any] = field(default_factory=dict)
    """The level on each scorecard, by the scorecard's identifier."""

    def value(self, kind: str, name: str = "") -> Any:
        """Take the ``title``, the ``team``, or of ``properties``, ``relations`` or ``scorecards`` one."""
        if kind == "properties":
            return self.properties.get(name)
        if kind == "relations":
            return self.relations.get(name)
        if kind == "scorecards":
            return self.scorecards.get(name)
        # No team is null, as a property without a value is.
        return self.title if kind == "title" else list(self.teams) or None


@immutable(frozen=True, slots=True)
class CatalogChange:
    """One change in Port's catalog.

    Attributes:
        key: The same for the same change, however and however often it arrives (`change_key`).
        action: ``CREATE``, ``UPDATE``, ``DELETE``, ``TIMER_EXPIRED``, or an action that Port may add.
        resource: ``entity``, ``blueprint``, ``run``, …
        blueprint: The blueprint's identifier; empty where the resource has none.
        entity: The entity's identifier, a run's id; empty where the resource has none.
        title: The entity's title, or its identifier where it has none; of a run, its action's.
        teams: The owning teams, after the change.
        before: The entity before; None for CREATE and for events without a diff.
        after: The entity after; None for DELETE and for events without a diff.
        actor: Who or what triggered it, as readable as the body allows.
        origin: Where it was triggered (``UI``, ``API``, …); empty if unknown.
        at: When it happened, UTC.
        timer: For ``TIMER_EXPIRED``, the property whose timer ran out.
        run_id: The run in Port that brought the change here, if one did.
        found_at: When reconciling found it, UTC; None: Port sent it.
        report_to: The run that waits for a report of what became of the change, if one does.
    """

    key: str
    action: str
    resource: str
    blueprint: str
    entity: str
    title: str
    teams: tuple[str, ...]
    before: EntitySnapshot | None
    after: EntitySnapshot | None
    actor: str
    origin: str
    at: datetime
    timer: str | None = None
    run_id: str | None = None
    found_at: datetime | None = None
    report_to: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it says what the entity was before and is now.

        A side that is missing means that the entity does not exist there only with `CREATE` and `DELETE`; a
        timer's event has its entity as it is, which says nothing of what changed.
        https://docs.port.io/actions-and-automations/define-automations/setup-trigger
        """
        return self.action in (CREATE, DELETE) or (self.before is None) == (self.after is None)

    @property
    def called(self) -> str:
        """What people are told its entity is called: a scorecard's result with the entity it is about."""
        entity = self.after or self.before
        about = entity.properties.get("entity") if entity and self.blueprint == RULE_RESULT else None
        named = isinstance(about, str) and about.strip() and about not in self.title
        return f"{about}: {self.title}" if named else self.title

    @property
    def former(self) -> str | None:
        """The identifier that the entity had before, if the change renamed it."""
        if self.before is None or self.after is None or self.before.identifier == self.after.identifier:
            return None
        return self.before.identifier


def change_key(
    *,
    action: str,
    resource: str,
    blueprint: str,
    entity: str,
    at: datetime,
    before: EntitySnapshot | None,
    after: EntitySnapshot | None,
    timer: str | None = None,
) -> str:
    """Make the change's key, as `key_at` does, of the canonical JSON of what makes it this change.

    `at` is the event's own time, UTC. Two timers of one entity that run out at the same
    moment differ in nothing but `timer`, so it counts too.
    """
    # Null and missing are one value already, and keys are sorted: every body of a change gives one key.
    parts = [action, resource, blueprint, entity, at, _parts(before), _parts(after), timer]
    return key_at(at, _canonical(parts))


def key_at(at: datetime, content: bytes) -> str:
    """Make a key for what happened at a time, UTC: 64 hex digits, the time's milliseconds and a SHA-256."""
    # The time first: keys then come in about their order, and a store writes a few pages of their index for
    # many of them, and not a page for each.
    milliseconds = max(0, to_micros(at)) // 1000
    return f"{milliseconds:011x}{hashlib.sha256(content).hexdigest()}"[:64]


def _canonical(parts: list[Any]) -> bytes:
    try:
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # more than 64 bits, or too deep
        return _CANONICAL.encode(parts).encode()


def _parts(snapshot: EntitySnapshot | None) -> list[Any] | None:
    if snapshot is None:
        return None
    parts = [
        snapshot.identifier,
        snapshot.title,
        snapshot.icon,
        snapshot.teams,
        snapshot.properties,
        snapshot.relations,
    ]
    return [*parts, snapshot.scorecards] if snapshot.scorecards else parts
