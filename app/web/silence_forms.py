"""The page's forms about silences."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response

from app.model.silence import ANY, Silence
from app.store import queries
from app.web.actions import Text
from app.web.api import silence_actions
from app.web.api.silence_actions import covered_text, patterns_text
from app.web.context import Context, WebContext
from app.web.forms import ask, go_back, open_incident
from app.web.render import PageRoute
from app.web.session import Actor, SignedIn, Visitor, local
from app.web.view import parse_time

router = APIRouter(route_class=PageRoute, include_in_schema=False)

TO_THE_MINUTE = "%Y-%m-%dT%H:%M"
"""How a form shows a time."""
SILENCE_SPANS = {f"{hours}h": timedelta(hours=hours) for hours in (1, 2, 4)} | {"1d": timedelta(days=1)}


@router.get("/silence")
async def ask_silence(request: Request, visitor: SignedIn, context: Context) -> Response:
    """Ask what to silence, for how long, and why."""
    names = ("rule", "blueprint", "entity", "team")
    asked = {name: request.query_params.get(name, "") for name in names}
    covered = await _covered(context, asked) if any(asked.values()) else ""
    if incident := request.query_params.get("incident", ""):
        await open_incident(context, incident)
    return await _ask_silence(
        request, visitor, asked | {"comment": "", "from": "", "until": ""}, covered, incident=incident
    )


async def _covered(context: WebContext, asked: dict[str, str]) -> str:
    """Say what a silence would cover if it began now."""
    rule, blueprint, entity, team = (pattern or ANY for pattern in asked.values())
    time = context.clock()
    silence = Silence(rule, blueprint, entity, team, time, time, author="", comment="")
    covered = await context.store.read(queries.silences.preview, silence, time)
    return f"It covers {patterns_text(silence)}: {covered_text(covered.incidents, covered.alerts)}. "


async def _ask_silence(
    request: Request, visitor: Visitor, asked: dict[str, str], covered: str = "", **more: Any
) -> Response:
    about = asked["entity"] or asked["rule"]
    title = f"Silence {about}?" if about else "Silence"
    text = f"{covered}No alert is sent meanwhile. When it ends, incidents that are still open alert once."
    values = {"fields": "silence", "asked": asked, "narrow": bool(about), "incident": ""}
    return await ask(request, visitor, title, text, "", **(values | more))


@router.post("/silence")
async def silence(
    request: Request,
    who: Actor,
    context: Context,
    *,
    rule: Text = "",
    blueprint: Text = "",
    entity: Text = "",
    team: Text = "",
    comment: Text = "",
    span: Annotated[str, Form(alias="for")] = "",
    until: Text = "",
    begins: Annotated[str, Form(alias="from")] = "",
    about: Text = "",
    back: Text = "/",
) -> Response:
    """Add a silence."""
    try:
        starts_at = _time(begins, "begins") if begins else context.clock()
        ends_at = starts_at + SILENCE_SPANS[span] if span in SILENCE_SPANS else _time(until, "ends")
        reason = comment.strip() or f"from the page, by {who.name}"
        patterns = (rule, blueprint, entity, team)
        return go_back(
            back, await silence_actions.add_silence(context, who.name, patterns, ends_at, reason, starts_at)
        )
    except HTTPException as error:
        asked = {"rule": rule, "blueprint": blueprint, "entity": entity, "team": team}
        covered = await _covered(context, asked) if any(asked.values()) else ""
        asked |= {"comment": comment, "from": begins, "until": until}
        return await _ask_silence(
            request, who, asked, covered, incident=about, problem=error.detail, back=local(back), status=422
        )


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
    row = await _silence(context, number)
    shown = {
        "from": f"{row.starts_at:{TO_THE_MINUTE}}",
        "until": f"{row.ends_at:{TO_THE_MINUTE}}",
        "comment": row.comment,
    }
    return await _ask_edit(request, visitor, context, number, shown)


async def _silence(context: WebContext, number: int) -> Silence:
    """Read a silence that has not ended.

    Raises:
        HTTPException: 404, there is none of this number.
    """
    rows = await context.store.read(queries.silences.silences, active_at=context.clock())
    if (row := next((row for row in rows if row.id == number), None)) is None:
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    return row


async def _ask_edit(
    request: Request, visitor: Visitor, context: WebContext, number: int, asked: dict[str, str], **more: Any
) -> Response:
    row = await _silence(context, number)
    text = f"It covers {patterns_text(row)}. What is left empty stays as it is."
    values = {
        "fields": "edit",
        "asked": asked,
        "began": f"{row.starts_at:{TO_THE_MINUTE}}",
        "ended": f"{row.ends_at:{TO_THE_MINUTE}}",
        "begun": row.starts_at <= context.clock(),
    }
    return await ask(request, visitor, f"Change silence {number}", text, "Change it", **(values | more))


@router.post("/silences/{number}/edit")
async def edit_silence(
    request: Request,
    who: Actor,
    context: Context,
    number: int,
    begins: Annotated[str, Form(alias="from")] = "",
    until: Text = "",
    began: Text = "",
    ended: Text = "",
    comment: Text = "",
    back: Text = "/silences",
) -> Response:
    """Change a silence; a field that is empty, or as it was shown, stays as it is."""
    asked = {"from": begins, "until": until, "comment": comment}
    # Shown are minutes: what nobody has changed must not lose its seconds.
    begins, until = (now if now != was else "" for now, was in ((begins, began), (until, ended)))
    try:
        done = await silence_actions.revise_silence(
            context,
            who.name,
            number,
            starts_at=_time(begins, "begins") if begins else None,
            ends_at=_time(until, "ends") if until else None,
            comment=comment if comment.strip() else None,
        )
    except HTTPException as error:
        if error.status_code != 422:
            raise
        more = {"problem": error.detail, "back": local(back), "status": 422}
        return await _ask_edit(request, who, context, number, asked, **more)
    return go_back(back, done)


@router.get("/silences/{number}/end")
async def ask_end(request: Request, visitor: SignedIn, context: Context, number: int) -> Response:
    """Ask whether to end a silence."""
    row = await _silence(context, number)
    text = f"It covers {patterns_text(row)}. Incidents that it muted and that are still open alert once."
    return await ask(request, visitor, f"End silence {number} now?", text, "End it")


@router.post("/silences/{number}/end")
async def end_silence(who: Actor, context: Context, number: int, back: Text = "/silences") -> Response:
    """End a silence."""
    return go_back(back, await silence_actions.end_silence(context, who.name, number))
