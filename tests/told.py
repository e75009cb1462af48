"""What people have heard: read from the messages that a stand-in Slack has taken."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

LINK = re.compile(r"Entity\?identifier=([^|>\"]+)\|")


def entities(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the entities that messages tell of, in their order; one that a digest has, once for it."""
    return [unquote(found) for message in messages for found in LINK.findall(json.dumps(message))]
