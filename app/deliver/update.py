"""Shows the incidents of a message, or a run in Port, as they are now."""

from collections.abc import Awaitable, Callable

import structlog

from app.errors import MessageGone
from app.model.notification import Notification
from app.notifier.base import Keeper, Notifier, Reporter, Sent, Story
from app.store.rows import Claim

log = structlog.get_logger(__name__)

Complete = Callable[[Notification], Awaitable[Notification]]
"""Adds to an alert what its rule asks for; raises `StoreUnavailable`."""


async def update_message(notifier: Notifier, claim: Claim, complete: Complete | None) -> Sent:
    """Update the claim's message to the incidents as they are now, or its run in Port to its change."""
    if claim.run is not None and isinstance(notifier, Reporter):
        return Sent(await notifier.report(claim.run, len(claim.deliveries)))
    message, alone = claim.message, complete if len(claim.stories) == 1 else None
    stories = [
        Story(first, await alone(last) if alone else last, incident_id, silence)
        for first, last, incident_id, silence in claim.silenced_stories
    ]
    if message is None or not stories or not isinstance(notifier, Keeper):
        return Sent("nothing to change any more")
    try:
        return Sent(await notifier.update(message, stories))
    except MessageGone as gone:
        log.warning("message_gone", queue=claim.queue, reason=gone.reason)
        return Sent(f"not changed: {gone.reason}", gone=message)
