"""Port's event about a change: its types, by which it is read, and built, as an automation sends it.

Validation demands only what a change cannot do without, and calls no Python, which would double its time. All
else may be of any type: what needs it reads it tolerantly. Unknown fields are ignored.

Rules: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Required

from pydantic import Field, TypeAdapter, ValidationError, WithJsonSchema
from typing_extensions import TypedDict

from app.errors import UnreadableChange
from app.model.change import ACTION_RUN, CREATE, ENTITY, UPDATE, EntitySnapshot

Json = dict[str, Any]

WEBHOOK_PATH = "/api/slack"
"""The path of the listener's address that Port calls."""
MAX_IDENTIFIER_BYTES = {"blueprintIdentifier": 400, "entityIdentifier": 2_048}
"""In UTF-8: about Port's own limits (100 and 1,000 characters), and what PostgreSQL can index."""


SIDES = ("before", "after")
NO_PROPERTIES = frozenset(
    {"id", "identifier", "title", "team", "createdAt", "createdBy", "updatedAt", "updatedBy"}
)
"""Of another resource than an entity: its name, and bookkeeping."""


def read_time(value: Any) -> datetime | None:
    """Read a time as tolerantly as pydantic does; one that cannot be read is no reason to drop an alert."""
    if value is None:
        return None
    try:
        time: datetime = _TIME.validate_python(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValidationError, OverflowError):
        return None


def too_long(name: str, value: str) -> bool:
    """Tell whether an identifier, which a context calls `name`, is longer than `MAX_IDENTIFIER_BYTES`."""
    # The first test spares nearly all of them the encoding: a character has four bytes at the most.
    return len(value) * 4 > MAX_IDENTIFIER_BYTES[name] and len(value.encode()) > MAX_IDENTIFIER_BYTES[name]


def non_empty_text(value: Any) -> str | None:
    """Take a text that is not empty; None: it is something else."""
    return value if isinstance(value, str) and value else None


_TIME = TypeAdapter(datetime).validator
_TextOrNull = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})]
_TimeOrNull = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]})
]
_Teams = Annotated[Any, WithJsonSchema({"type": "array", "items": {"type": "string"}})]
_Values = Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]


class Entity(TypedDict, total=False):
    """An entity as it stands in a diff."""

    identifier: Required[str]
    blueprint: _TextOrNull
    title: _TextOrNull
    icon: _TextOrNull
    team: _Teams
    properties: dict[Any, Any] | None
    relations: _Values
    scorecards: _Values
    updatedAt: _TimeOrNull


class Diff(TypedDict, total=False):
    """The entity before and after; null where it did not or does not exist."""

    before: Entity | None
    after: Entity | None


class Trigger(TypedDict, total=False):
    """Who or what made the change, from where, and when."""

    by: Any
    origin: _TextOrNull
    at: _TimeOrNull


class Context(TypedDict, total=False):
    """What was changed. The names differ from payload to payload."""

    blueprintIdentifier: _TextOrNull
    blueprint: _TextOrNull
    blueprintId: _TextOrNull
    entityIdentifier: _TextOrNull
    entity: _TextOrNull
    entityId: _TextOrNull
    propertyIdentifier: _TextOrNull
    runId: _TextOrNull


class Event(TypedDict, total=False):
    """Port's event about a change, out of its envelope."""

    action: Required[Annotated[str, Field(min_length=1)]]
    resourceType: _TextOrNull
    trigger: Trigger | None
    context: Context | None
    diff: Diff | None
    foundAt: _TimeOrNull  # not Port's: app/reconcile/difference.py writes it
    additionalData: Any  # of a timer, on Port's older pages


_EVENT = TypeAdapter(Event)
_ENTITY = TypeAdapter(Entity)


