"""What the settings and the environment configure: rules, notifiers, and the way to other hosts."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from app.environment import environment
from app.errors import RulesError, SettingsError
from app.jq.runner import Jq
from app.network import Network
from app.notifier.base import Notifier
from app.notifier.kind import AskFate, NotifierContext
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.receive.rules_source import read_rules
from app.rules.file import Rules
from app.settings import Settings
from app.store.opening import now

Clock = Callable[[], datetime]

if TYPE_CHECKING:
    from app.port.client import PortClient


def default_webhook(settings: Settings) -> str:
    """Return the Slack webhook of the destination that needs no name; empty if that is the terminal."""
    return settings.slack_webhook_url.get_secret_value() if settings.slack_webhook_url else ""


def configured_rules(settings: Settings) -> Rules:
    """Read the rules that the settings name.

    Raises:
        RulesError: They cannot be used; it names every mistake.
    """
    return read_rules(settings.rules_file, environment(), SETTINGS_MODELS)


def check_network(settings: Settings) -> Network:
    """Return the way to other hosts, after a look at the addresses that the settings name.

    Raises:
        SettingsError: The environment names a proxy or certificates that cannot be used there.
    """
    network = Network(environment())
    token = settings.slack_bot_token and settings.slack_api_url
    token = token or (settings.slack_app_token and settings.slack_api_url)
    for url in (settings.port_client_id and settings.port_api_url, default_webhook(settings), token):
        if url:
            network.httpx(str(url))
    return network


def load_usable(
    settings: Settings, context: NotifierContext | None = None
) -> tuple[Rules, dict[str, Notifier]]:
    """Read the rules that the settings name, and make a notifier for each destination.

    The start, a reload, `rules check` and `doctor` go through this, and so refuse the same. The notifiers
    hold no connection until they are used.

    Args:
        settings: The configuration.
        context: What notifiers are made with; None: what the settings give, without a store.

    Raises:
        RulesError: The rules, or destinations in them, cannot be used; it names every mistake.
        SettingsError: The file cannot be read, or the settings give no usable client.
    """
    check_network(settings)
    context = context or notifier_context(settings, Jq(), port_client(settings), None)
    try:
        rules = configured_rules(settings)
    except RulesError as error:
        if error.readable is None:
            raise
        mistakes = error.mistakes
        try:
            make_notifiers(error.readable, context)
        except RulesError as more:
            mistakes += more.mistakes
        except SettingsError:  # not of the file: it is said when the file is right
            pass
        raise RulesError(error.readable.name, mistakes) from None
    return rules, make_notifiers(rules, context)


def port_client(settings: Settings, *, patient: bool = False, clock: Clock = now) -> "PortClient | None":
    """Make a client of Port's API; a patient one tries again itself. None: there are no credentials."""
    if settings.port_client_id is None or settings.port_client_secret is None:
        return None
    from app.port.client import PortClient

    secret = settings.port_client_secret.get_secret_value()
    # The client that delivers is not patient: when to try again is the store's to say.
    return PortClient(
        str(settings.port_api_url),
        settings.port_client_id,
        secret,
        clock=clock,
        patient=patient,
        network=Network(environment()),
    )


def notifier_context(
    settings: Settings, jq: Jq, port: "PortClient | None", fate: AskFate | None, clock: Clock = now
) -> NotifierContext:
    """Take out of the settings what notifiers are made with.

    Args:
        settings: The configuration.
        jq: Fills templates.
        port: Port's API; None: its credentials are not configured.
        fate: Says what became of a run's change; None: runs get no reports.
        clock: Gives the time, UTC.
    """
    page_url, token = None, settings.slack_bot_token
    # Not WEBHOOK_URL: the proxy that lets Port in need not let people in.
    if settings.page_url is not None and settings.admin_token is not None:
        page_url = str(settings.page_url).rstrip("/")
    return NotifierContext(
        app_url=str(settings.port_app_url),
        page_url=page_url,
        default_webhook=default_webhook(settings),
        bot_token=token.get_secret_value() if token else "",
        slack_api_url=str(settings.slack_api_url),
        port=port,
        fate=fate,
        render=jq.render,
        clock=clock,
        network=Network(environment()),
        closable=frozenset() if settings.slack_app_token or settings.slack_signing_secret else None,
    )
