"""Port's event about a change, as an automation sends it: what `payload.py` parses, built.

Rules: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.model.change import ENTITY, EntitySnapshot

Json = dict[str, Any]

WEBHOOK_PATH = "/api/slack"
"""The path of the listener's address that Port calls."""


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
    """Build the event of a change.

    Args:
        action: ``CREATE``, ``UPDATE``, ``DELETE`` …
        blueprint: The blueprint's identifier.
        entity: The entity's identifier.
        at: When it happened, UTC.
        origin: Where it was triggered: ``UI``, ``API`` …
        by: Who triggered it: ``{"userId": …}``, ``{"appId": …}``, ``{"byPort": true}``; may be empty.
        before: The entity before; None: it did not exist.
        after: The entity after; None: it does not exist any more.
        resource: What was changed.
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


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a body as Port does before it signs it: compact JSON in UTF-8, nothing escaped."""
    # A lone surrogate, which JSON may hold and UTF-8 may not, becomes a question mark as in `parse_event`.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _entity(snapshot: EntitySnapshot | None) -> Json | None:
    if snapshot is None:
        return None
    return {
        "identifier": snapshot.identifier,
        "title": snapshot.title,
        "icon": snapshot.icon,
        "blueprint": snapshot.blueprint,
        "team": list(snapshot.teams),
        "properties": dict(snapshot.properties),
        "relations": dict(snapshot.relations),
    }
