"""A difference that a comparison found goes through decide and store, as a change that came."""

from dataclasses import replace

import structlog

from app.receive.intake import Listener, match_and_route
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.reconcile.difference import Difference
from app.rules.decide import OVERTAKEN, Decision, EntityState, decide
from app.rules.watched import Watched
from app.store.rows import Incoming

log = structlog.get_logger(__name__)


async def tell(listener: Listener, difference: Difference, watched: Watched, *, first: bool) -> bool:
    """Decide on a difference and store it; False: something came before, and moved what it rests on.

    Args:
        listener: Its rules decide, its store keeps.
        difference: The difference.
        watched: What was compared.
        first: Its blueprint was never read before: of what is as it should be nobody needs to hear.
    """
    now = listener.clock()
    body = difference.body(now)
    change = parse_event(Signed(body, now))
    matched = await match_and_route(change, body, listener.book, listener.evaluate, listener.look_up)
    if first:
        matched = replace(matched, hits=tuple(hit for hit in matched.hits if not hit.resolves))
    matched = replace(matched, watched=watched)

    def decided(state: EntityState) -> Decision:
        if (state.known.version if state.known else 0) != difference.version:
            return OVERTAKEN
        return decide(matched, state, now, noticed=True)

    (accepted,) = await listener.store.accept([Incoming(change, body, now, decided, watched=True)])
    if accepted.duplicate or not accepted.stored:
        return False
    if accepted.alerts:
        listener.wake()
    log.info(
        "difference noticed",
        change=accepted.key,
        action=difference.action,
        blueprint=difference.blueprint,
        entity=difference.entity,
        alerts=accepted.alerts,
    )
    return True
