"""The page: what changed, what was told and what was not and why, what is stuck."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.model.delivery import State
from app.model.report import RUNS
from app.model.silence import silence_of
from app.store.views import QUIET, ChangeFilter, Page
from app.web.actions import LARGEST_ID, what_of
from app.web.desk import Desk
from app.web.pages import PageRoute
from app.web.session import COOKIE, AtTheDesk, AtTheGate, SignedIn
from app.web.show import ROWS_AT_MOST, links_of, port_link, render, show_change, timeline

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PAGE = 50
SHORT = 20
HOURS = (1, 6, 24, 72)
TOLD_AT_MOST = 2_000
BODY_SHOWN = 20_000
LOOK_SECONDS = 1.0
LOOKS_FOR_STOP = 5
TICK_SECONDS = 30
"""Without any news the page is renewed so often, for what time alone changes."""
STATES = (*State, QUIET)
FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 9000))
"""Times that are asked for are kept between these, from which one can still count on."""


@router.get("/")
async def now(request: Request, visitor: SignedIn, desk: AtTheDesk) -> Response:
    """Show what is wrong now."""
    time, views = desk.clock(), desk.views
    health = await desk.readiness()
    counts = await views.counts(time - timedelta(hours=1))
    incidents = await views.worst(PAGE)
    silences = await desk.store.silences(active_at=time)
    active = [one for one in silences if one.is_active(time)]
    dead = await views.deliveries(state=State.DEAD, before=None, limit=SHORT)
    queues = await desk.store.queues(time)
    recent = await views.changes(ChangeFilter(), before=None, limit=8)
    return await render(
        request,
        "now.html",
        visitor,
        health=health,
        counts=counts,
        incidents=[(one, one.last and silence_of(one.last, active)) for one in incidents],
        on_hold=[one for one in queues if one.on_hold],
        failing=[one for one in queues if one.failures and not one.on_hold],
        dead=dead,
        silences=silences,
        what_of=what_of,
        changes=[show_change(one) for one in recent.rows],
        comparison=await desk.comparison(),
    )


@router.get("/timeline")
async def show_timeline(request: Request, visitor: SignedIn, desk: AtTheDesk, hours: int = 6) -> Response:
    """Show the states of entities over the last hours as a picture."""
    hours = hours if hours in HOURS else 6
    rows = await _timeline(desk, hours)
    return await render(
        request, "timeline.html", visitor, hours=hours, choices=HOURS, rows=rows, most=ROWS_AT_MOST
    )


@router.get("/timeline/data")
async def timeline_data(_: SignedIn, desk: AtTheDesk, hours: int = 6) -> Response:
    """Give the picture's data."""
    hours = hours if hours in HOURS else 6
    time = desk.clock()
    rows = await _timeline(desk, hours)
    start = (time - timedelta(hours=hours)).isoformat()
    return JSONResponse({"from": start, "to": time.isoformat(), "rows": rows})


async def _timeline(desk: Desk, hours: int) -> list[dict[str, Any]]:
    time = desk.clock()
    since = time - timedelta(hours=hours)
    told = await desk.views.told_since(since, TOLD_AT_MOST)
    incidents = await desk.views.incidents(since=since, before=None, limit=200)
    return timeline(told, [one.incident for one in incidents.rows], since, time)


def get_filter(
    blueprint: str = "",
    entity: str = "",
    q: str = "",
    team: str = "",
    rule: str = "",
    state: str = "",
    since: str = "",
    until: str = "",
) -> ChangeFilter:
    """Return what a query asks for; what is empty does not matter.

    Raises:
        HTTPException: 422, a state or a time cannot be understood.
    """
    if state and state not in STATES:
        raise HTTPException(422, f"state must be one of {', '.join(STATES)}")
    return ChangeFilter(
        blueprint=blueprint or None,
        entity=entity or None,
        text=q.strip() or None,
        team=team or None,
        rule=rule or None,
        state=state or None,
        since=_time("since", since),
        until=_time("until", until),
    )


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return min(max(time, FIRST), LAST)
    except (ValueError, OverflowError):
        raise HTTPException(422, f"{name} must be a time such as 2026-06-09T12:28") from None


@router.get("/changes")
async def changes(request: Request, visitor: SignedIn, desk: AtTheDesk) -> Response:
    """Show changes, with a search."""
    names = ("blueprint", "entity", "q", "team", "rule", "state", "since", "until")
    asked = {name: request.query_params.get(name, "") for name in names}
    before = request.query_params.get("before") or None
    page = await _page(desk, get_filter(**asked), before)
    return await render(
        request,
        "changes.html",
        visitor,
        asked=asked,
        before=before,
        page=page,
        changes=[show_change(one) for one in page.rows],
        choices=await desk.views.choices(),
        states=STATES,
        filtered=any(asked.values()),
    )


