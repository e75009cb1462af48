"""What the settings of every kind of destination in a rules file have in common.

Each kind's own model stands with its notifier, in app.notifier, and is handed to `load_rules`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from app.rules.targets import DEFAULT_DESTINATION, CatalogText
from app.rules.values import Duration, Strict

JobStep = Literal["opened", "changed", "resolved", "reminded", "acknowledged"]
JobSteps = Annotated[
    tuple[JobStep, ...],
    Field(description="At which steps of an incident it runs; without an incident, at every match"),
]
JOB_STEPS: tuple[JobStep, ...] = ("opened", "changed")
"""The default: a job that fixes something must not run again because it is fixed."""


def _address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.lower().startswith(("https://", "http://")):
        raise ValueError("must be an address that begins with https://")
    if "{{" not in text and not leads_somewhere(text):  # what a template fills in is not known yet
        raise ValueError("is no address: its host, its port or a character in it is wrong")
    return value


def leads_somewhere(url: str) -> bool:
    """Tell whether a text is a whole http or https address, as ``http://host:port/`` is not."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    whole = parts.scheme in {"http", "https"} and port != 0 and HOST.fullmatch(host)
    return bool(whole) and not NOT_IN_ADDRESS.search(url)


_LABEL = r"(?!-)[^\x00-,./:-@\[-^`{-\x7f]+(?<!-)"  # of ASCII letters, digits, - and _; and of any script's
HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|[0-9a-f:]*:[0-9a-f:.]+")
"""A name, in any script, or an address, as `urlsplit` gives it."""
NOT_IN_ADDRESS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")

RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*/\s*(s|sec|second|min|minute|h|hour)")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
MIN_RATE, MAX_RATE = 0.001, 1000.0


def _rate(value: Any) -> Any:
    if isinstance(value, str) and (parts := RATE.fullmatch(value.strip())):
        value = float(parts[1]) / UNIT_SECONDS[parts[2][0]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number, as messages a second, or as in 100/min, 5/s or 1000/h")  # noqa: TRY004 - pydantic wants it
    if value < MIN_RATE:
        raise ValueError(f"must be greater than or equal to {MIN_RATE:g}")
    if value > MAX_RATE:
        raise ValueError(f"must be less than or equal to {MAX_RATE:g}")
    return value


def spacing_of(rate: float) -> timedelta:
    """Give the time from one message to the next at a rate, in messages a second."""
    return timedelta(seconds=1 / rate)


_RATE_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": MIN_RATE, "maximum": MAX_RATE},
        {"type": "string", "pattern": rf"^({RATE.pattern}|\$\{{[A-Za-z_][A-Za-z0-9_]*\}})$"},
    ],
    "examples": ["100/min"],
}
Rate = Annotated[float, BeforeValidator(_rate), WithJsonSchema(_RATE_SCHEMA)]
"""Messages a second."""
Address = Annotated[SecretStr, AfterValidator(_address)]
Fallback = Annotated[str, Field(min_length=1, description="Gets the alerts while this one is on hold")]


@dataclass(frozen=True, slots=True)
class ByCatalog:
    """How the catalog chooses the queue of an alert.

    Attributes:
        source: What gives a value for the change, or several.
        read: Gives the name of the queue for a value, which begins with ``#`` or ``@``: what it leads to;
            raises `ValueError` where it may lead nowhere, whose text says why.
        default: The destination, or the queue, of what leads nowhere.
    """

    source: CatalogText
    read: Callable[[str], str]
    default: str = DEFAULT_DESTINATION


@dataclass(frozen=True, slots=True)
class Routing:
    """How alerts reach a destination.

    Attributes:
        channel: What it sends to, where other destinations may send to the same: they then share one queue.
            It may be a secret. None: the destination has a queue of its own.
        queues: How many queues its alerts are spread over.
        steps: The names of the steps of an incident at which it runs, for a job; None: it gets every step.
        fallback: The name of the destination that gets the alerts while this one is on hold.
        catalog: The catalog chooses the queue, of which there are as many as it names; None: it does not.
        acknowledged: It also gets a message when somebody acknowledges an incident.
    """

    channel: str | None = field(default=None, repr=False)
    queues: int = 1
    steps: tuple[str, ...] | None = None
    fallback: str | None = None
    catalog: ByCatalog | None = None
    acknowledged: bool = False


class DestinationSettings(Strict):
    """The settings of one destination in a rules file.

    Attributes:
        templates: The names of the fields that may hold templates. They see Port's whole event.
    """

    templates: ClassVar[tuple[str, ...]] = ()

    type: str
    """The kind of destination."""
    rate: Rate | None = None
    """How many messages it takes, over all its queues: a number a second, or as in `100/min`."""

    @property
    def spacing(self) -> timedelta:
        """The least time between two messages, over all its queues and all processes."""
        return spacing_of(self.rate) if self.rate else timedelta(0)

    @property
    def reads_event(self) -> bool:
        """Whether it has templates, which may read anything of the event."""
        return bool(self.templates)

    def routing(self) -> Routing:
        """Say how alerts reach the destination."""
        return Routing()


SettingsModels = Mapping[str, type[DestinationSettings]]
"""The settings model of each kind of destination, by the name that `type` has in a rules file."""


EVERYBODY_MAY_SILENCE = timedelta(hours=4)
USER_GROUP = re.compile(r"@?[^\s@,<>]{1,80}")


def _user_group(name: str) -> str:
    if not USER_GROUP.fullmatch(name):
        raise ValueError("must be a user group's handle, such as '@sre', or its ID, such as S0123456789")
    return name.removeprefix("@")


UserGroup = Annotated[str, AfterValidator(_user_group)]


class SlackRules(Strict):
    """Who may silence for how long by a click in Slack."""

    may_silence: tuple[UserGroup, ...] = ()
    """User groups, by handle or ID, whose members may silence for longer than 4 h; others may not."""
    longest_silence: Annotated[Duration, Field(json_schema_extra={"default": "24h"})] = timedelta(hours=24)
    """The longest silence; below 4 h, it holds for everybody."""

    @property
    def by_everybody(self) -> timedelta:
        """How long anybody in the channel may silence."""
        return min(EVERYBODY_MAY_SILENCE, self.longest_silence)
