"""The page's forms: each asks for confirmation, carries out an action, and goes back."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.store import queries
from app.web import actions
from app.web.actions import TestChange, Text
from app.web.api_models import ActionOut
from app.web.context import Context, WebContext
from app.web.render import PAGE_TEMPLATES, PageRoute, render
from app.web.session import (
    API,
    COOKIE,
    MAX_VISITOR_NAME,
    SESSION_SECONDS,
    Actor,
    SessionGate,
    SignedIn,
    Visitor,
    address_of,
    check_origin,
    local,
)
from app.web.view import parse_time

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SILENCE_SPANS = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1)}


def _back(to: str, done: ActionOut) -> Response:
    """Go back to the page that asked for the action; `did` lets that page show what was done."""
    path, _, query = local(to).partition("?")
    # A redirect, so that reloading the page does not send the form again.
    kept = [(key, value) for key, value in parse_qsl(query) if key != "did"]
    return RedirectResponse(f"{path}?{urlencode([*kept, ('did', done.audit)])}", 303)


@router.get("/sign-in")
async def ask_sign_in(
    request: Request,
    gate: SessionGate,
    next: str = "/",  # noqa: A002 - the query's name
) -> Response:
    """Ask for a name and the token."""
    if gate.visitor(request.cookies.get(COOKIE)):
        return RedirectResponse(local(next), 303)
    return _sign_in(local(next))


def _sign_in(target: str, name: str = "", problem: str = "", status: int = 200) -> Response:
    values = {"next": target, "name": name, "problem": problem}
    return HTMLResponse(PAGE_TEMPLATES.get_template("sign_in.html").render(values), status)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    gate: SessionGate,
    name: Text = "",
    token: Text = "",
    next: Text = "/",  # noqa: A002 - the field's name
) -> Response:
    """Start a session for a visitor who has the token."""
    check_origin(request)
    who = one_line(name, MAX_VISITOR_NAME)
    if not who:
        return _sign_in(local(next), problem="Say who you are: the audit trail has your name.", status=422)
    if who.casefold() == API.casefold():  # a person must not pass for a program in the trail
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
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=SESSION_SECONDS,
        path="/",
        secure=request.url.scheme == "https",  # on plain http, as on loopback, no browser would send it back
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
async def sign_out(_: Actor) -> Response:
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
async def ask_retry(request: Request, visitor: SignedIn, context: Context, number: int) -> Response:
    """Ask whether to try a delivery again."""
    row = await context.store.read(queries.page.delivery, number) if 0 < number <= actions.MAX_ID else None
    if row is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    alert = row.notification
    text = f"{alert.title or alert.entity}, to {row.destination}. Its history stays."
    return await _ask(request, visitor, f"Try delivery {number} again?", text, "Try again")


@router.post("/deliveries/{number}/retry")
async def retry(who: Actor, context: Context, number: int, back: Text = "/") -> Response:
    """Try a delivery again."""
    return _back(back, await actions.retry(context, who.name, number))


@router.get("/queues/release")
async def ask_release(request: Request, visitor: SignedIn, queue: str) -> Response:
    """Ask whether to release a queue that is on hold."""
    text = f"What waits in {queue}, and in other queues of its destination, is sent at once."
    return await _ask(request, visitor, "Release this queue?", text, "Release", fields="release", queue=queue)


@router.post("/queues/release")
async def release(who: Actor, context: Context, queue: Text, back: Text = "/") -> Response:
    """Release a queue."""
    return _back(back, await actions.release(context, who.name, queue))


@router.get("/silence")
async def ask_silence(request: Request, visitor: SignedIn, context: Context) -> Response:
    """Ask what to silence, for how long, and why."""
    names = ("rule", "blueprint", "entity", "team")
    asked = {name: request.query_params.get(name, "") for name in names}
    covered = await _covered(context, asked) if any(asked.values()) else ""
    return await _ask_silence(request, visitor, asked | {"comment": ""}, covered)


async def _covered(context: WebContext, asked: dict[str, str]) -> str:
    """Say what a silence would cover if it began now."""
    rule, blueprint, entity, team = (pattern or ANY for pattern in asked.values())
    time = context.clock()
    silence = Silence(rule, blueprint, entity, team, time, time, author="", comment="")
    covered = await context.store.read(queries.silences.preview, silence, time)
    incidents = "1 open incident" if covered.incidents == 1 else f"{covered.incidents:,} open incidents"
    alerts = "1 alert" if covered.alerts == 1 else f"{covered.alerts:,} alerts"
    return f"It covers {actions.patterns_text(silence)}: {incidents} now, {alerts} in the last 24 hours. "


async def _ask_silence(
    request: Request, visitor: Visitor, asked: dict[str, str], covered: str = "", **more: Any
) -> Response:
    about = asked["entity"] or asked["rule"]
    title = f"Silence {about}?" if about else "Silence"
    text = f"{covered}No alert is sent meanwhile. When it ends, incidents that are still open alert once."
    return await _ask(
        request, visitor, title, text, "", fields="silence", asked=asked, narrow=bool(about), **more
    )


@router.post("/silence")
async def silence(
    request: Request,
    who: Actor,
    context: Context,
    rule: Text = "",
    blueprint: Text = "",
    entity: Text = "",
    team: Text = "",
    comment: Text = "",
    span: Annotated[str, Form(alias="for")] = "",
    until: Text = "",
    begins: Annotated[str, Form(alias="from")] = "",
    back: Text = "/",
) -> Response:
    """Add a silence."""
    try:
        starts_at = _time(begins, "begins") if begins else context.clock()
        ends_at = starts_at + SILENCE_SPANS[span] if span in SILENCE_SPANS else _time(until, "ends")
        reason = comment.strip() or f"from the page, by {who.name}"
        patterns = (rule, blueprint, entity, team)
        return _back(back, await actions.add_silence(context, who.name, patterns, ends_at, reason, starts_at))
    except HTTPException as error:
        asked = {"rule": rule, "blueprint": blueprint, "entity": entity, "team": team, "comment": comment}
        return await _ask_silence(request, who, asked, problem=error.detail, back=local(back), status=422)


def _time(text: str, what: str) -> datetime:
    """Parse a form's time, UTC.

    Raises:
        HTTPException: 422, it is none; the text says of what.
    """
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise HTTPException(422, f"Say when it {what}.") from None


@router.get("/silences/{number}/edit")
async def ask_edit(request: Request, visitor: SignedIn, context: Context, number: int) -> Response:
    """Ask what to change of a silence."""
    rows = await context.store.read(queries.silences.silences, active_at=context.clock())
    if (row := next((row for row in rows if row.id == number), None)) is None:
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    text = f"It covers {actions.patterns_text(row)}. What is left empty stays as it is."
    begun = row.starts_at <= context.clock()
    values = {"fields": "edit", "silence": row, "begun": begun}
    return await _ask(request, visitor, f"Change silence {number}", text, "Change it", **values)


@router.post("/silences/{number}/edit")
async def edit_silence(
    who: Actor,
    context: Context,
    number: int,
    begins: Annotated[str, Form(alias="from")] = "",
    until: Text = "",
    comment: Text = "",
    back: Text = "/silences",
) -> Response:
    """Change a silence; an empty field stays as it is."""
    done = await actions.revise_silence(
        context,
        who.name,
        number,
        starts_at=_time(begins, "begins") if begins else None,
        ends_at=_time(until, "ends") if until else None,
        comment=comment if comment.strip() else None,
    )
    return _back(back, done)


@router.get("/silences/{number}/end")
async def ask_end(request: Request, visitor: SignedIn, number: int) -> Response:
    """Ask whether to end a silence."""
    text = "Incidents that it muted and that are still open alert once."
    return await _ask(request, visitor, f"End silence {number} now?", text, "End it")


@router.post("/silences/{number}/end")
async def end_silence(who: Actor, context: Context, number: int, back: Text = "/silences") -> Response:
    """End a silence."""
    return _back(back, await actions.end_silence(context, who.name, number))


@router.get("/incidents/close")
async def ask_close(request: Request, visitor: SignedIn, incident: str) -> Response:
    """Ask whether to close an incident."""
    text = "Each channel that was told of it is told so. A later change that matches opens a new one."
    values = {"fields": "close", "incident": incident}
    return await _ask(request, visitor, "Close this incident?", text, "Close it", **values)


@router.post("/incidents/close")
async def close_incident(
    who: Actor, context: Context, incident: Text, comment: Text = "", back: Text = "/"
) -> Response:
    """Close an incident."""
    return _back(back, await actions.close_incident(context, who.name, incident, comment))


@router.get("/test")
async def ask_test(request: Request, visitor: SignedIn) -> Response:
    """Ask which test change to send."""
    example = TestChange("deploymentConfig", "test-entity", "healthStatus", "Healthy", "Degraded")
    return await _ask_test(request, visitor, example)


async def _ask_test(request: Request, visitor: Visitor, asked: TestChange, **more: Any) -> Response:
    text = (
        "Your rules decide on it as on any other; its alerts are sent, marked as a test. The entity's name"
        " begins with test-, so that it is not one of your catalog's. Swap before and after to resolve the"
        " incident that it opens."
    )
    title = "Send a test change"
    return await _ask(request, visitor, title, text, "Send it", fields="test", asked=asked, **more)


@router.post("/test")
async def send_test(
    request: Request,
    who: Actor,
    context: Context,
    change: Annotated[TestChange, Depends()],
    back: Text = "/",
) -> Response:
    """Send a test change."""
    try:
        return _back(back, await actions.send_test(context, who.name, change))
    except HTTPException as error:
        return await _ask_test(request, who, change, problem=error.detail, back=local(back), status=422)


@router.get("/quarantine/{number}/replay")
async def ask_replay(request: Request, visitor: SignedIn, number: int) -> Response:
    """Ask whether to read a body again."""
    text = "If it can be read now, it is accepted as a change and leaves the quarantine."
    return await _ask(request, visitor, f"Read number {number} again?", text, "Read again")


@router.post("/quarantine/{number}/replay")
async def replay(who: Actor, context: Context, number: int, back: Text = "/quarantine") -> Response:
    """Read a body again."""
    return _back(back, await actions.replay(context, who.name, number))
