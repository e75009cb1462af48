"""Port's payloads, as pydantic models, and the one way from any of them to a `CatalogChange`.

Port has three: the legacy changelog, an automation's event and a workflow's event; its agent and other
people's automations wrap them further. The models are tolerant: unknown fields are kept, and only what a
change cannot do without is demanded.

Rules: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import from_json

from app.errors import UnreadableChange
from app.model.change import ENTITY, RECONCILE, CatalogChange, EntitySnapshot, change_key
from app.receive.signature import Signed

AGENTS_BODY_PATH = ("context", "nodeConfig", "body")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # what is before has a program's zero for a time, such as year 1
MAX_IDENTIFIER_BYTES = {"blueprintIdentifier": 400, "entityIdentifier": 2_048}
"""In UTF-8: about Port's own limits (100 and 1,000 characters), and what PostgreSQL can index."""
CLOCKS_MAY_DIFFER = timedelta(seconds=2)  # a signature's time is often in whole seconds


def _object(value: Any) -> Any:
    return {} if value is None else value


def _without_nulls(value: Any) -> Any:
    # To Port a property that is null and one that is missing are the same, so a change has only the one.
    value = _object(value)
    return (
        {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
    )


def _teams(value: Any) -> Any:
    teams = value if isinstance(value, list) else [value]
    return tuple(team for team in teams if isinstance(team, str))


def read_time(value: Any) -> datetime | None:
    """Read a time as tolerantly as pydantic does; one that cannot be read is no reason to drop an alert."""
    if value is None:
        return None
    try:
        time: datetime = _DATETIME.validate_python(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValidationError, OverflowError):
        return None


def too_long(name: str, value: str) -> bool:
    """Tell whether an identifier, which a context calls `name`, is longer than `MAX_IDENTIFIER_BYTES`."""
    return len(value) * 4 > MAX_IDENTIFIER_BYTES[name] and len(value.encode()) > MAX_IDENTIFIER_BYTES[name]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)
_Time = Annotated[datetime | None, BeforeValidator(read_time)]
_Unread = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})]
"""A text that is looked at only if it is needed; most are not."""
_Text = Annotated[str | None, BeforeValidator(_text)]
_Values = Annotated[dict[str, Any], BeforeValidator(_without_nulls)]
_OptionalValues = Annotated[
    dict[str, Any], BeforeValidator(lambda value: _without_nulls(value) if isinstance(value, dict) else {})
]


