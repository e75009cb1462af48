"""The page's forms: each asks first, and then says what it did."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.web import actions
from app.web.desk import Desk
from app.web.pages import PageRoute
from app.web.session import (
    API,
    COOKIE,
    AtTheDesk,
    AtTheGate,
    Doer,
    SignedIn,
    Visitor,
    address_of,
    check_origin,
    clean_name,
    local,
    set_cookie,
)
from app.web.show import ENVIRONMENT, render

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SPANS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1)}
Text = Annotated[str, Form()]


def _back(to: str, done: actions.Done) -> Response:
    """Go back to where the deed was asked for; `did` lets that page say what was done."""
    path, _, query = local(to).partition("?")
    kept = [(key, value) for key, value in parse_qsl(query) if key != "did"]
    return RedirectResponse(f"{path}?{urlencode([*kept, ('did', done.audit)])}", 303)


@router.get("/sign-in")
async def ask_in(request: Request, gate: AtTheGate, next: str = "/") -> Response:  # noqa: A002 - the query's name
    """Ask for a name and the token."""
    if gate.visitor(request.cookies.get(COOKIE)):
        return RedirectResponse(local(next), 303)
    return _sign_in(local(next))


def _sign_in(target: str, name: str = "", problem: str = "", status: int = 200) -> Response:
    values = {"next": target, "name": name, "problem": problem}
    return HTMLResponse(ENVIRONMENT.get_template("sign_in.html").render(values), status)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    gate: AtTheGate,
    name: Text = "",
    token: Text = "",
    next: Text = "/",  # noqa: A002 - the field's name
) -> Response:
    """Let in whoever has the token."""
    check_origin(request)
    who = clean_name(name)
    if not who:
        return _sign_in(local(next), problem="Say who you are: the audit trail has your name.", status=422)
    if who.casefold() == API.casefold():
        return _sign_in(local(next), who, "The audit trail calls programs that: say who you are.", 422)
    try:
        cookie = gate.enter(who, token.strip(), address_of(request))
    except HTTPException as error:
        answer = _sign_in(local(next), who, f"{error.detail}.", error.status_code)
        answer.headers.update(error.headers or {})
        return answer
    if cookie is None:
        return _sign_in(local(next), who, "This is not the ADMIN_TOKEN.", 401)
    answer = RedirectResponse(local(next), 303)
    set_cookie(answer, request, cookie)
    return answer


@router.post("/sign-out")
async def sign_out(_: Doer) -> Response:
    """End the session in this browser."""
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


async def _ask(request: Request, visitor: Visitor, title: str, text: str, do: str, **more: Any) -> Response:
    back = local(request.query_params.get("back", "/"))
    values = {"title": title, "text": text, "do": do, "back": back, "fields": "", "problem": ""}
    template = "ask_form.html" if request.headers.get("hx-request") else "ask.html"
    return await render(request, template, visitor, **(values | more))


@router.get("/deliveries/{number}/retry")
async def ask_retry(request: Request, visitor: SignedIn, desk: AtTheDesk, number: int) -> Response:
    """Ask whether to try a delivery again."""
    row = await desk.views.delivery(number) if 0 < number <= actions.LARGEST_ID else None
    if row is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    said = row.delivery.notification
    text = f"{said.title or said.entity}, to {row.delivery.destination}. Its history stays."
    return await _ask(request, visitor, f"Try delivery {number} again?", text, "Try again")


@router.post("/deliveries/{number}/retry")
async def retry(who: Doer, desk: AtTheDesk, number: int, back: Text = "/") -> Response:
    """Try a delivery again."""
    return _back(back, await actions.retry(desk, who.name, number))


@router.get("/queues/release")
async def ask_release(request: Request, visitor: SignedIn, queue: str) -> Response:
    """Ask whether to release a queue."""
    text = f"What waits in {queue}, and in other queues of its destination, is sent at once."
    return await _ask(request, visitor, "Release this queue?", text, "Release", fields="release", queue=queue)


@router.post("/queues/release")
async def release(who: Doer, desk: AtTheDesk, queue: Text, back: Text = "/") -> Response:
    """Release a queue."""
    return _back(back, await actions.release(desk, who.name, queue))


@router.get("/silence")
async def ask_silence(
    request: Request,
    visitor: SignedIn,
    rule: str = "",
    blueprint: str = "",
    entity: str = "",
    team: str = "",
) -> Response:
    """Ask what to silence, for how long, and why."""
    asked = {"rule": rule, "blueprint": blueprint, "entity": entity, "team": team, "comment": ""}
    return await _ask_silence(request, visitor, asked)


async def _ask_silence(request: Request, visitor: Visitor, asked: dict[str, str], **more: Any) -> Response:
    about = asked["entity"] or asked["rule"]
    title = f"Silence {about}?" if about else "Silence"
    text = "Nobody hears of it meanwhile; what is still open when it ends is told once."
    return await _ask(
        request, visitor, title, text, "", fields="silence", asked=asked, narrow=bool(about), **more
    )


@router.post("/silence")
async def silence(
    request: Request,
    who: Doer,
    desk: AtTheDesk,
    rule: Text = "",
    blueprint: Text = "",
    entity: Text = "",
    team: Text = "",
    comment: Text = "",
    span: Annotated[str, Form(alias="for")] = "",
    until: Text = "",
    back: Text = "/",
) -> Response:
    """Silence."""
    try:
        ends_at = _end(desk, span, until)
        reason = comment.strip() or f"from the page, by {who.name}"
        new = actions.silence_of(desk, who.name, (rule, blueprint, entity, team), ends_at, reason)
    except HTTPException as error:
        asked = {"rule": rule, "blueprint": blueprint, "entity": entity, "team": team, "comment": comment}
        return await _ask_silence(request, who, asked, problem=error.detail, back=local(back), status=422)
    return _back(back, await actions.silence(desk, who.name, new))


def _end(desk: Desk, span: str, until: str) -> datetime:
    """Return when a silence ends: after a usual time, or when the form says.

    Raises:
        HTTPException: 422, it says neither.
    """
    if span in SPANS:
        return desk.clock() + SPANS[span]
    try:
        time = datetime.fromisoformat(until)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise HTTPException(422, "Say when it ends.") from None


@router.get("/silences/{number}/end")
async def ask_end(request: Request, visitor: SignedIn, number: int) -> Response:
    """Ask whether to end a silence."""
    text = "Of what it kept back, what is still open is told once."
    return await _ask(request, visitor, f"End silence {number} now?", text, "End it")


@router.post("/silences/{number}/end")
async def end_silence(who: Doer, desk: AtTheDesk, number: int, back: Text = "/silences") -> Response:
    """End a silence."""
    return _back(back, await actions.end_silence(desk, who.name, number))


@router.get("/test")
async def ask_test(request: Request, visitor: SignedIn) -> Response:
    """Ask which test change to send."""
    usual = {
        "blueprint": "deploymentConfig",
        "entity": "test-entity",
        "property": "healthStatus",
        "before": "Healthy",
        "after": "Degraded",
        "team": "",
    }
    return await _ask_test(request, visitor, usual)


async def _ask_test(request: Request, visitor: Visitor, asked: dict[str, str], **more: Any) -> Response:
    text = (
        "It goes the whole way: your rules decide on it, and whom it concerns hears of it, marked as a test."
        " The entity's name begins with test-, so that it is none of the catalog. Swap before and after to"
        " end the incident that it opens."
    )
    title = "Send a test change"
    return await _ask(request, visitor, title, text, "Send it", fields="test", asked=asked, **more)


@router.post("/test")
async def send_test(
    request: Request,
    who: Doer,
    desk: AtTheDesk,
    blueprint: Text = "",
    entity: Text = "",
    property: Text = "",  # noqa: A002 - the field's name
    before: Text = "",
    after: Text = "",
    team: Text = "",
    back: Text = "/",
) -> Response:
    """Send a test change."""
    asked = actions.TestChange(blueprint, entity, property, before, after, team)
    try:
        done = await actions.send_test(desk, who.name, asked)
    except HTTPException as error:
        given = {name: getattr(asked, name) for name in asked.__slots__}
        return await _ask_test(request, who, given, problem=error.detail, back=local(back), status=422)
    return _back(back, done)


@router.get("/quarantine/{number}/replay")
async def ask_replay(request: Request, visitor: SignedIn, number: int) -> Response:
    """Ask whether to read a body again."""
    text = "If it can be read now, it is accepted as a change and leaves the quarantine."
    return await _ask(request, visitor, f"Read number {number} again?", text, "Read again")


@router.post("/quarantine/{number}/replay")
async def replay(who: Doer, desk: AtTheDesk, number: int, back: Text = "/quarantine") -> Response:
    """Read a body again."""
    return _back(back, await actions.replay(desk, who.name, number))
