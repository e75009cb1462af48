"""What people have heard: read from the messages that a stand-in Slack has taken."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

LINK = re.compile(r"Entity\?identifier=([^|>\"]+)\|")


def entities(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the entities that messages tell of, in their order; one that a digest has, once for it."""
    shown = [message.get("blocks") or message["text"] for message in messages]
    return [unquote(link) for content in shown for link in LINK.findall(json.dumps(content))]
