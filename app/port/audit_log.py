"""What Port's audit log says was missed: each change as it happened, with who and when, in order.

The route is described, what it answers is not: https://docs.port.io/api-reference/get-audit-logs. The fields
that can be asked for (``action``, ``context``, ``diff``, ``resourceType``, ``trigger`` …) are those of a
changelog's body. So an entry is read as one, and a change has the key that its webhook's body had: it is the
same. Where that is not so the whole log counts as unreadable, and comparing must do.

The log need not have all: of deleted entities it tells only some. So compare as well, afterwards.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.errors import UnreadableChange
from app.model.change import DELETE, ENTITY, UPDATE, CatalogChange
from app.port.client import Json, PortClient
from app.receive.payload import parse_event
from app.receive.signature import Signed

LIMIT = 100
"""Entries in an answer. How many Port gives at the most is not said: so few that it should be so many."""
SHORTEST = timedelta(milliseconds=10)
MOST_CALLS = 200
CREATE = "CREATE"


@dataclass(frozen=True, slots=True)
class Missed:
    """A change as the log has it: what `parse_event` reads, and the body that it reads it from."""

    change: CatalogChange
    body: bytes


async def missed_changes(
    client: PortClient, blueprints: Sequence[str], since: datetime, until: datetime
) -> list[Missed]:
    """Return the changes of blueprints' entities that happened in a span of time, in order, each once.

    Args:
        client: Port's API.
        blueprints: The blueprints' identifiers.
        since: The span's beginning, UTC.
        until: Its end, UTC.

    Raises:
        PortError: The log does not answer, or may not be read with these credentials.
        UnreadableChange: It cannot be understood.
    """
    reading = _Reading(client)
    found: dict[str, Missed] = {}
    for blueprint in blueprints:
        for one in await reading.of(blueprint, since, until):
            found.setdefault(one.change.key, one)
    return sorted(found.values(), key=lambda one: one.change.at)


class _Reading:
    """One reading of the log: it has so many calls and no more."""

    def __init__(self, client: PortClient) -> None:
        self._client = client
        self._calls = 0

    async def of(self, blueprint: str, since: datetime, until: datetime) -> list[Missed]:
        """Return a blueprint's changes in a span, oldest first; the same one may be there twice."""
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise UnreadableChange(f"it has more than {MOST_CALLS} answers hold")
        query = {"resources": ENTITY, "blueprint": blueprint, "status": "SUCCESS", "limit": str(LIMIT)}
        query |= {"from": _written(since), "to": _written(until + timedelta(milliseconds=1))}
        entries = _listed(await self._client.get_audit_log(query))
        if len(entries) < LIMIT:
            return _in_order(_read(entries, blueprint, since, until))
        # There may be more than it gives, and there is no way to ask for what follows: but for less.
        middle = since + (until - since) / 2
        if until - middle < SHORTEST:
            raise UnreadableChange(f"it has more than {LIMIT} entries of one moment")
        return [*await self.of(blueprint, since, middle), *await self.of(blueprint, middle, until)]


def _listed(answer: Json) -> list[Json]:
    """Return the entries of an answer: ``audits``, as others read it, or the only list that there is."""
    lists = [value for value in answer.values() if isinstance(value, list)]
    found = answer.get("audits", lists[0] if len(lists) == 1 else None)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UnreadableChange("its answer has no list of entries", "audits")
    return found


def _read(entries: Sequence[Json], blueprint: str, since: datetime, until: datetime) -> Iterator[Missed]:
    nowhere = until + timedelta(days=1)  # where an entry lands that does not say when it happened
    for entry in entries:
        if entry.get("status", "SUCCESS") != "SUCCESS":  # it was tried, and did not happen
            continue
        body = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
        change = parse_event(Signed(body, nowhere))
        if change.resource != ENTITY or change.blueprint != blueprint:
            continue
        if change.at >= nowhere:
            raise UnreadableChange("an entry does not say when it happened", "trigger.at")
        if (change.before is None and change.action in {UPDATE, DELETE}) or (
            change.after is None and change.action in {UPDATE, CREATE}
        ):
            raise UnreadableChange("an entry does not say what changed", "diff")
        if since <= change.at <= until:
            yield Missed(change, body)


def _in_order(found: Iterator[Missed]) -> list[Missed]:
    """Return changes oldest first, whichever way the log goes; those of one moment as it has them."""
    changes = list(found)
    if changes and changes[0].change.at > changes[-1].change.at:
        changes.reverse()
    return sorted(changes, key=lambda one: one.change.at)


def _written(time: datetime) -> str:
    """Return a time as Port writes it, in whole milliseconds, of which this is the one that has begun."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
