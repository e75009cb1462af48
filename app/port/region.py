"""Where an organization's data lives: https://docs.port.io/api-reference/port-api"""

import re
from enum import StrEnum

_PORT_HOST = re.compile(r"(^|\.)(?P<us>us\.)?(get)?port\.io$")


class Region(StrEnum):
    """One of Port's regions, which share nothing: neither credentials nor addresses."""

    EU = "eu"
    US = "us"

    @property
    def api_url(self) -> str:
        """Where its API is."""
        return "https://api.us.port.io" if self is Region.US else "https://api.port.io"

    @property
    def app_url(self) -> str:
        """Where its app is."""
        return "https://app.us.port.io" if self is Region.US else "https://app.port.io"

    @property
    def other(self) -> "Region":
        """The one that it is not."""
        return Region.EU if self is Region.US else Region.US


def region_of(host: str) -> Region | None:
    """Return the region that a host name belongs to; None: it is not Port's own."""
    match = _PORT_HOST.search(host)
    if match is None:
        return None
    return Region.US if match["us"] else Region.EU
