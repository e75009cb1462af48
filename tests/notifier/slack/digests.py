"""Alerts to digest, and how the message that they make reads."""

from datetime import timedelta
from typing import Any

from app.model.digest import GroupBy
from app.model.incident import Step
from app.model.notification import Notification, ValueChange
from app.notifier.slack.digest import Digest, digest
from tests.notifier import helpers
from tests.notifier.slack.limits import assert_valid, shown

APP, NOW = helpers.APP, helpers.NOW
PAGE = "https://listener.example.com"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
TIME = f"<!date^{int(NOW.timestamp())}^{{date_num}} {{time_secs}}|2026-06-09 12:28:20 UTC>"
MENTIONS = ("<!here>", "<!subteam^S1>", "<@U1>")
ATTACKS = (
    "<!channel>",
    "&amp;",
    "& <b> <https://evil|x>",
    "🚀" * 40,
    "שלום \u202eworld\u202c",
    "one\ntwo\r\n> three",
    "```",
    "a `b",
    '"\\' * 50,
    "<@U1> <!here>",
    " ",
    "",
)
ALL_KEYS: tuple[GroupBy, ...] = ("severity", "team", "blueprint", "rule", "transition")


def told(entity: str, before: Any = "Healthy", after: Any = "Degraded", **facts: Any) -> Notification:
    """Return a notification of a status that changed, that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "entity": entity,
        "title": entity.title(),
        "change": ValueChange(name="healthStatus", before=before, after=after),
        "links": (),
        "opened_at": NOW,
    }
    return helpers.notification(**(usual | facts))


def resolved(entity: str, minutes: int = 4, **facts: Any) -> Notification:
    """Return a notification of an incident that ended after some minutes."""
    usual = {"step": Step.RESOLVED, "at": NOW + minutes * MINUTE, "ended": True}
    return told(entity, "Degraded", "Healthy", **(usual | facts))


def digested(*notifications: Notification, **how: Any) -> Digest:
    """Return the digest of notifications, its form checked."""
    made = digest(notifications, APP, **how)
    links = [f"{how['page_url']}/", f"{how['page_url']}/changes"] if how.get("page_url") else []
    assert_valid(made.message, mentions=MENTIONS, links=links)
    return made


def lines(*notifications: Notification, **how: Any) -> list[str]:
    """Return the lines of the digest's blocks, links as their titles, without the small print of times."""
    return read(digested(*notifications, **how).message)


def read(message: dict[str, Any]) -> list[str]:
    """Return the lines of a message's blocks, links as their titles, without the small print of times."""
    text = shown(message)
    for entity in {part.split("|")[0] for part in text.split(f"<{APP}/")[1:]}:
        text = text.replace(f"<{APP}/{entity}|", "[")
    return [
        line.replace(">", "]") if "[" in line else line for line in text.splitlines() if "<!date" not in line
    ]


def line(*notifications: Notification, **how: Any) -> str:
    """Return the one line in the digest of notifications that make one."""
    (found,) = [one for one in lines(*notifications, **how) if one.startswith("•")]
    return found
