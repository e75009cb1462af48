"""The kinds of destination, and a notifier for each configured one."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pkgutil import resolve_name
from typing import Any

import structlog
from pydantic import ValidationError

from app.errors import DeliveryFailed, Mistake, RulesError, SettingsError
from app.model.notification import Message
from app.model.report import RUNS
from app.notifier.base import Keeper, Notifier
from app.notifier.kind import Kind, NotifierContext
from app.rules.destination import DestinationSettings
from app.rules.file import Rules
from app.rules.mention import catalog_mentions
from app.rules.targets import DEFAULT_DESTINATION

log = structlog.get_logger(__name__)

# A kind is imported when a destination of that kind is met: aiohttp and slack_sdk take a quarter of a second,
# and most configurations do not need all of them.
DESTINATION_KINDS = {
    "slack": "app.notifier.slack.kind:SLACK_KIND",
    "http": "app.notifier.http.notifier:HTTP_KIND",
    "teams": "app.notifier.teams:TEAMS_KIND",
    "pagerduty": "app.notifier.pagerduty:PAGERDUTY_KIND",
    "port_action": "app.notifier.port_action:PORT_ACTION_KIND",
    "console": "app.notifier.console:CONSOLE_KIND",
}
"""Where each kind is defined, by the name that `type` has in a rules file."""
PERMALINK_SECONDS = 3.0  # a report does not wait longer for Slack: it is sent without the address


def kind_of(name: str) -> Kind[Any]:
    """Import a kind of destination by its name, one of `DESTINATION_KINDS`; a KeyError for another one."""
    kind: Kind[Any] = resolve_name(DESTINATION_KINDS[name])
    return kind


class _SettingsModels(Mapping[str, type[DestinationSettings]]):
    """Each kind's settings model by the kind's name; a kind is imported when its model is asked for."""

    def __getitem__(self, name: str) -> type[DestinationSettings]:
        return kind_of(name).settings

    def __iter__(self) -> Iterator[str]:
        return iter(DESTINATION_KINDS)

    def __len__(self) -> int:
        return len(DESTINATION_KINDS)


SETTINGS_MODELS = _SettingsModels()


def default_settings(webhook: str) -> DestinationSettings:
    """Make the settings of the destination that needs no name; an empty webhook: it is the terminal.

    Raises:
        SettingsError: The webhook is not one.
    """
    if not webhook:
        return SETTINGS_MODELS["console"](type="console")
    try:
        return SETTINGS_MODELS["slack"].model_validate({"type": "slack", "webhook_url": webhook})
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"SLACK_WEBHOOK_URL {why}") from None


def make_notifiers(rules: Rules, context: NotifierContext) -> dict[str, Notifier]:
    """Make a notifier for the default destination, for each configured one, and for runs in Port; by name.

    Raises:
        RulesError: Destinations cannot be used as they are configured; each is named, with its line.
        SettingsError: Only the default destination, which stands in no file, cannot.
    """
    configured = rules.file.destinations
    if context.closable is not None:
        without_end = (rule.name for rule in rules.file.rules if rule.resolve is None)
        context = replace(context, closable=frozenset(without_end))
    notifiers: dict[str, Notifier] = {}
    mistakes, wrong = [], []
    context = replace(context, calls_people=any(catalog_mentions(rule.mention) for rule in rules.file.rules))
    for name in dict.fromkeys((DEFAULT_DESTINATION, *configured)):
        try:
            settings = configured.get(name) or default_settings(context.default_webhook)
            notifiers[name] = kind_of(settings.type).make(name, settings, context)
            notifiers[name].spacing = settings.spacing
        except SettingsError as error:
            if name not in configured:
                wrong.append(str(error))
                continue
            for text in str(error).splitlines():  # each begins with the key that it is about
                line = rules.line_of("destinations", name, text.partition(":")[0])
                mistakes.append(Mistake(line, "", f"destination {name!r}: {text}"))
    if mistakes:
        raise RulesError(rules.name, mistakes, settings=wrong)
    if wrong:
        raise SettingsError("\n".join(wrong))
    if context.port is not None and context.fate is not None:
        from app.notifier.port_runs import PortRuns

        permalink = partial(_permalink, notifiers)
        notifiers[RUNS] = PortRuns(context.port, context.fate, permalink, context.clock)
    return notifiers


def notifier_at(context: NotifierContext, address: str) -> Notifier:
    """Make a notifier again by its `Notifier.address`.

    Raises:
        SettingsError: It cannot be used any more.
    """
    try:
        kind = kind_of(json.loads(address)["type"])
        settings = kind.settings.model_validate_json(address)
    except (ValueError, LookupError, TypeError):  # written by another release
        raise SettingsError("the address is not one that this release can use") from None
    return kind.make("", settings, context)


async def _permalink(notifiers: Mapping[str, Notifier], destination: str, message: Message) -> str | None:
    notifier = notifiers.get(destination)
    if not isinstance(notifier, Keeper):
        return None
    try:
        async with asyncio.timeout(PERMALINK_SECONDS):
            return await notifier.permalink(message)
    except (DeliveryFailed, TimeoutError) as error:
        log.info("permalink_unavailable", destination=destination, reason=str(error))
        return None
