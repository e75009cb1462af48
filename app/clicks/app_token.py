"""Asks Slack for a socket by the app-level token, and says what to do where that is refused.

Rules: https://docs.slack.dev/reference/methods/apps.connections.open
"""

import re
from urllib.parse import urlsplit

from app.errors import DeliveryFailed, Scope
from app.notifier.slack.web_api import SlackApi

OPEN_CONNECTION = "apps.connections.open"
LINK_DISABLED = "link_disabled"
APP_TOKEN_ADVICE = {
    "missing_scope": "the app-level token needs the scope connections:write",
    "not_allowed_token_type": "SLACK_APP_TOKEN must be an app-level token, which begins with xapp-",
    LINK_DISABLED: "switch Socket Mode on in the app's settings",
}
NEW_TOKEN = "make a new app-level token, set SLACK_APP_TOKEN, and restart"  # noqa: S105 - advice


async def ask_for_socket(api: SlackApi, *, secure: bool) -> str:
    """Ask Slack for the address of a socket, which only the first who calls it can use.

    Args:
        api: Slack's API by the app-level token.
        secure: Only an address with TLS will do.

    Raises:
        DeliveryFailed: There is none; where somebody can do something about that, the text says what.
    """
    try:
        url = (await api.call(OPEN_CONNECTION, body={})).get("url")
    except DeliveryFailed as failed:
        if failed.scope is not Scope.DESTINATION:
            raise
        # What the Web API says of a bot token is no help with an app-level one.
        raise DeliveryFailed(advised(failed.reason), Scope.DESTINATION) from None
    return check_address(url, secure=secure)


def advised(reason: str) -> str:
    """Add to Slack's word for a refusal what to do about it; another reason stays as it is."""
    word = reason.partition(":")[0]
    if not re.fullmatch(r"[a-z_]+", word):  # a certificate, say
        return reason
    return f"{word}: {APP_TOKEN_ADVICE.get(word, NEW_TOKEN)}"


def check_address(url: object, *, secure: bool) -> str:
    """Give the address of a socket that Slack has answered with.

    Args:
        url: The address.
        secure: Only one with TLS will do.

    Raises:
        DeliveryFailed: It is none.
    """
    schemes = {"wss"} if secure else {"wss", "ws"}
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        if isinstance(url, str) and parts and parts.scheme in schemes and parts.hostname:
            return url
    except ValueError:
        pass
    raise DeliveryFailed("200: not an answer from Slack", Scope.STRANGE)
