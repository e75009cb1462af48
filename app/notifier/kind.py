"""What a kind of destination consists of, and what every kind may use to make its notifiers."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from app.model.notification import Message
from app.model.report import Fate
from app.network import DIRECT, Network
from app.notifier.base import Item, Notifier
from app.rules.destination import DestinationSettings

if TYPE_CHECKING:  # httpx is imported only where Port's credentials are configured
    from app.port.client import PortClient

_S = TypeVar("_S", bound=DestinationSettings)

Render = Callable[[Any, Mapping[str, Any]], Awaitable[Any]]
"""Fills the templates in a JSON value from an event; raises `DeliveryFailed` where one fails."""
AskFate = Callable[[str], Awaitable[Fate | None]]
"""Says what became of a run's change, by the run's id; None: it is not kept any more."""
FindLinks = Callable[[Iterable[Message]], Awaitable[Mapping[Message, str]]]
"""Finds the addresses of messages; one that is not known now is left out."""
SlackMessage = Mapping[str, Any]
"""``text``, ``blocks`` and ``attachments``, as Slack's API takes them."""


@dataclass(frozen=True, slots=True)
class NotifierContext:
    """What notifiers are made with, beside their own settings.

    Attributes:
        app_url: The address of Port's app.
        page_url: The address of this listener's page; None: there is no page, or it is not known.
        default_webhook: The Slack webhook of the destination that needs no name; empty: that is the terminal.
        bot_token: The Slack app's bot token; empty: none is configured.
        slack_api_url: The address of Slack's Web API.
        port: Port's API; None: its credentials are not configured.
        fate: Says what became of the change that a run in Port has brought; None: runs get no reports.
        render: Fills templates.
        clock: Gives the time, UTC.
        calls_people: Whether rules call people whom the catalog names.
        network: The way to other hosts.
        closable: The rules whose incidents a person may end by a button in Slack; None: no click arrives.
    """

    app_url: str
    page_url: str | None
    default_webhook: str = field(repr=False)
    bot_token: str = field(repr=False)
    slack_api_url: str
    port: "PortClient | None"
    fate: AskFate | None
    render: Render
    clock: Callable[[], datetime]
    network: Network = DIRECT
    calls_people: bool = False
    closable: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Kind(Generic[_S]):
    """A kind of destination.

    Attributes:
        settings: The model of its settings in a rules file.
        make: Makes the notifier for a destination's name and settings; raises `SettingsError` where they
            cannot be used.
        dry_run: Gives what would be sent, as text or as a message in Slack's form, for the settings, the
            alert as a delivery with its rule's own words, Port's bare event, and the context; raises
            `DeliveryFailed` where a template fails.
    """

    settings: type[_S]
    make: Callable[[str, _S, NotifierContext], Notifier]
    dry_run: Callable[[_S, Item, Mapping[str, Any], NotifierContext], Awaitable[str | SlackMessage]]
