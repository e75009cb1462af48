"""A request's bytes in, a stored change out: verify, take in, and keep what cannot be read in quarantine."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from app.errors import JqUnavailable, SignatureRejected, StoreUnavailable, UnreadableChange
from app.observe.tracing import span
from app.receive.intake import Intake
from app.receive.signature import SignatureClaim, Signed, parse_headers, verify, verify_encoded
from app.receive.unproven import Unproven
from app.store.rows import Accepted

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Receiver:
    """Receives Port's requests.

    Attributes:
        intake: Takes in what is verified.
        secrets: The client secrets that Port may sign with.
        accept_unsigned: Without a secret, verify nothing.
        tolerance: How old a signature may be.
        unproven: The bodies that are not verified yet.
    """

    intake: Intake
    secrets: Sequence[str]
    accept_unsigned: bool
    tolerance: timedelta
    unproven: Unproven = field(default_factory=Unproven)

    def check_headers(self, headers: Mapping[str, str]) -> SignatureClaim | None:
        """Parse a request's headers, in lower case, before its body is read; None: nothing is to be verified.

        Raises:
            SignatureRejected: The signature is missing, malformed or stale.
        """
        if self.accept_unsigned and not self.secrets:
            return None
        try:
            return parse_headers(headers, self.intake.clock(), self.tolerance)
        except SignatureRejected as error:
            self._rejected(error)
            raise

    async def read(self, chunks: AsyncIterator[bytes], claim: SignatureClaim | None) -> Signed:
        """Read a request's body and verify it, given the result of `check_headers`.

        Raises:
            SignatureRejected: Not proven to come from Port; nothing is stored.
            TooBusy: Too much of what is not proven is in memory, or waits to be verified.
            TimeoutError: The body takes too long.
        """
        return await self.verify(await self.unproven.read(chunks), claim)

    async def verify(self, body: bytes, claim: SignatureClaim | None) -> Signed:
        """Verify a body, given the result of `check_headers`; for errors see `read`."""
        if claim is None:
            return Signed(body, self.intake.clock())
        with span(self.intake.tracer, "verify", body_bytes=len(body)):
            signed = verify(body, claim, self.secrets)
            return signed or await self._verify_encoded(body, claim)

    async def _verify_encoded(self, body: bytes, claim: SignatureClaim) -> Signed:
        began, proven = await self.unproven.enter(), False
        try:
            signed = verify_encoded(body, claim, self.secrets)
            proven = True
        except SignatureRejected as error:
            self._rejected(error, body_bytes=len(body))
            raise
        finally:
            self.unproven.leave(began, proven=proven)
        return signed

    async def accept(self, signed: Signed) -> Accepted:
        """Parse, decide and store what is verified.

        Raises:
            UnreadableChange: From Port, but not a change; it is in quarantine.
            StoreUnavailable: It could not be stored; Port must be answered so.
            Exception: A fault of this program; the body is in quarantine.
        """
        try:
            return await self.intake.accept(signed)
        except UnreadableChange as error:
            log.warning("change_unreadable", reason=error.reason, path=error.path)
            await self._quarantine(signed, error.reason, error.path)
            raise
        except StoreUnavailable:  # no fault of ours, and there is no room for quarantine either
            raise
        except Exception as error:  # Port does not send it again: it is kept until the fault is fixed
            fault = str(error) if isinstance(error, JqUnavailable) else type(error).__name__
            reason = f"a fault in this program: {fault}"
            log.error("change_faulty", reason=reason)  # the traceback is logged where the request is answered
            await self._quarantine(signed, reason)
            raise

    def _rejected(self, error: SignatureRejected, **fields: int) -> None:
        log.warning("signature_rejected", reason=str(error), **fields)
        self.intake.watch.signature_failed(error.cause)

    async def _quarantine(self, signed: Signed, reason: str, path: str = "") -> None:
        now = self.intake.clock()
        await self.intake.store.quarantine(
            signed.body, signed_at=signed.at, received_at=now, path=path, reason=reason
        )
