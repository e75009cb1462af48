"""The one table of failure: what an answer means for the deliveries, by what the receiver said.

Each kind of destination says only what is particular to it: what a success is, and its own words.

Rules: https://www.rfc-editor.org/rfc/rfc9110#section-15 (statuses)
"""

from datetime import timedelta

from app.errors import DeliveryFailed, Scope

MAY_PASS = frozenset({407, 408, 425, 429})
"""Statuses below 500 that say nothing of the message or the destination; 407 is a proxy's."""
OF_THE_CALLER = frozenset({401, 402, 403})
"""Who may call: so for every message that has the same host and the same headers, a token among them."""
OF_THE_ADDRESS = frozenset({404, 405, 406, 410, 415, 421, 426, 451})
"""What is so for every message to the address: what is there, and how it wants to be called."""
PROXY_REFUSES = "407: the proxy wants a user and a password: give them in HTTPS_PROXY (or HTTP_PROXY)"


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
    return DeliveryFailed(reason, Scope.DESTINATION if of_all else Scope.MESSAGE)
