"""Sessions: a signed cookie that expires, forms that only the page makes, and a token for programs."""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated
from urllib.parse import quote, unquote

import structlog
from fastapi import Depends, Form, Header, HTTPException, Request, Security
from fastapi.security import HTTPBearer
from itsdangerous import BadSignature, URLSafeSerializer

from app.model.notification import one_line
from app.web.throttle import Throttle

log = structlog.get_logger(__name__)

COOKIE = "listener_session"
SESSION_SECONDS = 12 * 3600
MAX_VISITOR_NAME = 60
API = "API"
"""The name in the audit trail of programs that act for nobody."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who has signed in: the name they entered, and the session's identifier."""

    name: str
    session: str


@cache
def _signing_key(token: str) -> bytes:
    # A slow derivation, so that a weak token cannot be guessed from a cookie.
    return hashlib.scrypt(token.encode(), salt=b"port-changelog-listener", n=2**14, r=8, p=1)


class Gate:
    """Admits those who have the admin token.

    Args:
        token: The admin token.
        clock: Gives monotonic seconds, for the throttle.
        now: Gives seconds since 1970, for the end of a session.
    """

    def __init__(
        self,
        token: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._token = token
        key = _signing_key(token)
        signing = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._cookies = URLSafeSerializer(key, salt="session", signer_kwargs=signing)
        self._now = now
        # A key of its own: a form's token must not be usable as a cookie, nor the other way round.
        self._forms = hmac.new(key, b"forms", hashlib.sha256).digest()
        self.throttle = Throttle(clock)

    def enter(self, name: str, token: str, address: str) -> str | None:
        """Return a session's cookie if the token is right; None if it is wrong.

        Args:
            name: The visitor's name, as entered.
            token: The token, as entered.
            address: The address of the request.

        Raises:
            HTTPException: 429, too many wrong tokens came from this address.
        """
        if not self._is_right(token, address):
            return None
        return str(self._cookies.dumps([name, secrets.token_hex(16), int(self._now()) + SESSION_SECONDS]))

    def admit(self, request: Request) -> None:
        """Check the token of a program's request.

        Raises:
            HTTPException: 401, it is missing or wrong; 429, too many wrong tokens came from this address.
        """
        authorization = request.headers.get("authorization")
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""  # another scheme counts as a wrong token
        if authorization is None or not self._is_right(token, address_of(request)):
            raise HTTPException(
                401, "Authorization: Bearer with the ADMIN_TOKEN is needed", {"WWW-Authenticate": "Bearer"}
            )

    def _is_right(self, token: str, address: str) -> bool:
        # Before the comparison, so that a wait reveals nothing of the token.
        if (wait := self.throttle.wait(address)) > 0:
            seconds = math.ceil(wait)
            raise HTTPException(
                429, f"Too many wrong tokens: try again in {seconds} s", {"Retry-After": str(seconds)}
            )
        # In constant time: how long it takes must not tell how much of the token is right.
        if hmac.compare_digest(token.encode(), self._token.encode()):
            self.throttle.right(address)
            return True
        self.throttle.wrong(address)
        log.warning("admin_token_wrong", address=one_line(address, MAX_VISITOR_NAME))
        return False

    def visitor(self, cookie: str | None) -> Visitor | None:
        """Return the visitor of a cookie; None if it is not ours, or has expired."""
        try:
            name, session, end = self._cookies.loads(cookie or "")
        except (BadSignature, ValueError, TypeError):
            return None
        return Visitor(name, session) if self._now() < end else None

    def form_token(self, visitor: Visitor) -> str:
        """Return the token that proves that a form was made for this session."""
        return hmac.new(self._forms, visitor.session.encode(), hashlib.sha256).hexdigest()

    def check_form(self, form_token: str, visitor: Visitor) -> bool:
        """Whether a form was made for this session; compared in constant time."""
        return hmac.compare_digest(form_token.encode(), self.form_token(visitor).encode())


def address_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else ""


def get_gate(request: Request) -> Gate:
    """Return the gate that the lifespan made."""
    gate: Gate = request.state.gate
    return gate


SessionGate = Annotated[Gate, Depends(get_gate)]


def get_visitor(request: Request, gate: SessionGate) -> Visitor:
    """Return the visitor who is signed in.

    Raises:
        HTTPException: 303 to the sign-in; 401 for a part of an open page, which cannot follow it.
    """
    visitor = gate.visitor(request.cookies.get(COOKIE))
    if visitor is not None:
        return visitor
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request") or request.method != "GET" or request.url.path == "/events":
        raise HTTPException(401, "You are not signed in any more.", {"HX-Redirect": "/sign-in"})
    raise HTTPException(303, headers={"Location": f"/sign-in?next={quote(here, safe='')}"})


SignedIn = Annotated[Visitor, Depends(get_visitor)]


def check_origin(request: Request) -> None:
    """Refuse a form that another site sends; browsers tell in a header.

    Raises:
        HTTPException: 403.
    """
    # A browser that is too old to send the header is still stopped by the form's token and SameSite.
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise HTTPException(403, "This form was sent from another site.")


def get_actor(
    request: Request, visitor: SignedIn, gate: SessionGate, csrf: Annotated[str, Form()] = ""
) -> Visitor:
    """Return the visitor who sent a form of this page.

    Raises:
        HTTPException: 403, the form was not made for this session; and what `get_visitor` raises.
    """
    check_origin(request)
    if not gate.check_form(csrf, visitor):
        raise HTTPException(403, "This form is not from your session: reload the page, and try again.")
    return visitor


BEARER = HTTPBearer(auto_error=False, description="The ADMIN_TOKEN.")


def get_program(
    request: Request,
    gate: SessionGate,
    _: Annotated[object, Security(BEARER)],
    x_acting_for: Annotated[
        str, Header(description="The person for whom the program acts, percent-encoded.", max_length=1_000)
    ] = "",
) -> str:
    """Return the audit trail's name for a program that has the token, or for the person for whom it acts.

    Raises:
        HTTPException: 401 or 429, as `Gate.admit` raises them.
    """
    gate.admit(request)
    return one_line(unquote(x_acting_for), MAX_VISITOR_NAME) or API


def local(path: str) -> str:
    """Return a path of this page; the first page in place of anything that leads elsewhere."""
    # Browsers drop control characters and read a backslash as a slash: both could lead to another site.
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


Program = Annotated[str, Depends(get_program)]
Actor = Annotated[Visitor, Depends(get_actor)]
