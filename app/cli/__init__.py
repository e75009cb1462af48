"""The commands: ``port-listener …``, or ``python -m app …``."""

import gc
import sys
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from app import __doc__ as package
from app import __version__
from app.errors import ListenerError

INSTALLED = "port-listener"
"""What the program is called where the package is installed."""
COMMANDS = {
    "serve": "serve",
    "dispatch": "serve",
    "demo": "trial",
    "send": "trial",
    "bootstrap": "port",
    "tunnel": "port",
    "doctor": "doctor",
    "reconcile": "reconcile",
    "rules": "rules",
    "deliveries": "outbox",
    "quarantine": "outbox",
    "move": "move",
    "backup": "upkeep",
    "export": "upkeep",
    "destinations": "destinations",
    "silence": "silence",
}
"""Each command, and the module here in which it stands: a function, or a group of commands, of its name."""


def command_line(wanted: str | None = None, program: str = INSTALLED) -> typer.Typer:
    """Return the command line.

    Args:
        wanted: The command that will be run: to import all of them takes `serve` a second that it should not
            need. None, or one that there is not: all.
        program: What it is called by. Shells can complete the installed program, and not `python -m app`.
    """
    app = typer.Typer(
        name=program,
        add_completion=program == INSTALLED,
        help=package.partition("\n")[0] if package else None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
        ] = False,
    ) -> None:
        pass

    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        command = getattr(import_module(f"app.cli.{COMMANDS[name or '']}"), name or "")
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None, program: str = INSTALLED) -> NoReturn:
    """Run the command line; an error is a sentence and an exit status of 1, never a traceback.

    Args:
        arguments: What stands behind the program's name; the process's own unless given.
        program: The program's name, for its help.

    Raises:
        SystemExit: Always, with the exit status.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        "".join(given).encode()
    except UnicodeEncodeError:  # no database and no receiver takes such text
        print("an argument is no UTF-8", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        # Imports leave nothing to collect, and are looked through again and again: a fifth of the start.
        gc.disable()
        commands = command_line(given[0] if given else None, program)
        gc.freeze()
        gc.enable()
        commands(given)
    except ListenerError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0)
