"""The command that says how the listener is, and what needs attention now."""

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from app import __version__
from app.cli.base import OF_STORE_AND_RULES, AsJson, print_json_lines, run_with_store
from app.deliver.reload import RULES_REFUSED
from app.errors import RulesError
from app.model.incident import RANKS
from app.model.notification import one_line
from app.notifier.base import duration
from app.reconcile.health import MAX_RUNS
from app.runtime.configured import configured_rules
from app.settings import load_settings
from app.store import queries
from app.store.store import Store
from app.web.health import check_readiness

WATCH_SECONDS = 5.0


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every 5 seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is open, on hold, dead, waiting and silenced, and what needs attention; 1 if anything does."""
    while True:
        found = run_with_store(_read)
        if as_json:
            print_json_lines([found])
        else:
            if watch and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            print("\n".join(_lines(found, datetime.now(UTC))), flush=True)
        if not watch:
            break
        try:
            time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            break
    if found["reasons"] or found["warnings"]:
        raise typer.Exit(1)


async def _read(store: Store) -> dict[str, Any]:
    problem = None
    try:
        configured_rules(load_settings(only=OF_STORE_AND_RULES))
    except RulesError as error:
        problem = str(error)
    now = store.clock()
    rules_refused = [RULES_REFUSED.format(problem)] if problem else []
    health = await check_readiness(store, None, rules_refused, now)
    tally = await store.read(queries.counts.tally, now)
    queues = await store.read(queries.page.queues, now)
    runs = await store.read(queries.reconcile.runs, limit=MAX_RUNS)
    ended = next((run for run in runs if run.ended_at is not None), None)
    by_severity = tally.by_severity
    warnings = list(health.warnings)
    if tally.dead:
        warnings.append(f"{tally.dead:,} deliveries are dead: python -m app deliveries --state dead")
    if ended and ended.error:
        warnings.append(f"reconciling failed: {ended.error}")
    return {
        "status": health.status,
        "version": __version__,
        "open": {
            severity: by_severity[severity] for severity in sorted(RANKS, key=lambda known: -RANKS[known])
        },
        "acknowledged": tally.acknowledged,
        "on_hold": [queue.name for queue in queues if queue.on_hold is not None],
        "dead": tally.dead,
        "waiting": sum(queue.waiting for queue in queues),
        "silences": tally.silences,
        "reconciled_at": ended and ended.ended_at,
        "reasons": health.reasons,
        "warnings": warnings,
    }


def _lines(found: dict[str, Any], now: datetime) -> list[str]:
    by_severity = ", ".join(f"{number:,} {severity}" for severity, number in found["open"].items() if number)
    ended = found["reconciled_at"]
    lines = [f"Needs attention: {one_line(text)}" for text in (*found["reasons"], *found["warnings"])] or [
        "Nothing needs attention."
    ]
    return [
        *lines,
        f"Open: {sum(found['open'].values()):,}{f' ({by_severity})' if by_severity else ''}",
        f"Acknowledged: {found['acknowledged']:,}",
        f"On hold: {', '.join(found['on_hold']) or 'none'}",
        f"Dead: {found['dead']:,}",
        f"Waiting: {found['waiting']:,}",
        f"Silences: {found['silences']:,}",
        f"Last reconciled: {f'{duration(now - ended)} ago' if ended else 'never'}",
        f"Version: {found['version']}",
    ]
