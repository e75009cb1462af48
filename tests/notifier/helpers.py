"""What several test modules of notifiers need: an alert, and templates filled without jq."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from app.errors import DeliveryFailed, Scope
from app.model.incident import Step
from app.model.notification import Link, Notification, ValueChange
from app.notifier.http.parts import MAX_BODY_BYTES
from app.notifier.kind import NotifierContext

APP = "https://app.port.io"
NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
LINKS = {
    "newRelicUrl": "https://newrelic.com",
    "sentryUrl": "https://sentry.io/",
    "prometheusUrl": "https://prometheus.io",
}
EVENT = {
    "context": {"entityIdentifier": "orders-db"},
    "diff": {
        "after": {"properties": {"cpuUtil": 85, "path": "close", "evil": "a\r\nX-Evil: 1", "none": None}}
    },
    "long": "x" * 9_000,
    "huge": "x" * MAX_BODY_BYTES,
    "infinite": float("inf"),
    "half": "\ud83d",
    "host": "127.0.0.1",
}


def notification(**facts: Any) -> Notification:
    """Return a notification that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "step": Step.OPENED,
        "rule": "health",
        "blueprint": "deploymentConfig",
        "entity": "notification-service-prod",
        "title": "Notification Service",
        "teams": ("Rocket",),
        "change": ValueChange(name="healthStatus", before="Healthy", after="Degraded"),
        "links": tuple(Link(name=name, url=url) for name, url in LINKS.items()),
        "actor": "ada@example.com",
        "origin": "UI",
        "at": NOW,
    }
    return Notification(**(usual | facts))


def context(**facts: Any) -> NotifierContext:
    """Make a context without credentials, that differs from that in `facts`."""
    usual: dict[str, Any] = {
        "app_url": APP,
        "page_url": None,
        "default_webhook": "",
        "bot_token": "",
        "slack_api_url": "https://slack.com/api/",
        "port": None,
        "fate": None,
        "render": render,
        "clock": lambda: NOW,
    }
    return NotifierContext(**(usual | facts))


async def render(template: Any, event: Mapping[str, Any]) -> Any:
    """Fill ``{{ .a.b }}`` with the event's value there; alone in a string it keeps its type."""
    if isinstance(template, dict):
        return {name: await render(value, event) for name, value in template.items()}
    if isinstance(template, list):
        return [await render(value, event) for value in template]
    if not isinstance(template, str):
        return template
    if encoded := re.fullmatch(r"{{ ([\w.]+) \| @uri }}", template):
        return quote(_at(event, encoded[1]), safe="")
    if whole := re.fullmatch(r"{{ ([\w.]+) }}", template):
        return _at(event, whole[1])
    return re.sub(r"{{ ([\w.]+) }}", lambda found: str(_at(event, found[1])), template)


def _at(event: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        if name not in event:
            raise DeliveryFailed(f"{path}: there is none", Scope.MESSAGE)
        event = event[name]
    return event
