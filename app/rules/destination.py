"""What the settings of every kind of destination in a rules file have in common.

Each kind's own model stands with its notifier, in app.notifier, and is handed to `load_rules`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

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
    if not value.get_secret_value().lower().startswith(("https://", "http://")):
        raise ValueError("must be an address that begins with https://")
    return value


Address = Annotated[SecretStr, AfterValidator(_address)]
Fallback = Annotated[str, Field(min_length=1, description="Gets a notice when this destination is on hold")]


@dataclass(frozen=True, slots=True)
class Routing:
    """How alerts reach a destination.

    Attributes:
        channel: What it sends to, where other destinations may send to the same: they then share one queue.
            It may be a secret. None: the destination has a queue of its own.
        queues: How many queues its alerts are spread over.
        steps: The steps of an incident at which it runs, for a job; None: it gets every step.
        fallback: The name of the destination that gets a notice when this one is on hold.
    """

    channel: str | None = field(default=None, repr=False)
    queues: int = 1
    steps: tuple[JobStep, ...] | None = None
    fallback: str | None = None


class DestinationSettings(Strict):
    """The settings of one destination in a rules file.

    Attributes:
        type: The kind's name; a Literal in the kind's own model.
        templates: The names of the fields that may hold templates. They see Port's whole event.
    """

    templates: ClassVar[tuple[str, ...]] = ()

    type: str

    def routing(self) -> Routing:
        """Say how alerts reach the destination."""
        return Routing()


SettingsModels = Mapping[str, type[DestinationSettings]]
"""The settings model of each kind of destination, by the name that `type` has in a rules file."""
