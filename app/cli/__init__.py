"""The commands: ``python -m app …``."""

import sys
from typing import NoReturn

import typer

from app.cli import doctor, outbox, port, rules, service
from app.errors import ListenerError

app = typer.Typer(
    name="python -m app",
    help="Hears of every change in Port's software catalog and makes sure the right Slack channel does too.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (service.serve, service.demo, service.send, port.bootstrap, port.tunnel, doctor.doctor):
    app.command()(command)
app.add_typer(rules.rules_app, name="rules")
app.add_typer(outbox.deliveries_app, name="deliveries")
app.add_typer(outbox.quarantine_app, name="quarantine")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; an error is a sentence and an exit status of 1, never a traceback.

    Args:
        arguments: What stands behind ``python -m app``; the process's own unless given.

    Raises:
        SystemExit: Always, with the exit status.
    """
    try:
        app(arguments)
    except ListenerError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0)
