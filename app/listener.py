"""The use case: a request's bytes in, a stored change out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from app.alerts.rules import Rule, decide, match
from app.errors import SignatureRejected, UnreadableChange
from app.port.events import parse_event
from app.port.signature import Signed, verify
from app.store.base import Accepted, Incoming, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """Receives changes.

    Attributes:
        store: Where they are kept.
        rules: What decides whether they matter.
        secrets: The client secrets that Port may sign with; none: nothing is verified.
        tolerance: How old a signature may be.
        clock: Gives the time, UTC.
        wake: Called when there is something new to deliver.
    """

    store: Store
    rules: Sequence[Rule]
    secrets: Sequence[str]
    tolerance: timedelta
    clock: Callable[[], datetime]
    wake: Callable[[], None]

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Accepted:
        """Verify, parse, decide and store one request.

        Args:
            body: The bytes as they arrived.
            headers: The request's headers; names in lower case.

        Raises:
            SignatureRejected: Not proven to come from Port; nothing is stored.
            UnreadableChange: From Port, but not a change; it is in quarantine.
            StoreUnavailable: It could not be stored; Port must hear that.
        """
        now = self.clock()
        try:
            signed = (
                verify(body, headers, self.secrets, now, self.tolerance)
                if self.secrets
                else Signed(body, now)
            )
        except SignatureRejected as error:
            log.warning("signature rejected", reason=str(error), body_bytes=len(body))
            raise
        try:
            return await self.accept(signed)
        except UnreadableChange as error:
            log.warning("unreadable change quarantined", reason=error.reason, path=error.path)
            await self.store.quarantine(
                signed.body, signed_at=signed.at, received_at=now, path=error.path, reason=error.reason
            )
            raise

    async def accept(self, signed: Signed) -> Accepted:
        """Parse, decide and store a body that is known to come from Port.

        Raises:
            UnreadableChange: It is not a change; nothing is stored.
            StoreUnavailable: It could not be stored.
        """
        change = parse_event(signed)
        matched = match(self.rules, change)
        incoming = Incoming(change, signed.body, self.clock(), partial(decide, matched))
        (accepted,) = await self.store.accept([incoming])
        if accepted.alerts and not accepted.duplicate:
            self.wake()
        log.info(
            "change accepted",
            change=accepted.key,
            action=change.action,
            resource=change.resource,
            blueprint=change.blueprint,
            entity=change.entity,
            alerts=accepted.alerts,
            duplicate=accepted.duplicate,
            reason=matched.reason,
        )
        return accepted
