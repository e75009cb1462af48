"""What the settings and the environment configure: rules, notifiers, and the way to other hosts."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.environment import environment
from app.errors import ListenerError, Mistake, RulesError, SettingsError
from app.jq.runner import Jq
from app.model.notification import Message
from app.network import DIRECT, Network
from app.notifier.base import Notifier
from app.notifier.kind import AskFate, FindLinks, NotifierContext
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.receive.rules_source import read_rules
from app.rules.file import Rules
from app.settings import Settings, load_settings
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


def _network(settings: Settings) -> Network:
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
        RulesError: The rules, or destinations in them, cannot be used; it names every mistake, those of the
            settings too.
        SettingsError: Only the settings: the file cannot be read, or they give no usable client.
    """
    wrong: list[str] = []
    try:
        network = _network(settings)
    except SettingsError as error:
        wrong, network = str(error).splitlines(), DIRECT  # so that what else is wrong can be said
    if context is None:
        context = notifier_context(settings, Jq(), port_client(settings, network=network), None)
    name, notifiers = "", {}
    mistakes: tuple[Mistake, ...] = ()
    try:
        readable = configured_rules(settings)
    except RulesError as error:
        name, mistakes, readable = error.name, error.mistakes, error.readable
    except SettingsError as error:
        raise SettingsError("\n".join([*wrong, str(error)])) from None
    if readable is not None:
        readable, unreconciled = _with_reconciling(readable, settings)
        mistakes += unreconciled
        name = readable.name
        try:
            notifiers = make_notifiers(readable, replace(context, network=network))
        except RulesError as error:
            name, mistakes = error.name, mistakes + error.mistakes
            wrong += error.settings
        except SettingsError as error:
            wrong += str(error).splitlines()
    if mistakes:
        raise RulesError(name, mistakes, settings=wrong)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return readable, notifiers


def _with_reconciling(rules: Rules, settings: Settings) -> tuple[Rules, tuple[Mistake, ...]]:
    """Look which rules count a share of what was reconciled, though nothing is.

    Returns:
        The rules, with hints where somebody may still reconcile by hand.
        What is wrong where nobody can.
    """
    missing = settings.missing_credential
    if not missing and settings.reconcile_minutes:
        return rules, ()
    text = f"share: needs reconciling, which is off: {missing or 'RECONCILE_MINUTES'}"
    text += " is not set" if missing else " is 0"
    wrong = tuple(
        Mistake(rules.line_of("rules", number, "share"), rule.name, text)
        for number, rule in enumerate(rules.file.rules)
        if rule.share is not None
    )
    return (rules, wrong) if missing else (replace(rules, hints=(*rules.hints, *wrong)), ())


def with_rules(wrong: SettingsError, **overrides: Any) -> ListenerError:
    """Add to what is wrong with settings what is wrong with the rules that they name.

    Args:
        wrong: Why `load_settings` refuses them.
        overrides: What it was given.
    """
    lines = str(wrong).splitlines()
    try:
        load_usable(load_settings(only={"rules_file"}, **overrides))
    except RulesError as error:
        # What is wrong is as if it were not set: that a destination needs it is no mistake of the file.
        names = {line.partition(" ")[0].removesuffix("_FILE") for line in lines}
        mistakes = [
            mistake for mistake in error.mistakes if not names & {*re.findall(r"[A-Z_]+", mistake.text)}
        ]
        if mistakes:
            return RulesError(error.name, mistakes, settings=[*lines, *error.settings])
    except SettingsError as error:
        return SettingsError("\n".join(dict.fromkeys([*lines, *str(error).splitlines()])))
    return wrong


def port_client(
    settings: Settings, *, patient: bool = False, clock: Clock = now, network: Network | None = None
) -> "PortClient | None":
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
        network=network or Network(environment()),
    )


@asynccontextmanager
async def open_links(settings: Settings | None, clock: Clock = now) -> AsyncIterator[FindLinks]:
    """Give what finds the addresses of messages in Slack; without a bot token it finds none."""
    if settings is None or settings.slack_bot_token is None:
        yield _no_links
        return
    from app.notifier.slack.permalinks import Permalinks
    from app.notifier.slack.session import SlackSession
    from app.notifier.slack.web_api import SlackApi

    url = str(settings.slack_api_url)
    session = SlackSession("slack_sdk.web", url, clock, Network(environment()))
    try:
        yield Permalinks(SlackApi(settings.slack_bot_token.get_secret_value(), url, session), clock).of
    finally:
        await session.close()


async def _no_links(_: Iterable[Message]) -> Mapping[Message, str]:
    return {}


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
