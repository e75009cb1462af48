"""Parses a body of Port into a `CatalogChange`: the one way for all of Port's payloads.

Port has three: the legacy changelog, an automation's event and a workflow's event; its agent and other
people's automations wrap them further.

Rules: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any, cast

from pydantic_core import from_json

from app.errors import UnreadableChange
from app.model.change import ACTION_RUN, ENTITY, RECONCILE, CatalogChange, change_key
from app.model.immutable import immutable
from app.receive.event import (
    MAX_IDENTIFIER_BYTES,
    Event,
    encode,
    get_in,
    in_entity_shape,
    non_empty_text,
    read_event,
    read_snapshot,
    read_time,
    too_long,
)
from app.receive.signature import Signed

AGENTS_BODY_PATH = ("context", "nodeConfig", "body")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # what is before has a program's zero for a time, such as year 1
_OBJECT = (dict, NoneType)
CLOCKS_MAY_DIFFER = timedelta(seconds=2)  # a signature's time is often in whole seconds


def parse_event(signed: Signed) -> CatalogChange:
    """Parse a verified body into a change.

    An event without a time of its own gets the time of its signature. So does one from the future, which
    would make all later changes of the entity look late, and one from before there was a Port.

    Raises:
        UnreadableChange: It is not JSON, not an object, or lacks what makes it a change.
    """
    body = _load(signed.body)
    unwrapped = _unwrap(body)
    resource = _resource(unwrapped.event)
    plain = unwrapped.event if resource == ENTITY else in_entity_shape(unwrapped.event, resource)
    # Only what is wrong is validated: that takes ten times as long as to see that nothing is.
    event = cast("Event", plain) if _is_sound(plain) else read_event(plain, unwrapped.path)
    # Some put the run beside the event, others into its context.
    run_id = _run_id(event, unwrapped.envelope) or non_empty_text(get_in(body, "context", "runId"))
    return _change(event, resource, unwrapped, signed.at, run_id)


def bare_event(body: bytes) -> dict[str, Any]:
    """Take Port's own event, on which jq programs are run, out of a body that `parse_event` can read.

    Raises:
        UnreadableChange: It is not JSON, or not an object.
    """
    return dict(_unwrap(_load(body)).event)


def happening_at(body: bytes, at: datetime) -> bytes:
    """Copy a body that `parse_event` can read, as if its change had happened at another time, UTC.

    Raises:
        UnreadableChange: It is not JSON, or not an object.
    """
    loaded = _load(body)
    event = cast("dict[str, Any]", _unwrap(loaded).event)  # a part of what was loaded
    trigger = event.get("trigger")
    event["trigger"] = (trigger if isinstance(trigger, dict) else {}) | {"at": at.isoformat()}
    return encode(loaded)


def with_properties(body: bytes, values: Mapping[str, Any]) -> bytes:
    """Copy a body that `parse_event` can read, with other values after the change.

    They are the entity's properties or, of another resource than an entity, its fields: a run's ``status``.

    Raises:
        UnreadableChange: It is not JSON, or has no entity after the change.
    """
    loaded = _load(body)
    properties: Any = _unwrap(loaded).event  # a part of what was loaded
    after = ("diff", "after")
    for key in (*after, "properties") if _resource(properties) == ENTITY else after:
        properties = properties.get(key) if isinstance(properties, dict) else None
    if not isinstance(properties, dict):
        raise UnreadableChange("it has no entity after the change")
    properties.update(values)
    return encode(loaded)


def _load(body: bytes) -> dict[str, Any]:
    try:
        loaded = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        # JavaScript sends half an emoji ("\ud83d") where a text was cut in its middle. That is no reason to
        # drop the alert: the standard library reads it, and it becomes a question mark.
        try:
            whole = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
            loaded = from_json(whole, allow_inf_nan=False)
        except (ValueError, RecursionError):
            raise UnreadableChange(f"the body is not JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise UnreadableChange("the body is not a JSON object")
    return loaded


@immutable(frozen=True, slots=True)
class _Unwrapped:
    """An event, the envelope around it (or itself), and the path to it."""

    event: Mapping[str, Any]
    envelope: Mapping[str, Any]
    path: tuple[str, ...] = ()


def _unwrap(body: Mapping[str, Any]) -> _Unwrapped:
    event = body.get("event")
    if isinstance(event, dict) and ("diff" in event or "context" in event):
        return _Unwrapped(event, body, ("event",))
    # Port's agent wraps the body, which may itself be an envelope.
    inner = get_in(body, *AGENTS_BODY_PATH)
    if isinstance(inner, dict) and "diff" not in body:
        unwrapped = _unwrap(inner)
        return _Unwrapped(unwrapped.event, unwrapped.envelope, (*AGENTS_BODY_PATH, *unwrapped.path))
    return _Unwrapped(body, body)


def _resource(event: Mapping[str, Any]) -> str:
    named = non_empty_text(event.get("resourceType"))
    # An invocation of an action, which Port's agent hands on as its body is, may name no resource.
    invoked = named is None and "diff" not in event and isinstance(get_in(event, "payload", "action"), dict)
    return ACTION_RUN if invoked else named or ENTITY


def _is_sound(event: Mapping[str, Any]) -> bool:
    """Tell whether an event has what `Event` demands."""
    action, diff = event.get("action"), event.get("diff")
    if not (isinstance(action, str) and action):
        return False
    for part in (event.get("trigger"), event.get("context"), diff):
        if not isinstance(part, _OBJECT):
            return False
    for side in (diff.get("before"), diff.get("after")) if diff else ():
        if not isinstance(side, _OBJECT):
            return False
        if side is not None and not (
            isinstance(side.get("identifier"), str) and isinstance(side.get("properties"), _OBJECT)
        ):
            return False
    return True


def _change(
    event: Event, resource: str, unwrapped: _Unwrapped, signed_at: datetime, run_id: str | None
) -> CatalogChange:
    sides = event.get("diff") or {}
    old, new = sides.get("before"), sides.get("after")
    newest = old if new is None else new
    trigger, envelope = event.get("trigger") or {}, unwrapped.envelope
    blueprint, entity = _identifiers(event, resource, unwrapped.path)
    before = None if old is None else read_snapshot(old, blueprint)
    after = None if new is None else read_snapshot(new, blueprint)
    snapshot = before if after is None else after
    timer = non_empty_text((event.get("context") or {}).get("propertyIdentifier")) or _old_timer(event)
    happened_at = read_time(trigger.get("at")) or (newest and read_time(newest.get("updatedAt"))) or signed_at
    origin = non_empty_text(trigger.get("origin")) or ""
    key = change_key(
        action=event["action"],
        resource=resource,
        blueprint=blueprint,
        entity=entity,
        at=happened_at,  # the event's own time: a change that is sent twice is signed twice
        before=before,
        after=after,
        # What reconciling finds is not the event of Port: that may have come while its rule was not in force.
        timer=RECONCILE if origin == RECONCILE else timer,
    )
    return CatalogChange(
        key,
        event["action"],
        resource,
        blueprint,
        entity,
        title=((snapshot and snapshot.title) or "").strip() or entity,
        teams=snapshot.teams if snapshot else (),
        before=before,
        after=after,
        actor=_actor(get_in(envelope, "trigger", "by")) or _actor(trigger.get("by")),
        origin=origin,
        at=happened_at if EARLIEST <= happened_at < signed_at + CLOCKS_MAY_DIFFER else signed_at,
        timer=timer,
        run_id=run_id,
        found_at=read_time(event.get("foundAt")) if origin == RECONCILE else None,
        report_to=non_empty_text(get_in(envelope, "run", "id")) if envelope.get("report") is True else None,
    )


def _identifiers(event: Event, resource: str, path: tuple[str, ...]) -> tuple[str, str]:
    """Find the identifiers of the blueprint and the entity; empty where a resource has none.

    Raises:
        UnreadableChange: An entity's change lacks one, or one is too long for a store.
    """
    context, sides = event.get("context") or {}, event.get("diff") or {}
    before, after = sides.get("before"), sides.get("after")
    newest = before if after is None else after
    blueprint = (
        non_empty_text(context.get("blueprintIdentifier"))
        or non_empty_text(context.get("blueprint"))
        or non_empty_text(context.get("blueprintId"))
        or non_empty_text(newest and newest.get("blueprint"))
        or ""
    )
    if before and after and before["identifier"] != after["identifier"]:  # renamed
        entity = after["identifier"]
    else:
        entity = (
            non_empty_text(context.get("entityIdentifier"))
            or non_empty_text(context.get("entity"))
            or non_empty_text(context.get("entityId"))
            or (newest["identifier"] if newest else "")
        )
    for name, value in (("blueprintIdentifier", blueprint), ("entityIdentifier", entity)):
        wrong = ""
        if not value and resource == ENTITY:
            wrong = "an entity's change must name it"
        elif too_long(name, value):
            wrong = f"no identifier is longer than {MAX_IDENTIFIER_BYTES[name]} bytes"
        if wrong:
            raise UnreadableChange(wrong, ".".join((*path, "context", name)))
    return blueprint, entity


def _old_timer(event: Event) -> str | None:
    return non_empty_text(get_in(event.get("additionalData"), "property"))


def _run_id(event: Event, envelope: Mapping[str, Any]) -> str | None:
    return (
        non_empty_text(get_in(envelope, "run", "id"))
        or non_empty_text(get_in(envelope, "nodeRun", "identifier"))
        or non_empty_text((event.get("context") or {}).get("runId"))
        or non_empty_text(get_in((event.get("trigger") or {}).get("by"), "runId"))
    )


def _actor(by: Any) -> str:
    """Choose the most readable name that the body has for the author of the change; empty if none."""
    if not isinstance(by, dict):
        return ""
    if isinstance(user := by.get("user"), dict):
        names = (non_empty_text(user.get("firstName")), non_empty_text(user.get("lastName")))
        if name := " ".join(filter(None, names)) or non_empty_text(user.get("email")):
            return name
    if name := non_empty_text(by.get("userId")):
        return name
    if app := non_empty_text(by.get("appId")):
        return f"app {app}"
    return "Port" if True in (by.get("byPort"), by.get("port")) else ""
