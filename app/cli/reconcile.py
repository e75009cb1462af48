"""The command that compares Port's entities with their last known state."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.cli.base import OUT, run
from app.cli.port import open_client
from app.errors import ListenerError
from app.model.notification import one_line, text_of
from app.observe.logs import configure_logging
from app.reconcile.difference import EntityDifference
from app.reconcile.health import COMMAND, why_off
from app.reconcile.run import ReconcileRun
from app.reconcile.schedule import Reconciler
from app.runtime import new_token, open_runtime
from app.settings import load_settings
from app.store.reconciling import Progress

MOST_VALUES = 3
LONGEST_VALUE = 40


def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the differences: store nothing, tell nobody.")
    ] = False,
    alert: Annotated[
        bool,
        typer.Option(
            "--alert", help="Of a blueprint that is read for the first time, tell what is wrong too."
        ),
    ] = False,
) -> None:
    """Look in Port for changes that never came here, and let each through the rules."""
    settings = load_settings()
    configure_logging("WARNING", "text", settings.hidden)

    async def work() -> tuple[Progress, Sequence[EntityDifference]]:
        async with open_client(settings, None) as client, open_runtime(settings, dispatch=False) as runtime:
            # The command is wanted, even where RECONCILE_MINUTES is 0.
            if reason := why_off(1, settings.missing_credential, runtime.intake.book):
                raise ListenerError(f"There is nothing to compare: {reason}")
            if dry_run:
                dry = ReconcileRun(runtime.intake, client, dry=True, alert=alert)
                found = [difference async for difference in dry.differences()]
                return dry.progress, found
            every = timedelta(minutes=settings.reconcile_minutes)
            reconciler = Reconciler(runtime.intake, client, every, new_token, share=1.0)
            outcome = await reconciler.reconcile(COMMAND, since=None, alert=alert)
        if outcome is None:
            raise ListenerError("Another process compares at this moment: look at its log, or try again")
        if outcome.error:
            show(outcome.progress, outcome.differences)
            raise ListenerError(f"Not all was compared: {outcome.error}")
        return outcome.progress, outcome.differences

    progress, found = run(work())
    show(progress, found)
    if dry_run and found:
        print("Nothing was stored, and nobody was told.", file=sys.stderr)


def show(progress: Progress, differences: Sequence[EntityDifference]) -> None:
    """Print differences as a table, and what the run came to."""
    table = Table("blueprint", "entity", "what", "since", "differs", box=None)
    for one in differences:
        cells = (
            one_line(one.blueprint),
            one_line(one.entity),
            one.action.lower(),
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            what_differs(one),
        )
        table.add_row(*map(Text, cells))
    if differences:
        OUT.print(table)
    learned = f", {progress.learned:,} of them for the first time" if progress.learned else ""
    print(f"{progress.entities:,} entities{learned}; {len(differences):,} differ")


def what_differs(difference: EntityDifference) -> str:
    """Return in a few words what differs."""
    if difference.before is None or difference.after is None:
        return ""
    changes = difference.changes
    said = [
        f"{one_line(one.name, LONGEST_VALUE)}: {_value(one.before)} → {_value(one.after)}"
        for one in changes[:MOST_VALUES]
    ]
    more = len(changes) - len(said)
    return ", ".join([*said, *([f"and {more} more"] if more else [])])


def _value(value: object) -> str:
    return one_line(text_of(value), LONGEST_VALUE)
