"""The configured comparison with Port: whether there is one, and if not, why."""

import secrets
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from app.receive.intake import Listener, Rulebook

if TYPE_CHECKING:
    from app.port.client import PortClient
    from app.reconcile.schedule import Reconciler

log = structlog.get_logger(__name__)


def why_no_comparison(minutes: float, missing: str | None, book: Rulebook) -> str | None:
    """Return why nothing is compared with Port, and what to do about it; None: it is.

    Args:
        minutes: How often to compare; 0: never.
        missing: The setting that is missing for Port's API; None: none is.
        book: The rules.
    """
    if not minutes:
        return "RECONCILE_MINUTES is 0"
    if missing:
        return f"{missing} is not set, and it needs Port's API"
    if not book.watched:
        return "no rule names a blueprint: let `blueprint` of a rule (RULES_FILE) say which to compare"
    return None


def make_reconciler(minutes: float, listener: Listener, client: "PortClient") -> "Reconciler":
    """Return what compares with Port.

    Args:
        minutes: How often.
        listener: Its rules decide, its store keeps.
        client: Port's API; a patient one.
    """
    from app.reconcile.schedule import Reconciler

    every = timedelta(minutes=minutes)
    return Reconciler(listener, client, every, new_token=lambda: secrets.token_hex(8))


def compare_regularly(
    minutes: float, missing: str | None, listener: Listener, client: "PortClient | None"
) -> "tuple[Reconciler, Coroutine[None, None, None]] | None":
    """Return what compares with Port, and its loop; None where that is not configured, which the log says.

    Args:
        minutes: How often; 0: never.
        missing: The setting that is missing for Port's API; None: none is.
        listener: Its rules decide, its store keeps.
        client: Port's API, a patient client; None: not configured.
    """
    if reason := why_no_comparison(minutes, missing, listener.book):
        say = log.warning if minutes else log.info  # then it is wanted so
        say("nothing is compared with Port: what never comes from it stays unknown", reason=reason)
    if client is None or not minutes:
        return None
    reconciler = make_reconciler(minutes, listener, client)
    return reconciler, reconciler.keep()
