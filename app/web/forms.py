"""The page's forms: each asks for confirmation, carries out an action, and goes back."""

import secrets
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.model.delivery import State
from app.model.incident import Person
from app.model.notification import one_line
from app.notifier.base import timestamp
from app.store import queries
from app.store.actions import Verb
from app.store.views import IncidentRow
from app.web import actions
from app.web.actions import TestChange, Text
from app.web.api.models import ActionOut
from app.web.context import Context, WebContext
from app.web.prefix import PREFIX
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

router = APIRouter(route_class=PageRoute, include_in_schema=False)

RETRIED = (State.DEAD, State.PENDING, State.ON_HOLD)
"""Where a delivery can be tried again."""


def go_back(to: str, done: ActionOut) -> Response:
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
        path=request.scope.get(PREFIX) or "/",  # what else is on the host must not get it
        secure=request.url.scheme == "https",  # on plain http, as on loopback, no browser would send it back
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, _: Actor) -> Response:
    """End the session in this browser."""
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path=request.scope.get(PREFIX) or "/", httponly=True, samesite="strict")
    return answer


async def ask(request: Request, visitor: Visitor, title: str, text: str, do: str, **more: Any) -> Response:
    """Ask for confirmation: as a page, or as its part in a dialog.

    Args:
        request: The request; its `back` is where the form leads back to.
        visitor: Who is asked.
        title: What is asked, as a question.
        text: What follows from it.
        do: The button's words; empty: the form's fields have their own.
        more: Further values of the template: `fields`, `problem`, the fields' values.
    """
    back = local(request.query_params.get("back", "/"))
    values = {"title": title, "text": text, "do": do, "back": back, "fields": "", "problem": ""}
    template = "ask_form.html" if request.headers.get("hx-request") else "ask.html"
    return await render(request, template, visitor, **(values | more))


@router.get("/deliveries/retry")
async def ask_retry_dead(
    request: Request, visitor: SignedIn, context: Context, rule: str = "", destination: str = ""
) -> Response:
    """Ask whether to try all dead deliveries again, or those of a rule, or for a destination."""
    tally = await context.store.read(queries.counts.tally, context.clock())
    wanted = {"Of rule": rule, "For destination": destination}
    which = ", ".join(f"{words} {one_line(name)}" for words, name in wanted.items() if name)
    text = f"{which}: those that are dead." if which else f"{tally.dead:,} are dead."
    values = {"fields": "retry", "rule": rule, "destination": destination}
    title = "Try all dead deliveries again?"
    return await ask(request, visitor, title, f"{text} Their history stays.", "Try again", **values)


@router.post("/deliveries/retry")
async def retry_dead(
    who: Actor, context: Context, rule: Text = "", destination: Text = "", back: Text = "/"
) -> Response:
    """Try all dead deliveries again, or those of a rule, or for a destination."""
    done = await actions.retry_dead(context, who.name, rule=rule or None, destination=destination or None)
    return go_back(back, done)


@router.get("/deliveries/{number}/retry")
async def ask_retry(request: Request, visitor: SignedIn, context: Context, number: int) -> Response:
    """Ask whether to try a delivery again."""
    row = await context.store.read(queries.page.delivery, number) if 0 < number <= actions.MAX_ID else None
    if row is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    if row.state not in RETRIED:
        raise HTTPException(409, f"Delivery {number} is {row.state}: there is nothing to try again.")
    alert = row.notification
    text = f"{alert.title or alert.entity}, to {row.destination}. Its history stays."
    return await ask(request, visitor, f"Try delivery {number} again?", text, "Try again")


@router.post("/deliveries/{number}/retry")
async def retry(who: Actor, context: Context, number: int, back: Text = "/") -> Response:
    """Try a delivery again."""
    return go_back(back, await actions.retry(context, who.name, number))


