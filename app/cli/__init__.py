"""The commands: ``python -m app …``."""

import gc
import sys
from importlib import import_module
from typing import NoReturn

import typer

from app import __doc__ as package
from app.errors import ListenerError

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
    "vacuum": "upkeep",
    "export": "upkeep",
    "destinations": "destinations",
    "silence": "silence",
}
"""Each command, and the module here in which it stands: a function, or a group of commands, of its name."""


def command_line(wanted: str | None = None) -> typer.Typer:
    """Return the command line.

    Args:
        wanted: The command that will be run: to import all of them takes `serve` a second that it should not
            need. None, or one that there is not: all.
    """
    app = typer.Typer(
        name="python -m app",
        help=package.partition("\n")[0] if package else None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def only_commands() -> None:
        """Keep a command's name necessary where there is but one."""

    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        command = getattr(import_module(f"app.cli.{COMMANDS[name or '']}"), name or "")
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; an error is a sentence and an exit status of 1, never a traceback.

    Args:
        arguments: What stands behind ``python -m app``; the process's own unless given.

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
        commands = command_line(given[0] if given else None)
        gc.freeze()
        gc.enable()  # __main__ has switched it off
        commands(given)
    except ListenerError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0)
