"""The command that compares Port's entities with their last known state."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from app.cli.base import OnThisMachine, print_table, run, user_name
from app.cli.port import open_client
from app.errors import ListenerError
from app.model.notification import one_line, text_of
from app.observe.logs import configure_logging
from app.reconcile.difference import EntityDifference
from app.reconcile.health import COMMAND, why_off
from app.reconcile.run import ReconcileRun
from app.reconcile.schedule import Reconciler
from app.runtime.listener import new_token, open_runtime
from app.settings import load_settings
from app.store.views import ReconcileProgress
from app.web.actions import record

VALUES_SHOWN = 3
VALUE_CHARACTERS_SHOWN = 40


def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the differences: store nothing, alert nobody.")
    ] = False,
    alert: Annotated[
        bool,
        typer.Option(
            "--alert", help="Also alert on what is wrong in a blueprint that is read for the first time."
        ),
    ] = False,
) -> None:
    """Compare Port with the last known state, and let each difference through the rules."""
    settings = load_settings()
    configure_logging("WARNING", "text", settings.hidden)

    async def work() -> tuple[ReconcileProgress, Sequence[EntityDifference]]:
        async with open_client(settings, None) as client, open_runtime(settings, dispatch=False) as runtime:
            # The command is wanted, even where RECONCILE_MINUTES is 0.
            if reason := why_off(1, settings.missing_credential, runtime.intake.book):
                raise ListenerError(f"There is nothing to reconcile: {reason}")
            if dry_run:
                dry = ReconcileRun(runtime.intake, client, dry=True, alert=alert)
                differences = [difference async for difference in dry.differences()]
                return dry.progress, differences
            every = timedelta(minutes=settings.reconcile_minutes)
            # Its whole share of the time: this process has no requests to serve beside it.
            reconciler = Reconciler(runtime.intake, client, every, new_token, share=1.0)
            outcome = await reconciler.reconcile(COMMAND, since=None, alert=alert)
            if outcome is not None:
                found = f"{outcome.progress.entities:,} entities, {outcome.progress.differences:,} differ"
                done = f"Reconciled with Port: {found}{outcome.error and f'; {outcome.error}'}."
                await record(OnThisMachine(runtime.store), user_name(), "reconcile", done)
        if outcome is None:
            raise ListenerError("Another process is reconciling now: look at its log, or try again")
        if outcome.error:
            show(outcome.progress, outcome.differences)
            raise ListenerError(f"Reconciling stopped: {outcome.error}")
        return outcome.progress, outcome.differences

    progress, differences = run(work())
    show(progress, differences)
    if dry_run and differences:
        print("Nothing was stored, and nobody was alerted.", file=sys.stderr)


def show(progress: ReconcileProgress, differences: Sequence[EntityDifference]) -> None:
    """Print differences as a table, and the run's numbers."""
    cells = (
        (
            difference.blueprint,
            difference.entity,
            difference.action.lower(),
            f"{difference.at:%Y-%m-%d %H:%M:%S}",
            values_text(difference),
        )
        for difference in differences
    )
    if differences:
        print_table(("blueprint", "entity", "action", "since", "differs"), cells)
    recorded = f", {progress.recorded:,} of them for the first time" if progress.recorded else ""
    print(f"{progress.entities:,} entities{recorded}; {len(differences):,} differ")


def values_text(difference: EntityDifference) -> str:
    """Return the values that differ in a few words: ``healthStatus: Healthy → Degraded``."""
    if difference.before is None or difference.after is None:
        return ""
    changes = difference.changes
    texts = [
        f"{one_line(value.name, VALUE_CHARACTERS_SHOWN)}: {_value(value.before)} → {_value(value.after)}"
        for value in changes[:VALUES_SHOWN]
    ]
    more = len(changes) - len(texts)
    return ", ".join([*texts, *([f"and {more} more"] if more else [])])


def _value(value: object) -> str:
    return one_line(text_of(value), VALUE_CHARACTERS_SHOWN)
