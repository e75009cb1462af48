"""The command that tries rules on the stored changes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.base import print_table, run_with_store, span
from app.environment import environment
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.notifier.registry import SETTINGS_MODELS
from app.receive.payload import parse_event
from app.receive.routing import match_and_route
from app.receive.rules_source import make_rulebook, read_rules
from app.receive.signature import Signed
from app.rules.decide import MEMORY, EntityState, decide
from app.rules.match import Match
from app.rules.rulebook import Rulebook
from app.rules.targets import PortLookup
from app.store import queries
from app.store.opening import now
from app.store.store import Store

HISTORY_ROWS_A_PAGE = 500
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

    async def work(store: Store) -> tuple[int, list[Notified], Mapping[tuple[str, str], int]]:
        jq = Jq()
        try:
            number, alerts = await _replay(store, make_rulebook(loaded.file), jq, start)
        finally:
            await jq.close()
        return number, alerts, await store.read(queries.counts.alerts, start)

    number, alerts, did = run_with_store(work)
    if list_:
        lines = ((f"{at:%Y-%m-%d %H:%M:%S}", *texts) for at, *texts in sorted(alerts))
        print_table(("at", "rule", "destination", "entity", "step"), lines)
    would = Counter((rule, destination) for _, rule, destination, *_ in alerts)
    print_table(
        ("rule", "destination", "would alert", "did alert"),
        ((*key, str(would[key]), str(did.get(key, 0))) for key in sorted({*would, *did})),
    )
    print(f"{number} changes in the last {since}: {would.total()} alerts, and there were {sum(did.values())}")


async def _replay(store: Store, book: Rulebook, jq: Jq, since: datetime) -> tuple[int, list[Notified]]:
    """Decide on the changes since a time, oldest first, and collect the alerts."""
    states: dict[tuple[str, str], EntityState] = {}
    waiting: dict[str, list[Alert]] = {}
    alerted: list[Notified] = []
    number, after = 0, None
    while rows := await store.read(
        queries.changes.history, since=since, after=after, limit=HISTORY_ROWS_A_PAGE
    ):
        after = rows[-1]
        for row in rows:
            received_at, body = row.received_at, row.body or b""
            change = parse_event(Signed(body, received_at))
            matched = await match_and_route(change, body, book, jq.evaluate, _silent_lookup)
            _replay_one(matched, received_at, states, waiting, alerted)
            number += 1
    for alerts in waiting.values():
        alerted.extend(map(_notified, alerts))
    return number, alerted


def _notified(alert: Alert) -> Notified:
    said = alert.notification
    return alert.due_at or said.at, said.rule, alert.destination, said.entity, str(said.step)


async def _silent_lookup(_: CatalogChange, __: PortLookup) -> Sequence[object]:
    return ()


def _replay_one(
    matched: Match,
    at: datetime,
    states: dict[tuple[str, str], EntityState],
    waiting: dict[str, list[Alert]],
    alerted: list[Notified],
) -> None:
    change = matched.change
    key = (change.blueprint, change.entity)
    state = states.get(key, EntityState())
    decision = decide(matched, state, at, reconciled=change.found_at is not None)
    moved = {incident.id: incident for incident in decision.incidents}
    incidents = {incident.id: incident for incident in state.incidents} | moved
    remembered = (
        incident
        for incident in incidents.values()
        if incident.resolved_at is None or change.at - incident.resolved_at <= MEMORY
    )
    last_at = max(state.last_at or change.at, change.at)
    states[key] = EntityState(last_at, tuple(remembered), decision.known or state.known)
    for incident_id in decision.cancel:
        due = (alert for alert in waiting.pop(incident_id, ()) if alert.due_at and alert.due_at <= at)
        alerted.extend(map(_notified, due))
    for alert in decision.alerts:
        if alert.repeat is not None:
            continue
        if alert.due_at and alert.due_at > at and alert.incident_id:
            waiting.setdefault(alert.incident_id, []).append(alert)
        else:
            alerted.append(_notified(alert))