async def _page(desk: Desk, which: ChangeFilter, before: str | None) -> Page[Any]:
    try:
        return await desk.views.changes(which, before=before, limit=PAGE)
    except ValueError:
        raise HTTPException(422, "This link is broken: begin with the newest changes.") from None


@router.get("/changes/{number}")
async def change(request: Request, visitor: SignedIn, desk: AtTheDesk, number: int) -> Response:
    """Show one change, what it led to, and every try to deliver it."""
    row = await desk.views.change(number) if 0 < number <= LARGEST_ID else None
    if row is None:
        raise HTTPException(404, f"There is no change {number}, or it is not kept any more.")
    deliveries = await desk.views.deliveries_of([number])
    attempts = await desk.views.attempts([one.delivery.id for one in deliveries])
    return await render(
        request,
        "change.html",
        visitor,
        change=show_change(row, whole=True),
        deliveries=deliveries,
        attempts=attempts,
        port=port_link(desk.app_url, row.blueprint, row.entity),
        body=None if row.body is None else row.body[:BODY_SHOWN].decode("utf-8", "replace"),
        body_left_out=max(0, len(row.body or b"") - BODY_SHOWN),
        State=State,
    )


@router.get("/entity")
async def entity(
    request: Request,
    visitor: SignedIn,
    desk: AtTheDesk,
    blueprint: str,
    entity: str,
    before: str | None = None,
) -> Response:
    """Show an entity: its history, its incidents and its deliveries."""
    views = desk.views
    page = await _page(desk, ChangeFilter(blueprint=blueprint, entity=entity), before)
    incidents = await views.incidents(blueprint=blueprint, entity=entity, before=None, limit=SHORT)
    all_of_them = await views.deliveries_of([one.id for one in page.rows])
    deliveries = [one for one in all_of_them if one.delivery.destination != RUNS]
    if not page.rows and not incidents.rows:
        raise HTTPException(404, f"Nothing is known of {blueprint} {entity}.")
    shown = [show_change(one) for one in page.rows]
    last = next((one.delivery.notification for one in reversed(deliveries)), None)
    return await render(
        request,
        "entity.html",
        visitor,
        blueprint=blueprint,
        entity=entity,
        title=shown[0].title if shown else entity,
        teams=page.rows[0].teams if page.rows else (),
        page=page,
        before=before,
        changes=shown,
        incidents=incidents.rows,
        deliveries=list(reversed(deliveries))[:SHORT],
        links=links_of(last),
        port=port_link(desk.app_url, blueprint, entity),
    )


@router.get("/silences")
async def silences(request: Request, visitor: SignedIn, desk: AtTheDesk) -> Response:
    """Show what is silenced, and what was."""
    rows = await desk.store.silences(active_at=None)
    return await render(request, "silences.html", visitor, silences=rows[:200], what_of=what_of)


@router.get("/quarantine")
async def quarantine(
    request: Request, visitor: SignedIn, desk: AtTheDesk, before: str | None = None
) -> Response:
    """Show signed bodies that could not be read."""
    try:
        page = await desk.views.quarantine(before=before, limit=SHORT)
    except ValueError:
        raise HTTPException(422, "This link is broken.") from None
    return await render(request, "quarantine.html", visitor, page=page)


@router.get("/audit")
async def audit(request: Request, visitor: SignedIn, desk: AtTheDesk, before: str | None = None) -> Response:
    """Show who did what."""
    try:
        page = await desk.views.audit(before=before, limit=PAGE)
    except ValueError:
        raise HTTPException(422, "This link is broken.") from None
    return await render(request, "audit.html", visitor, page=page, before=before)


@router.get("/events", response_class=EventSourceResponse)
async def events(
    request: Request, __: SignedIn, gate: AtTheGate, desk: AtTheDesk
) -> AsyncIterator[ServerSentEvent]:
    """Say that there is something new, as long as the session lasts.

    Other processes write to the store as well, so that nobody can tell us: it is asked once a second.
    """
    seen: tuple[int, ...] | None = None
    quiet = 0.0
    while gate.visitor(request.cookies.get(COOKIE)) is not None and not request.app.state.stopping:
        newest = await desk.views.newest()
        if seen is not None and (newest != seen or quiet >= TICK_SECONDS):
            yield ServerSentEvent(event="news", raw_data="new")
            quiet = 0.0
        elif seen is None:
            yield ServerSentEvent(event="ready", raw_data="ready", retry=2000)
        seen = newest
        for _ in range(LOOKS_FOR_STOP):
            if not request.app.state.stopping:
                await asyncio.sleep(LOOK_SECONDS / LOOKS_FOR_STOP)
        quiet += LOOK_SECONDS
