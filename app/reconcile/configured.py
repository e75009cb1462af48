"""The configured comparison with Port: whether there is one, and if not, why."""

import secrets
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from app.receive.intake import Listener, Rulebook
from app.settings import Settings

if TYPE_CHECKING:
    from app.port.client import PortClient
    from app.reconcile.schedule import Reconciler

log = structlog.get_logger(__name__)


def why_no_comparison(settings: Settings, book: Rulebook) -> str | None:
    """Return why nothing is compared with Port, and what to do about it; None: it is."""
    if not settings.reconcile_minutes:
        return "RECONCILE_MINUTES is 0"
    if settings.port_client_id is None or settings.port_client_secret is None:
        missing = "PORT_CLIENT_ID" if settings.port_client_id is None else "PORT_CLIENT_SECRET"
        return f"{missing} is not set, and it needs Port's API"
    if not book.watched:
        return "no rule names a blueprint: let `blueprint` of a rule (RULES_FILE) say which to compare"
    return None


def make_reconciler(settings: Settings, listener: Listener, client: "PortClient") -> "Reconciler":
    """Return what compares with Port.

    Args:
        settings: The configuration.
        listener: Its rules decide, its store keeps.
        client: Port's API; a patient one.
    """
    from app.reconcile.schedule import Reconciler

    every = timedelta(minutes=settings.reconcile_minutes)
    return Reconciler(listener, client, every, new_token=lambda: secrets.token_hex(8))


def compare_regularly(
    settings: Settings, listener: Listener, client: "PortClient | None"
) -> "tuple[Reconciler, Coroutine[None, None, None]] | None":
    """Return what compares with Port, and its loop; None where that is not configured, which the log says.

    Args:
        settings: The configuration.
        listener: Where changes come in; it tells when they do.
        client: Port's API, a patient client; None: not configured.
    """
    if reason := why_no_comparison(settings, listener.book):
        say = log.warning if settings.reconcile_minutes else log.info  # then it is wanted so
        say("nothing is compared with Port: what never comes from it stays unknown", reason=reason)
    if client is None or not settings.reconcile_minutes:
        return None
    from app.reconcile.gaps import Gaps

    gaps = Gaps(listener.clock)
    listener.heard, listener.refused = gaps.heard, gaps.refused
    reconciler = make_reconciler(settings, listener, client)
    return reconciler, reconciler.keep(gaps)
