"""The command that compares Port's entities with their last known state."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.cli.base import OUT, run
from app.cli.port import open_client
from app.errors import ListenerError
from app.model.notification import one_line, text_of
from app.observe.logs import configure_logging
from app.reconcile.comparison import Comparison
from app.reconcile.configured import make_reconciler, why_no_comparison
from app.reconcile.difference import Difference
from app.reconcile.schedule import COMMAND
from app.runtime import open_runtime
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

    async def work() -> tuple[Progress, Sequence[Difference]]:
        async with open_client(settings, None) as client, open_runtime(settings, dispatch=False) as runtime:
            # Whoever asks for it wants it, also where it is not to be made every so often.
            asked_for = settings.model_copy(update={"reconcile_minutes": 1.0})
            if reason := why_no_comparison(
                asked_for.reconcile_minutes, asked_for.missing_credential, runtime.listener.book
            ):
                raise ListenerError(f"There is nothing to compare: {reason}")
            if dry_run:
                comparison = Comparison(runtime.listener, client, dry=True, alert=alert)
                found = [one async for one in comparison.differences()]
                return comparison.progress, found
            reconciler = make_reconciler(settings.reconcile_minutes, runtime.listener, client)
            reconciler.share = 1.0
            outcome = await reconciler.compare(COMMAND, since=None, alert=alert)
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


def show(progress: Progress, differences: Sequence[Difference]) -> None:
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


def what_differs(difference: Difference) -> str:
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
