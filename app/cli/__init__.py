"""The commands: ``port-listener …``, or ``python -m app …``."""

import gc
import sys
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn, cast, get_args

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from app import __doc__ as package
from app import __version__
from app.errors import ListenerError
from app.model.text import without_controls

HELP_OPTIONS = ["-h", "--help"]
INSTALLED = "port-listener"
"""What the program is called where the package is installed."""
COMMANDS = {
    "serve": "serve",
    "dispatch": "serve",
    "demo": "trial",
    "status": "status",
    "incidents": "incidents",
    "silences": "silences",
    "changes": "changes",
    "deliveries": "outbox",
    "destinations": "destinations",
    "quarantine": "outbox",
    "audit": "changes",
    "rules": "rules",
    "config": "config",
    "bootstrap": "port",
    "tunnel": "port",
    "doctor": "doctor",
    "send": "trial",
    "reconcile": "reconcile",
    "backup": "upkeep",
    "restore": "upkeep",
    "export": "upkeep",
    "move": "upkeep",
}
"""Each command and its module here, which has a function or a group of commands of the same name."""


def command_line(wanted: str | None = None, program: str = INSTALLED) -> TyperGroup:
    """Make the command line, whose help names what an option takes in words: TEXT, NUMBER, FILE.

    Args:
        wanted: The only command to import, because all of them would take `serve` a second more to start.
            None, or an unknown one: all.
        program: Its name. Shells can complete the installed program, but not `python -m app`.
    """
    app = typer.Typer(
        name=program,
        add_completion=program == INSTALLED,
        help=package.partition("\n")[0] if package else None,
        no_args_is_help=True,
        rich_markup_mode=None,  # its tables cut long words at 80 columns
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": HELP_OPTIONS},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
        ] = False,
    ) -> None:
        """Keep the command's name required: typer would drop it where there is only one command."""

    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        command = getattr(import_module(f"app.cli.{COMMANDS[name or '']}"), name or "")
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    group = cast("TyperGroup", typer.main.get_command(app))
    group.commands = {name: group.commands[name] for name in COMMANDS if name in group.commands}
    _name_values(group)
    return group


def _name_values(command: TyperCommand | TyperGroup) -> None:
    for option in command.get_params(typer.Context(command, help_option_names=HELP_OPTIONS)):
        if isinstance(option, TyperOption) and option.metavar is None:
            option.metavar = "" if option.is_flag else _value_name(option.type_descriptor.annotation)
        elif isinstance(option, TyperArgument):  # in Python's words else: <list[Path]>
            name = _value_name(option.type_descriptor.annotation)
            option.display_type_rich = lambda *_, _name=name, **__: _name  # type: ignore[method-assign]
    command.short_help = (command.help or "").partition("\n\n")[0]  # else a list of commands cuts it
    for below in command.commands.values() if isinstance(command, TyperGroup) else ():
        _name_values(cast("TyperCommand | TyperGroup", below))


def _value_name(annotation: type) -> str:
    kind, *others = get_args(annotation) or (annotation,)
    if isinstance(kind, str):  # of a Literal the words themselves
        return "|".join((kind, *others))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "FILE"}[kind]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None, program: str = INSTALLED) -> NoReturn:
    """Run the command line; an error is a sentence and an exit status of 1, never a traceback.

    Args:
        arguments: The words after the program's name; None: those of this process.
        program: The program's name, for its help.

    Raises:
        SystemExit: Always, with the exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and f"{words[0]}s" in COMMANDS:  # as people say it: `incident close`, `silence add`
        words[0] += "s"
    try:
        "".join(words).encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8: no database or receiver takes them
        print("an argument is not UTF-8", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        # Imports leave no garbage, and looking for it again and again takes a fifth of the start.
        gc.disable()
        commands = command_line(words[0] if words else None, program)
        gc.freeze()
        gc.enable()
        commands(words)
    except ListenerError as error:
        print("\n".join(map(without_controls, str(error).split("\n"))), file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0)