def read_event(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Event:
    """Read an event in the shape of an entity's; `path`: where it stands in its body.

    Raises:
        UnreadableChange: It lacks what makes it a change; the error names the field, by its whole path.
    """
    event: Event = _read(_EVENT, value, path)
    return event


def read_entity(value: Mapping[str, Any]) -> Entity:
    """Read an entity that stands alone.

    Raises:
        UnreadableChange: It is none.
    """
    entity: Entity = _read(_ENTITY, value, ())
    return entity


def read_snapshot(entity: Entity, blueprint: str) -> EntitySnapshot:
    """Take what a change needs of an entity of a blueprint."""
    return EntitySnapshot(
        entity["identifier"],
        blueprint,
        non_empty_text(entity.get("title")),
        non_empty_text(entity.get("icon")),
        _teams(entity.get("team")),
        _without_nulls(entity.get("properties")),
        _without_nulls(entity.get("relations")),
        _levels(entity.get("scorecards")) if "scorecards" in entity else {},
    )


def _levels(value: Any) -> dict[str, Any]:
    """Take the level on each scorecard; the rules behind it are entities of their own."""
    scorecards = value.items() if isinstance(value, dict) else ()
    levels = {name: card.get("level") for name, card in scorecards if isinstance(card, dict)}
    return {name: level for name, level in levels.items() if isinstance(level, str)}


def _teams(value: Any) -> tuple[str, ...]:
    teams = value if isinstance(value, list) else [value]
    return tuple([team for team in teams if isinstance(team, str)])


def _read(adapter: TypeAdapter[Any], value: Any, path: tuple[str, ...]) -> Any:
    try:
        return adapter.validator.validate_python(value)  # not the adapter's own method, which takes longer
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableChange(first["msg"], ".".join(map(str, (*path, *first["loc"])))) from None


def _without_nulls(values: Any) -> dict[str, Any]:
    # To Port a property that is null and one that is missing are the same, so a change has only the one.
    if not isinstance(values, dict):
        return {}
    if None not in values.values():
        return values
    return {key: item for key, item in values.items() if item is not None}


def build_event(
    *,
    action: str,
    blueprint: str,
    entity: str,
    at: datetime,
    origin: str,
    by: Mapping[str, Any],
    before: EntitySnapshot | None = None,
    after: EntitySnapshot | None = None,
    resource: str = ENTITY,
) -> Json:
    """Build the event of a change, whose facts are those of a `CatalogChange`.

    Who triggered it is ``{"userId": …}``, ``{"appId": …}`` or ``{"byPort": true}``; `by` may be empty.
    """
    event = {
        "action": action,
        "resourceType": resource,
        "trigger": {"by": dict(by), "origin": origin, "at": at.isoformat()},
        "context": {"blueprintIdentifier": blueprint, "entityIdentifier": entity, "propertyIdentifier": None},
    }
    if before is None and after is None:  # only an entity's change has a diff
        return event
    return event | {"diff": {"before": _entity(before), "after": _entity(after)}}


def in_entity_shape(event: Mapping[str, Any], resource: str) -> dict[str, Any]:
    """Bring the event of a run, a blueprint, or whatever else Port has, into the shape of an entity's.

    Nothing is demanded of it. Its fields become properties, so that rules can name them: a run's ``status``.
    """
    diff, context = event.get("diff"), event.get("context")
    sides = {side: side_ for side in SIDES if isinstance(side_ := get_in(diff, side), dict)}
    newest = sides.get("after") or sides.get("before")
    action = get_in(newest, "action") or get_in(context, "action") or get_in(event, "payload", "action")
    # A run has no identifier, and what the context then names is the entity that the run is about.
    own = ("id",) if resource == ACTION_RUN else ("identifier", "id")
    entity = _name(newest, *own) or _name(context, "runId" if resource == ACTION_RUN else "entityIdentifier")
    title = _name(newest, "title")
    happened = _name(event.get("action")) or _name(action) or resource
    if resource == ACTION_RUN:
        title = title or _name(action, "title") or _name(get_in(context, "action"), "title") or _name(action)
        about = get_in(newest, "entity")
        # What runs says little without what it is about.
        title = ": ".join(filter(None, (_name(about, "title") or _name(about), title)))
        if happened not in (CREATE, UPDATE):  # in the old changelog, which action runs
            happened = UPDATE if "before" in sides else CREATE
    return {
        "action": happened,
        "resourceType": resource,
        "trigger": event.get("trigger") if isinstance(event.get("trigger"), dict) else None,
        "context": {
            "blueprintIdentifier": _name(context, "blueprintIdentifier", "blueprint", "blueprintId")
            or _name(newest, "blueprint"),
            "entityIdentifier": entity or _name(context, "entityIdentifier", "entity", "entityId"),
            "runId": get_in(context, "runId"),
        },
        "diff": {
            side: {
                "identifier": entity,
                "title": title,
                "team": fields.get("team"),
                "updatedAt": fields.get("updatedAt"),
                "properties": {name: value for name, value in fields.items() if name not in NO_PROPERTIES},
            }
            for side, fields in sides.items()
        },
    }


def _name(value: Any, *keys: str) -> str:
    """Take a text, or an object's identifier; with keys, that of the first such member of an object."""
    if keys:
        return next(filter(None, (_name(get_in(value, key)) for key in keys)), "")
    return non_empty_text(value) or non_empty_text(get_in(value, "identifier")) or ""


def get_in(value: Any, *path: str) -> Any:
    """Follow a path into objects; None: it leads nowhere."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a body as Port does before it signs it: compact JSON in UTF-8, nothing escaped."""
    # A lone surrogate, which JSON may hold and UTF-8 may not, becomes a question mark as in `parse_event`.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _entity(snapshot: EntitySnapshot | None) -> Json | None:
    if snapshot is None:
        return None
    entity = {
        "identifier": snapshot.identifier,
        "title": snapshot.title,
        "icon": snapshot.icon,
        "blueprint": snapshot.blueprint,
        "team": list(snapshot.teams),
        "properties": dict(snapshot.properties),
        "relations": dict(snapshot.relations),
    }
    scorecards = {name: {"level": level} for name, level in snapshot.scorecards.items()}
    return entity | ({"scorecards": scorecards} if scorecards else {})
