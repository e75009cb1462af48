"""Hears of every change in Port's software catalog and makes sure the right Slack channel does too.

The way of the data, in one direction, and the module for each word::

    receive   api/slack.py         the HTTP edge: raw bytes in, 202 out
       │      listener.py          the use case, readable in one screen
    verify    port/signature.py    is it from Port?
    parse     port/events.py       three kinds of body → one CatalogChange
    diff      alerts/diff.py       what changed
    decide    alerts/decide.py     which rules match, and where does it stand with the incident
    store     store/               one transaction: the change, its alerts, the state they rest on
       │
       ├──────────────────────────  202 to Port, only now
       │
    dispatch  dispatcher.py        claim a queue, in order, at its rate
       │      courier.py           what of it is still to be sent, and what came of that
    deliver   notifier/            Slack, an HTTP job, a run in Port, or the terminal
    record    store/               what came of it; a run in Port that waits for it is told, as a delivery too

    compare   reconcile/           what Port did not tell us: it goes through decide and store, too

    look      api/dashboard.py     the page, of what store/views.py shows; api/v1.py for programs
    mend      api/actions.py       retry, release, silence, test, replay

Beside the way: watch.py and tracing.py are what its parts tell of their work; metrics.py counts it for
Prometheus, otel.py and otel_spans.py make traces of it.
"""

import sys

__version__ = "0.1.0"
"""This release's number, as pyproject.toml has it."""

# structlog imports rich, and with it pygments, where it finds them: a tenth of start and memory, for
# tracebacks of a form that nobody here asks for. The command line imports rich itself, to draw tables.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's word for: not installed
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
