"""The one table of failure: what an answer means for the deliveries, by what the receiver said.

Each kind of destination says only what is particular to it: what a success is, and its own words.

Rules: https://www.rfc-editor.org/rfc/rfc9110#section-15 (statuses)
"""

import re
from datetime import timedelta

from app.errors import DeliveryFailed, Scope

MAY_PASS = frozenset({407, 408, 425, 429})
"""Statuses below 500 that say nothing of the message or the destination; 407 is a proxy's."""
OF_THE_CALLER = frozenset({401, 402})
"""Who calls: so for every message that has the same host and the same headers, a token among them."""
FORBIDDEN = 403
"""The caller may not call this address: or none any more, where a token has expired or lost its rights."""
OF_THE_ADDRESS = frozenset({FORBIDDEN, 404, 405, 406, 410, 415, 421, 426, 451})
"""What is so for every message to the address: what is there, and how it wants to be called."""
TOO_LATE = frozenset({504, 524})
"""A proxy's word that it has passed the request on, and the answer did not come in time."""
PROXY_REFUSES = "407: the proxy wants a user and a password: give them in HTTPS_PROXY (or HTTP_PROXY)"

OF_THE_RULE = "check what the rule sends there: python -m app rules test shows it"
REMEDIES = {
    "channel_is_archived": "unarchive the channel, or give the destination another one",
    "is_archived": "unarchive the channel, or give the destination another one",
    "channel_not_found": "name a channel that exists, and invite the app to it",
    "users_not_found": "check the e-mail address: nobody in Slack has it",
    "not_in_channel": "/invite the app to the channel",
    "no_service": "make a new webhook, and set its URL",
    "no_active_hooks": "make a new webhook, and set its URL",
    "no_team": "make a new webhook, and set its URL",
    "invalid_token": "make a new webhook, and set its URL",
    "action_prohibited": "let a Slack administrator allow the app to post there",
    "posting_to_general_channel_denied": "let a Slack administrator allow the app to post there",
    "token_revoked": "install the app again, and set its token",
    "token_expired": "install the app again, and set its token",
    "account_inactive": "install the app again, and set its token",
    "invalid_auth": "set a valid token",
    "not_authed": "set a valid token",
    "missing_scope": "give the app the scope, and install it again",
    "routing_key": "set the integration key of an integration of the type Events API v2",
    "WorkflowTriggerIsNotEnabled": "turn the flow on, or set the URL of a new one",
    "invalid_payload": OF_THE_RULE,
    "invalid_blocks": OF_THE_RULE,
    "401": "check its credentials",
    "403": "check its credentials",
    "404": "check its address",
    "410": "check its address",
    "400": OF_THE_RULE,
    "413": OF_THE_RULE,
    "422": OF_THE_RULE,
}
"""What to do about a destination on hold or a dead alert, by a word of the reason: the first that is in it.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (errors),
https://docs.slack.dev/reference/methods/chat.postMessage (errors)
"""


def remedy(reason: str) -> str:
    """Say what to do about what put a destination on hold, or a delivery to its end; empty: nobody knows."""
    words = set(re.findall(r"\w+", reason))
    return next((advice for word, advice in REMEDIES.items() if word in words), "")


def failure_of_status(
    status: int,
    reason: str,
    *,
    retry_after: timedelta | None,
    fixed: bool = True,
    fixed_caller: bool = True,
    unsure: bool = False,
) -> DeliveryFailed:
    """Make the failure of an answer that is no success, as its kind defines it.

    Args:
        status: The HTTP status.
        reason: What was answered, for people, without secrets.
        retry_after: How long the receiver asks to wait; None: it does not ask.
        fixed: Whether the address is the same for every message, and was not made of a change.
        fixed_caller: Whether the host and all headers are.
        unsure: Whether what this kind sends may have arrived where its answer got lost on the way back.
    """
    if retry_after is not None or status in MAY_PASS or not 200 <= status < 500:
        if status == 407:
            reason = PROXY_REFUSES
        return DeliveryFailed(reason, Scope.TRANSIENT, retry_after, unsure=unsure and not 400 <= status < 500)
    if status < 400:
        return DeliveryFailed(reason, Scope.STRANGE if fixed else Scope.TRANSIENT, unsure=unsure)
    of_all = (fixed and status in OF_THE_ADDRESS) or (fixed_caller and status in OF_THE_CALLER)
    if of_all:
        return DeliveryFailed(reason, Scope.DESTINATION)
    doubtful = status == FORBIDDEN and fixed_caller
    return DeliveryFailed(reason, Scope.REFUSED if doubtful else Scope.MESSAGE)