class _Tolerant(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Entity(_Tolerant):
    """An entity as it stands in a diff."""

    identifier: str
    title: _Text = None
    icon: _Text = None
    team: Annotated[tuple[str, ...], BeforeValidator(_teams)] = ()
    properties: _Values = Field(default_factory=dict)
    relations: _OptionalValues = Field(default_factory=dict)
    updatedAt: _Unread = None  # noqa: N815 - Port's names


class Diff(_Tolerant):
    """The entity before and after; null where it did not or does not exist."""

    before: Entity | None = None
    after: Entity | None = None


class Trigger(_Tolerant):
    """Who or what made the change, from where, and when."""

    by: Any = None
    origin: _Text = None
    at: _Time = None


class Context(_Tolerant):
    """What was changed. The names differ from payload to payload."""

    blueprintIdentifier: _Unread = None  # noqa: N815
    blueprint: _Unread = None
    blueprintId: _Unread = None  # noqa: N815
    entityIdentifier: _Unread = None  # noqa: N815
    entity: _Unread = None
    entityId: _Unread = None  # noqa: N815
    propertyIdentifier: _Text = None  # noqa: N815
    runId: _Unread = None  # noqa: N815

    @property
    def about(self) -> tuple[str | None, str | None]:
        """The identifiers of the blueprint and of the entity, whatever they are called here."""
        blueprint = _text(self.blueprintIdentifier) or _text(self.blueprint) or _text(self.blueprintId)
        return blueprint, _text(self.entityIdentifier) or _text(self.entity) or _text(self.entityId)


class Event(_Tolerant):
    """Port's event about a change, out of its envelope."""

    action: str = Field(min_length=1)
    resourceType: _Text = None  # noqa: N815
    trigger: Annotated[Trigger, BeforeValidator(_object)] = Trigger()
    context: Annotated[Context, BeforeValidator(_object)] = Context()
    diff: Diff | None = None
    foundAt: _Time = None  # noqa: N815 - not Port's: app/reconcile/difference.py writes it


def parse_event(signed: Signed) -> CatalogChange:
    """Parse a verified body into a change.

    An event without a time of its own gets the time of its signature. So does one from the future, which
    would make all later changes of the entity look late, and one from before there was a Port.

    Raises:
        UnreadableChange: It is not JSON, not an object, or lacks what makes it a change.
    """
    body = _load(signed.body)
    if not isinstance(body, dict):
        raise UnreadableChange("the body is not a JSON object")
    unwrapped = _unwrap(body)
    try:
        event = Event.model_validate(unwrapped.event)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableChange(first["msg"], ".".join(map(str, (*unwrapped.path, *first["loc"])))) from None
    run_id = _run_id(event, unwrapped.envelope) or _text(_get(body, "context", "runId"))
    return _change(event, unwrapped, signed.at, run_id)


def bare_event(body: bytes) -> dict[str, Any]:
    """Take Port's own event, on which jq programs are run, out of a body that `parse_event` can read.

    Raises:
        UnreadableChange: It is not JSON, or not an object.
    """
    loaded = _load(body)
    if not isinstance(loaded, dict):
        raise UnreadableChange("the body is not a JSON object")
    return dict(_unwrap(loaded).event)


def _load(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error)
    # JavaScript sends half an emoji ("\ud83d") where a text was cut in its middle. That is no reason to drop
    # the alert: the standard library reads it, and it becomes a question mark.
    try:
        whole = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        return from_json(whole, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise UnreadableChange(f"the body is not JSON: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    """An event, the envelope around it (or itself), and the path to it."""

    event: Mapping[str, Any]
    envelope: Mapping[str, Any]
    path: tuple[str, ...] = ()


def _unwrap(body: Mapping[str, Any]) -> _Unwrapped:
    event = body.get("event")
    if isinstance(event, dict) and ("diff" in event or "context" in event):
        return _Unwrapped(event, body, ("event",))
    inner = _get(body, *AGENTS_BODY_PATH)
    if isinstance(inner, dict) and "diff" not in body:
        unwrapped = _unwrap(inner)
        return _Unwrapped(unwrapped.event, unwrapped.envelope, (*AGENTS_BODY_PATH, *unwrapped.path))
    return _Unwrapped(body, body)


def _change(event: Event, unwrapped: _Unwrapped, signed_at: datetime, run_id: str | None) -> CatalogChange:
    resource = event.resourceType or ENTITY
    newest = event.diff and (event.diff.after or event.diff.before)
    blueprint, entity = event.context.about
    blueprint = blueprint or _text(newest and (newest.model_extra or {}).get("blueprint")) or ""
    entity = entity or (newest.identifier if newest else "")
    for name, value in (("blueprintIdentifier", blueprint), ("entityIdentifier", entity)):
        wrong = ""
        if not value and resource == ENTITY:
            wrong = "an entity's change must name it"
        elif too_long(name, value):
            wrong = f"no identifier is longer than {MAX_IDENTIFIER_BYTES[name]} bytes"
        if wrong:
            raise UnreadableChange(wrong, ".".join((*unwrapped.path, "context", name)))
    happened_at = event.trigger.at or (newest and read_time(newest.updatedAt)) or signed_at
    before = _snapshot(event.diff.before, blueprint) if event.diff else None
    after = _snapshot(event.diff.after, blueprint) if event.diff else None
    timer = event.context.propertyIdentifier
    return CatalogChange(
        key=change_key(
            action=event.action,
            resource=resource,
            blueprint=blueprint,
            entity=entity,
            at=happened_at.isoformat(),
            before=before,
            after=after,
            timer=timer,
        ),
        action=event.action,
        resource=resource,
        blueprint=blueprint,
        entity=entity,
        title=((newest and newest.title) or "").strip() or entity,
        teams=newest.team if newest else (),
        before=before,
        after=after,
        actor=_actor(_get(unwrapped.envelope, "trigger", "by")) or _actor(event.trigger.by),
        origin=event.trigger.origin or "",
        at=happened_at if EARLIEST <= happened_at < signed_at + CLOCKS_MAY_DIFFER else signed_at,
        timer=timer,
        run_id=run_id,
        found_at=event.foundAt if event.trigger.origin == RECONCILE else None,
        report_to=_text(_get(unwrapped.envelope, "run", "id"))
        if unwrapped.envelope.get("report") is True
        else None,
    )


def _run_id(event: Event, envelope: Mapping[str, Any]) -> str | None:
    return (
        _text(_get(envelope, "run", "id"))
        or _text(_get(envelope, "nodeRun", "identifier"))
        or _text(event.context.runId)
        or _text(_get(event.trigger.by, "runId"))
    )


def _snapshot(entity: Entity | None, blueprint: str) -> EntitySnapshot | None:
    if entity is None:
        return None
    return EntitySnapshot(
        identifier=entity.identifier,
        blueprint=blueprint,
        title=entity.title,
        icon=entity.icon,
        teams=entity.team,
        properties=entity.properties,
        relations=entity.relations,
    )


def _get(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _actor(by: Any) -> str:
    """Choose the most readable name that the body has for the author of the change; empty if none."""
    user = _get(by, "user")
    names = (_text(_get(user, "firstName")), _text(_get(user, "lastName")))
    full_name = " ".join(name for name in names if name)
    if name := full_name or _text(_get(user, "email")) or _text(_get(by, "userId")):
        return name
    if app := _text(_get(by, "appId")):
        return f"app {app}"
    return "Port" if _get(by, "byPort") is True else ""
