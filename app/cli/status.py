"""The command that says what needs attention now."""

from datetime import UTC, datetime

import typer

from app.cli.base import RULES, AsJson, print_json_lines, run_with_store
from app.errors import RulesError
from app.model.notification import one_line
from app.runtime.configured import configured_rules
from app.settings import load_settings
from app.store.store import Store
from app.web.health import Health, check_readiness


def status(as_json: AsJson = False) -> None:
    """Say what needs attention now, as /readyz and the page do; status 1 if anything does."""
    problem = None
    try:
        configured_rules(load_settings(only=RULES))
    except RulesError as error:
        problem = str(error)

    async def work(store: Store) -> Health:
        return await check_readiness(store, None, problem, store.time(datetime.now(UTC)))

    health = run_with_store(work)
    if as_json:
        print_json_lines([health.model_dump()])
    else:
        for text in (*health.reasons, *health.warnings):
            print(f"Needs attention: {one_line(text)}")
        if not health.reasons and not health.warnings:
            print("Nothing needs attention.")
    if health.reasons or health.warnings:
        raise typer.Exit(1)
