"""Changes to try rules on."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.model.change import CatalogChange, EntitySnapshot
from app.rules.condition import Condition
from app.rules.rule import Rule

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def entity(properties: dict[str, Any] | None = None, **fields: Any) -> EntitySnapshot:
    """Return a snapshot with these properties and other fields."""
    return EntitySnapshot("payments-db", "database", properties=properties or {}, **fields)


def change(before: EntitySnapshot | None, after: EntitySnapshot | None, **facts: Any) -> CatalogChange:
    """Return an update between two entities, with `facts` in place of the usual."""
    usual: dict[str, Any] = {
        "key": "0123456789abcdef" * 4,
        "action": "UPDATE",
        "resource": "entity",
        "blueprint": "database",
        "entity": "payments-db",
        "title": "Payments",
        "teams": (),
        "before": before,
        "after": after,
        "actor": "ada@example.com",
        "origin": "UI",
        "at": NOW,
    }
    return CatalogChange(**(usual | facts))


def moved(before: dict[str, Any] | None, after: dict[str, Any] | None, **facts: Any) -> CatalogChange:
    """Return a change of an entity's properties; None stands for no entity."""
    sides = (None if properties is None else entity(properties) for properties in (before, after))
    return change(*sides, **facts)


def cpu(before: Any, after: Any, **facts: Any) -> CatalogChange:
    """Return a change of the property `cpu`."""
    return moved({"cpu": before}, {"cpu": after}, **facts)


def condition(**said: Any) -> Condition:
    """Return a condition; `from_`, `for_`, `all_`, `any_` and `not_` for what Python keeps to itself."""
    return Condition.model_validate({key.rstrip("_"): value for key, value in said.items()})


def rule(**said: Any) -> Rule:
    """Return a rule of the name `cpu`, unless another is given."""
    return Rule.model_validate({"name": "cpu", **said})
