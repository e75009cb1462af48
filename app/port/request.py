"""What is sent to Port's API and what comes back, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to Port's API.

    Attributes:
        method: ``GET``, ``POST`` …
        path: With ``/v1``, each identifier quoted.
        query: The query parameters.
        body: The JSON body, if it has one.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a search.

    Attributes:
        entities: What was found.
        next: Give it as `after` to get the next page; None: this is the last one.
    """

    entities: list[Json]
    next: str | None
