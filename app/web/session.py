"""Who is signed in: a signed cookie that ends, forms that only the page makes, a token for programs."""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

import structlog
from fastapi import Depends, Form, HTTPException, Request, Response, Security
from fastapi.security import HTTPBearer
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.model.notification import one_line
from app.web.access import bears
from app.web.desk import Desk, get_desk
from app.web.throttle import Throttle

log = structlog.get_logger(__name__)

COOKIE = "listener_session"
SESSION_SECONDS = 12 * 3600
LONGEST_NAME = 60
API = "API"
"""Who did it, in the trail, when a program did."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has signed in: the name they gave, and the session's own name."""

    name: str
    session: str


class Gate:
    """Lets in whoever has the token.

    Args:
        token: The admin token.
        clock: Gives seconds that only grow, for the throttle.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        # A slow derivation: from a cookie nobody is to find a weak token by trying.
        key = hashlib.scrypt(token.encode(), salt=b"port-changelog-listener", n=2**14, r=8, p=1)
        signing = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._cookies = URLSafeTimedSerializer(key, salt="session", signer_kwargs=signing)
        self._forms = hmac.new(key, b"forms", hashlib.sha256).digest()
        self.throttle = Throttle(clock)

    def enter(self, name: str, token: str, address: str) -> str | None:
        """Return the cookie for whoever has the token; None if it is wrong.

        Args:
            name: Who they say they are.
            token: What they gave.
            address: Where they come from.

        Raises:
            HTTPException: 429, too many wrong tokens came from there.
        """
        self._slow_down(address)
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            self._note_wrong(address)
            return None
        self.throttle.right(address)
        return self._cookies.dumps([name, secrets.token_hex(16)])

    def admit(self, request: Request) -> None:
        """Let a program in that has the token.

        Raises:
            HTTPException: 401, it has not; 429, too many wrong tokens came from there.
        """
        address = address_of(request)
        if "authorization" in request.headers:
            self._slow_down(address)
            if bears(request.headers, self._token):
                self.throttle.right(address)
                return
            self._note_wrong(address)
        raise HTTPException(
            401, "Authorization: Bearer with the ADMIN_TOKEN is needed", {"WWW-Authenticate": "Bearer"}
        )

    def _note_wrong(self, address: str) -> None:
        self.throttle.wrong(address)
        log.warning("wrong admin token", address=one_line(address, LONGEST_NAME))

    def _slow_down(self, address: str) -> None:
        if (wait := self.throttle.wait(address)) > 0:
            seconds = math.ceil(wait)
            raise HTTPException(
                429, f"Too many wrong tokens: try again in {seconds} s", {"Retry-After": str(seconds)}
            )

    def visitor(self, cookie: str | None) -> Visitor | None:
        """Return who a cookie belongs to; None if it is not ours, or has ended."""
        try:
            name, session = self._cookies.loads(cookie or "", max_age=SESSION_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        return Visitor(name, session)

    def form_token(self, visitor: Visitor) -> str:
        """Return what proves that a form was made for this session."""
        return hmac.new(self._forms, visitor.session.encode(), hashlib.sha256).hexdigest()

    def made(self, form_token: str, visitor: Visitor) -> bool:
        """Tell whether a form was made for this session, in constant time."""
        return hmac.compare_digest(form_token.encode(), self.form_token(visitor).encode())


def address_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else ""


def get_gate(request: Request) -> Gate:
    """Return the gate that the lifespan opened."""
    gate: Gate = request.state.gate
    return gate


def get_visitor(request: Request, gate: Annotated[Gate, Depends(get_gate)]) -> Visitor:
    """Return who is signed in.

    Raises:
        HTTPException: 303 to the sign-in; 401 for a part of a page that is open already.
    """
    visitor = gate.visitor(request.cookies.get(COOKIE))
    if visitor is not None:
        return visitor
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request") or request.method != "GET" or request.url.path == "/events":
        raise HTTPException(401, "You are not signed in any more.", {"HX-Redirect": "/sign-in"})
    raise HTTPException(303, headers={"Location": f"/sign-in?next={quote(here, safe='')}"})


def check_origin(request: Request) -> None:
    """Refuse a form that another site sends; browsers say so themselves.

    Raises:
        HTTPException: 403.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise HTTPException(403, "This form was sent from another site.")


def get_doer(
    request: Request,
    visitor: Annotated[Visitor, Depends(get_visitor)],
    gate: Annotated[Gate, Depends(get_gate)],
    csrf: Annotated[str, Form()] = "",
) -> Visitor:
    """Return who sent a form of ours.

    Raises:
        HTTPException: 403, the form was not made for this session; and what `get_visitor` raises.
    """
    check_origin(request)
    if not gate.made(csrf, visitor):
        raise HTTPException(403, "This form is not from your session: load the page anew, and try again.")
    return visitor


_scheme = HTTPBearer(auto_error=False, description="The ADMIN_TOKEN.")


def get_program(
    request: Request,
    gate: Annotated[Gate, Depends(get_gate)],
    _: Annotated[object, Security(_scheme)],
) -> str:
    """Return who calls the API, once it has proved to have the token.

    Raises:
        HTTPException: 401 or 429, see `Gate.admit`.
    """
    gate.admit(request)
    return API


def local(path: str) -> str:
    """Return a path of this page; the first page in place of anything that leads elsewhere."""
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def set_cookie(response: Response, request: Request, value: str) -> None:
    """Let a browser keep a session, until it ends."""
    response.set_cookie(
        COOKIE,
        value,
        max_age=SESSION_SECONDS,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def clean_name(name: str) -> str:
    """Return a name as the trail keeps it; empty if nothing is left."""
    return one_line(name, LONGEST_NAME)


Program = Annotated[str, Depends(get_program)]
SignedIn = Annotated[Visitor, Depends(get_visitor)]
Doer = Annotated[Visitor, Depends(get_doer)]
AtTheGate = Annotated[Gate, Depends(get_gate)]
AtTheDesk = Annotated[Desk, Depends(get_desk)]