@router.get("/queues/release")
async def ask_release(request: Request, visitor: SignedIn, context: Context, queue: str) -> Response:
    """Ask whether to release a queue that is on hold."""
    await actions.queue_on_hold(context, queue)
    text = f"What waits in {queue}, and in other queues of its destination, is sent at once."
    return await ask(request, visitor, "Release this queue?", text, "Release", fields="release", queue=queue)


@router.post("/queues/release")
async def release(who: Actor, context: Context, queue: Text, back: Text = "/") -> Response:
    """Release a queue."""
    return go_back(back, await actions.release(context, who.name, queue))


@router.get("/incidents/close")
async def ask_close(request: Request, visitor: SignedIn, context: Context, incident: str) -> Response:
    """Ask whether to close an incident."""
    row = await open_incident(context, incident)
    return await _ask_close(request, visitor, context, row, "")


async def open_incident(context: WebContext, name: str) -> IncidentRow:
    """Read an incident that is to be acted on.

    Raises:
        HTTPException: 404, there is none of this id; 409, it is over.
    """
    row = await context.store.read(queries.incidents.incident, name)
    if row is None:
        raise HTTPException(404, f"There is no incident {one_line(name, 80)!r}, or it is not kept any more.")
    if row.incident.resolved_at is not None:
        about = one_line(f"{row.incident.blueprint} {row.incident.entity}, rule {row.incident.rule}")
        raise HTTPException(
            409, f"The incident of {about} is over since {timestamp(row.incident.resolved_at)}."
        )
    return row


async def _ask_close(
    request: Request, visitor: Visitor, context: WebContext, row: IncidentRow, comment: str, **more: Any
) -> Response:
    incident = row.incident
    gone = context.intake.book.rules.why_gone(incident.rule, incident.blueprint)
    later = f"No change can end it: {gone}" if gone else "A later change that matches opens a new one"
    text = (
        f"{incident.blueprint} {incident.entity}, rule {incident.rule}: {incident.state}. Each channel that"
        f" was told of it is told so. {later}."
    )
    values = {"fields": "close", "incident": incident.id, "comment": comment}
    title = f"Close the incident of {one_line(incident.entity, actions.MAX_NAME_CHARACTERS)}?"
    return await ask(request, visitor, title, one_line(text, 600), "Close it", **(values | more))


@router.post("/incidents/{verb}")
async def act_on_incident(
    request: Request,
    who: Actor,
    context: Context,
    verb: Verb,
    incident: Text,
    version: Text = "",
    comment: Text = "",
    back: Text = "/",
) -> Response:
    """Acknowledge an incident, take that back, or close it.

    An acknowledgement needs no question, because it can be taken back; a double click is one action.
    """
    id_ = f"page:{who.name}:{verb}:{incident}:{version}" if version else f"page:{secrets.token_hex(16)}"
    person = Person(who.name, "page")
    try:
        return go_back(back, await actions.act_on_incident(context, person, verb, incident, comment, id_=id_))
    except HTTPException as error:
        if error.status_code != 422 or verb != "close":
            raise
        row = await open_incident(context, incident)
        more = {"problem": error.detail, "back": local(back), "status": 422, "path": "/incidents/close"}
        return await _ask_close(request, who, context, row, comment, **more)


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
    return await ask(request, visitor, title, text, "Send it", fields="test", asked=asked, **more)


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
        return go_back(back, await actions.send_test(context, who.name, change))
    except HTTPException as error:
        return await _ask_test(request, who, change, problem=error.detail, back=local(back), status=422)


@router.get("/quarantine/{number}/replay")
async def ask_replay(request: Request, visitor: SignedIn, context: Context, number: int) -> Response:
    """Ask whether to read a body again."""
    await actions.quarantined(context, number)
    text = "If it can be read now, it is accepted as a change and leaves the quarantine."
    return await ask(request, visitor, f"Read number {number} again?", text, "Read again")


@router.post("/quarantine/{number}/replay")
async def replay(who: Actor, context: Context, number: int, back: Text = "/quarantine") -> Response:
    """Read a body again."""
    return go_back(back, await actions.replay(context, who.name, number))
