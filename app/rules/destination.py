"""What the settings of every kind of destination in a rules file have in common.

Each kind's own model stands with its notifier, in app.notifier, and is handed to `load_rules`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.rules.values import Strict

JobStep = Literal["opened", "changed", "resolved", "reminded"]
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

Address = Annotated[SecretStr, AfterValidator(_address)]
Fallback = Annotated[str, Field(min_length=1, description="Gets the alerts while this one is on hold")]


@dataclass(frozen=True, slots=True)
class Routing:
    """How alerts reach a destination.

    Attributes:
        channel: What it sends to, where other destinations may send to the same: they then share one queue.
            It may be a secret. None: the destination has a queue of its own.
        queues: How many queues its alerts are spread over.
        steps: The names of the steps of an incident at which it runs, for a job; None: it gets every step.
        fallback: The name of the destination that gets the alerts while this one is on hold.
    """

    channel: str | None = field(default=None, repr=False)
    queues: int = 1
    steps: tuple[str, ...] | None = None
    fallback: str | None = None


class DestinationSettings(Strict):
    """The settings of one destination in a rules file.

    Attributes:
        templates: The names of the fields that may hold templates. They see Port's whole event.
    """

    templates: ClassVar[tuple[str, ...]] = ()

    type: str
    """The kind of destination."""

    def routing(self) -> Routing:
        """Say how alerts reach the destination."""
        return Routing()


SettingsModels = Mapping[str, type[DestinationSettings]]
"""The settings model of each kind of destination, by the name that `type` has in a rules file."""
