"""A listener for Port's software catalog: alerts the right Slack channels and starts the right jobs.

A change goes through the folders in this order::

    model      nouns without I/O: change, diff, incident, notification, silence, delivery
    receive    POST /api/slack: verify the signature, parse the body, take the change in
    rules      the rules file: conditions, matching, decisions; pure
    store      one transaction for the change, its alerts and the state they rest on; then Port gets 202
    deliver    take a queue's turn: in order, at its rate, with retries
    notifier   send: Slack, an HTTP job, a run in Port, the terminal
    port       Port's API, and its setup: bootstrap, tunnel, probe
    reconcile  compare Port with the last known state; what differs goes through rules and store, too
    clicks     clicks in Slack, over a socket or by HTTP: who may do what, and what becomes of each
    web        the page, its forms, /api/v1, sign-in, health, metrics
    observe    log events, metrics, traces
    jq         run users' jq safely
    cli        the commands; doctor checks each step from Port to Slack, demo shows it without an account,
               suite runs tests of a rules file

main.py makes the web application, runtime/ puts the parts together, settings.py and environment.py read
the environment, network.py gives every client its proxy and its certificates.
"""

import sys

__version__ = "0.1.0"
"""This release's number, as pyproject.toml has it."""

# structlog imports rich, and with it pygments, and greenlet, if they are installed: a tenth of start and
# memory, for what is not used here. The command line imports rich itself, to draw tables.
_unused = {"rich", "greenlet"} - sys.modules.keys()
sys.modules |= dict.fromkeys(_unused)  # type: ignore[arg-type]  # Python takes None for: not installed
try:
    import structlog  # noqa: F401
finally:
    for _name in _unused:
        del sys.modules[_name]

# FastAPI imports it only to refuse models of it: 2 MB.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
