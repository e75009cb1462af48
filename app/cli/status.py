"""The command that says how the listener is, and what needs attention now."""

import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.base import OF_STORE_AND_RULES, AsJson, print_json_lines, run_with_store
from app.cli.remote import Token, Url, remote
from app.deliver.reload import RULES_REFUSED
from app.errors import RulesError
from app.model.notification import one_line
from app.notifier.base import duration
from app.runtime.configured import configured_rules
from app.settings import load_settings
from app.store.store import Store
from app.web.api.status import StatusOut, read_status
from app.web.health import check_readiness

WATCH_SECONDS = 5.0


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again every 5 seconds, until Ctrl-C.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Say what is open, on hold, dead, waiting and silenced, and what needs attention; 1 if anything does."""
    listener = remote(url, token)
    while True:
        found = listener.ask("/status", StatusOut) if listener else run_with_store(_read)
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
    if found.reasons or found.warnings:
        raise typer.Exit(1)


async def _read(store: Store) -> StatusOut:
    problem = None
    try:
        configured_rules(load_settings(only=OF_STORE_AND_RULES))
    except RulesError as error:
        problem = str(error)
    now = store.clock()
    rules_refused = [RULES_REFUSED.format(problem)] if problem else []
    return await read_status(store, await check_readiness(store, None, rules_refused, now), now)


def _lines(found: StatusOut, now: datetime) -> list[str]:
    by_severity = ", ".join(f"{number:,} {severity}" for severity, number in found.open.items() if number)
    ended = found.reconciled_at
    lines = [f"Needs attention: {one_line(text)}" for text in (*found.reasons, *found.warnings)] or [
        "Nothing needs attention."
    ]
    return [
        *lines,
        f"Open: {sum(found.open.values()):,}{f' ({by_severity})' if by_severity else ''}",
        f"Acknowledged: {found.acknowledged:,}",
        f"On hold: {', '.join(map(one_line, found.on_hold)) or 'none'}",
        f"Dead: {found.dead:,}",
        f"Waiting: {found.waiting:,}",
        f"Silences: {found.silences:,}",
        f"Last reconciled: {f'{duration(now - ended)} ago' if ended else 'never'}",
        f"Version: {one_line(found.version)}",
    ]
