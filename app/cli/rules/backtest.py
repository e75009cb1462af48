"""The command that tries rules on the stored changes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from app.cli.base import print_table, run_with_store, span
from app.environment import environment
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.model.notification import Notification
from app.model.times import from_micros, to_micros
from app.notifier.registry import SETTINGS_MODELS
from app.receive.payload import parse_event
from app.receive.routing import match_and_route
from app.receive.rules_source import make_rulebook, read_rules
from app.receive.signature import Signed
from app.rules.decide import decide
from app.rules.rulebook import Rulebook
from app.rules.targets import PortLookup
from app.store import queries
from app.store.columns import UNTIL_RELEASED
from app.store.kin import groups
from app.store.opening import now
from app.store.rows import Incoming
from app.store.sqlite.schema import in_memory
from app.store.sqlite.transaction import run_at_once
from app.store.store import Store
from app.store.views import StoredChange

HISTORY_ROWS_A_PAGE = 500
ALERTS = (
    "SELECT due_at, notification, destination FROM deliveries WHERE kind = 'alert' AND state <> 'cancelled'"
    " AND repeat_after IS NULL AND due_at < $1 ORDER BY id"
)
Notified = tuple[datetime, str, str, str, str]
"""When, the rule, the destination, the entity, the step."""


def backtest(
    file: Annotated[Path, typer.Argument(help="The rules file.")],
    since: Annotated[str, typer.Option(help="How far back: 12h, 7d.")] = "7d",
    list_: Annotated[bool, typer.Option("--list", help="Print each alert, oldest first.")] = False,
) -> None:
    """Try rules on the stored changes: how many alerts they would have sent, beside those that were sent."""
    loaded = read_rules(file, environment(), SETTINGS_MODELS)
    start = now() - span("--since", since)

    async def work(store: Store) -> tuple[int, list[Notified], int, Mapping[tuple[str, str], int]]:
        jq = Jq()
        try:
            replayed = await _replay(store, make_rulebook(loaded.file), jq, start)
        finally:
            await jq.close()
        return *replayed, await store.read(queries.counts.alerts, start)

    number, alerts, quiet, did = run_with_store(work)
    if list_:
        lines = ((f"{at:%Y-%m-%d %H:%M:%S}", *texts) for at, *texts in sorted(alerts))
        print_table(("at", "rule", "destination", "entity", "step"), lines)
    would = Counter((rule, destination) for _, rule, destination, *_ in alerts)
    print_table(
        ("rule", "destination", "would alert", "did alert"),
        ((*key, str(would[key]), str(did.get(key, 0))) for key in sorted({*would, *did})),
    )
    print(f"{number} changes in the last {since}: {would.total()} alerts in place of {sum(did.values())}")
    if quiet:
        some = "1 incident" if quiet == 1 else f"{quiet:,} incidents"
        print(f"{some} would be quiet, because of another one")


async def _replay(store: Store, book: Rulebook, jq: Jq, since: datetime) -> tuple[int, list[Notified], int]:
    """Decide on the changes since a time, oldest first, in a store of their own in memory.

    Returns:
        How many changes there were, the alerts, and how many incidents alerted nobody because another one
        explains them.
    """
    rules = book.rules
    for rule in rules.rules:  # how many entities there are now stands for how many there were
        if rule.of in rules.by_name and rule.share is not None:
            numbers = await store.read(groups.count_entities, rule, rules.by_name[rule.of].blueprint)
            rules.family.totals[rule.name] = to_micros(now()), numbers
    number, after = 0, None
    with closing(in_memory()) as memory:
        while rows := await store.read(
            queries.changes.history, since=since, after=after, limit=HISTORY_ROWS_A_PAGE
        ):
            after = rows[-1]
            for row in rows:
                await _take_in(memory, row, book, jq)
                number += 1
        alerts = run_at_once(lambda tx: tx.fetch(ALERTS, UNTIL_RELEASED))(memory)
        quiet = run_at_once(lambda tx: tx.fetch_value("SELECT count(*) FROM incidents WHERE quiet <> ''"))(
            memory
        )
    return number, [_notified(at, text, destination) for at, text, destination in alerts], quiet


async def _take_in(memory: Connection, row: StoredChange, book: Rulebook, jq: Jq) -> None:
    received_at, body = row.received_at, row.body or b""
    change = parse_event(Signed(body, received_at))
    matched = await match_and_route(change, body, book, jq.evaluate, _silent_lookup)
    incoming = Incoming(
        change,
        b"",
        received_at,
        lambda state: decide(matched, state, received_at, reconciled=change.found_at is not None),
        watched=matched.watched is not None,
        kins=tuple(matched.kins.values()),
    )
    run_at_once(lambda tx: queries.accept.accept(tx, [incoming]))(memory)


def _notified(due_at: int, text: str, destination: str) -> Notified:
    alert = Notification.read(text)
    at = from_micros(due_at) if due_at else alert.at
    return at, alert.rule, destination, alert.entity, str(alert.step)


async def _silent_lookup(_: CatalogChange, __: PortLookup) -> Sequence[object]:
    return ()
