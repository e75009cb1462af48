"""What differs between Port and what is known, as a change that can be stored."""

from dataclasses import dataclass, replace
from datetime import datetime

from app.model.change import DELETE, UPDATE, EntitySnapshot
from app.model.diff import PropertyChange, diff
from app.port.listing import Described, Listed, noticed_body
from app.reconcile.compare import Found, Verdict, of_others
from app.rules.last_known import Known
from app.rules.watched import Watched, same_value, snapshot_of

CREATE = "CREATE"


@dataclass(frozen=True, slots=True)
class Difference:
    """An entity that is not as it is known.

    Attributes:
        blueprint: Its blueprint.
        entity: Its identifier.
        action: ``CREATE``, ``UPDATE`` or ``DELETE``.
        before: As it is known, as far as it is watched; None: it is not.
        after: As Port lists it; None: it does not.
        at: When it changed, as far as anybody knows, UTC.
        since: When what is known of it last changed, UTC in micros; 0: nothing is known.
        missed: Port should have called us: it is no value that comes from other entities.
        version: The version of what is known.
    """

    blueprint: str
    entity: str
    action: str
    before: EntitySnapshot | None
    after: EntitySnapshot | None
    at: datetime
    since: int
    missed: bool
    version: int

    @property
    def title(self) -> str:
        """The entity's title, or its identifier."""
        one = self.after or self.before
        return (one and one.title) or self.entity

    @property
    def changes(self) -> tuple[PropertyChange, ...]:
        """What differs, value by value."""
        return diff(self.before, self.after)

    def body(self, noticed_at: datetime) -> bytes:
        """Return the body of the one change that the difference stands for."""
        return noticed_body(self.action, self.before, self.after, at=self.at, noticed_at=noticed_at)


def difference_of(
    found: Found,
    known: Known | None,
    listed: Listed,
    watched: Watched,
    described: Described,
    *,
    asked_at: datetime,
    first: bool,
) -> Difference:
    """Return an entity's difference.

    Args:
        found: What the comparison came to.
        known: What is known.
        listed: What Port lists.
        watched: What is watched.
        described: What the blueprint says.
        asked_at: When Port was asked.
        first: The blueprint was never read, and yet what is wrong is to be told: as a change from nothing.
    """
    given = listed.entity
    values = watched.values(given)
    after = replace(snapshot_of(given.identifier, given.blueprint, values), teams=given.teams)
    before, action, at = None, CREATE, listed.updated_at or asked_at
    if found.verdict is Verdict.UPDATED and known is not None:
        old = values | {name: known.values.get(name) for name in found.fields}
        before, action = snapshot_of(given.identifier, given.blueprint, old), UPDATE
        if same_value("team", old.get("team"), values.get("team")):
            before = replace(before, teams=given.teams)
        if of_others(found.fields, described.computed):
            at = asked_at
    elif first:
        before, action = (
            EntitySnapshot(given.identifier, given.blueprint, given.title, None, given.teams),
            UPDATE,
        )
    return Difference(
        given.blueprint,
        given.identifier,
        action,
        before,
        after,
        at,
        known.at if known else 0,
        not first and not (found.fields and of_others(found.fields, described.computed)),
        known.version if known else 0,
    )


def deletion_of(blueprint: str, entity: str, known: Known, asked_at: datetime) -> Difference:
    """Return the difference of an entity that Port does not have any more; see `difference_of`."""
    before = snapshot_of(entity, blueprint, known.values)
    return Difference(blueprint, entity, DELETE, before, None, asked_at, known.at, True, known.version)
