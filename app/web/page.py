"""The page's other routes: what changed, what alerted, what did not and why."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.model.change import ENTITY
from app.model.delivery import State
from app.model.report import RUNS
from app.notifier.base import entity_url
from app.receive.forms import forms_tried
from app.store import queries
from app.store.views import QUIET, ChangeFilter, IncidentFilter
from app.web.actions import MAX_ID
from app.web.api.silence_actions import patterns_text
from app.web.context import Context, WebContext, read_page
from app.web.incidents import PAGE_ROWS, SHORT_ROWS, view_incidents
from app.web.render import PageRoute, Render
from app.web.session import COOKIE, SessionGate, SignedIn
from app.web.view import TIMELINE_ROWS, parse_time, timeline, view_change

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SILENCES_SHOWN = 200
INCIDENTS_IN_TIMELINE = 500
ALERTS_IN_TIMELINE = 2_000
TIMELINE_HOURS = (1, 6, 24, 72)
USUAL_HOURS = 6
BODY_BYTES_SHOWN = 20_000
NEWS_POLL_SECONDS = 1.0
STOP_POLLS = 5
"""How often a stream looks for a stop between two looks for news."""
REFRESH_SECONDS = 15
"""The page is refreshed this often without news, because silences and waits end with time alone. One that
hears nothing for three times as long says so."""
STATES = (*State, QUIET)
QUICK_RANGES = {f"{hours}h": timedelta(hours=hours) for hours in (1, 6, 24)} | {"7d": timedelta(days=7)}
"""What `since` may be in place of a time: so long ago, whenever the page is read."""


@router.get("/timeline")
async def show_timeline(
    render: Render, context: Context, hours: int = USUAL_HOURS, team: str = "", group: str = ""
) -> Response:
    """Show the states of entities over the last hours as a picture."""
    shown = await _timeline(context, hours, team, group)
    teams = (await context.store.read(queries.changes.choices)).teams
    asked = {"team": team, "group": group, "hours": shown["hours"]}
    return await render(
        "timeline.html", choices=TIMELINE_HOURS, most=TIMELINE_ROWS, teams=teams, asked=asked, **shown
    )


@router.get("/timeline/data")
async def timeline_data(
    _: SignedIn, context: Context, hours: int = USUAL_HOURS, team: str = "", group: str = ""
) -> Response:
    """Return the picture's data."""
    shown = await _timeline(context, hours, team, group)
    start, end = shown["since"].isoformat(), shown["until"].isoformat()
    return JSONResponse({"from": start, "to": end, "rows": shown["rows"]})


async def _timeline(context: WebContext, hours: int, team: str, group: str) -> dict[str, Any]:
    hours = hours if hours in TIMELINE_HOURS else USUAL_HOURS
    until = context.clock()
    since = until - timedelta(hours=hours)
    alerts = await context.store.read(queries.page.news, since, ALERTS_IN_TIMELINE)
    incidents = await context.store.read(
        queries.incidents.page, since=since, before=None, limit=INCIDENTS_IN_TIMELINE
    )
    rows = timeline(alerts, list(incidents.rows), since, until, team=team, by_team=group == "team")
    return {"hours": hours, "since": since, "until": until, "rows": rows}


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
    """Parse a query's fields into a filter; an empty field does not matter.

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
        return parse_time(text)
    except (ValueError, OverflowError):
        raise HTTPException(422, f"{name} must be a time such as 2026-06-09T12:28") from None


@router.get("/changes")
async def changes(request: Request, render: Render, context: Context) -> Response:
    """Show changes, with a search."""
    # Read from the query itself, not as parameters: the template fills the form and the links with them.
    names = ("blueprint", "entity", "q", "team", "rule", "state", "since", "until")
    asked = {name: request.query_params.get(name, "") for name in names}
    before = request.query_params.get("before") or None
    last = asked["since"] if asked["since"] in QUICK_RANGES else ""
    since = f"{context.clock() - QUICK_RANGES[last]:%Y-%m-%dT%H:%M:%S}" if last else asked["since"]
    wanted = get_filter(**(asked | {"since": since}))
    page = await read_page(
        context.store.read(queries.changes.changes, wanted, before=before, limit=PAGE_ROWS)
    )
    return await render(
        "changes.html",
        asked=asked,
        last=last,
        ranges=QUICK_RANGES,
        before=before,
        page=page,
        changes=[view_change(row) for row in page.rows],
        choices=await context.store.read(queries.changes.choices),
        states=STATES,
        became=await context.store.read(queries.counts.states_of, [row.id for row in page.rows]),
        filtered=any(asked.values()),
    )


@router.get("/changes/{number}")
async def change(render: Render, context: Context, number: int) -> Response:
    """Show one change, its alerts, and every attempt to deliver them."""
    row = await context.store.read(queries.changes.change, number) if 0 < number <= MAX_ID else None
    if row is None:
        raise HTTPException(404, f"There is no change {number}, or it is not kept any more.")
    deliveries = await context.store.read(queries.page.deliveries_of, [number])
    attempts = await context.store.read(queries.page.attempts, [delivery.id for delivery in deliveries])
    return await render(
        "change.html",
        change=view_change(row, whole=True),
        deliveries=deliveries,
        attempts=attempts,
        port=entity_url(context.app_url, row.blueprint, row.entity, row.resource),
        body=None if row.body is None else row.body[:BODY_BYTES_SHOWN].decode("utf-8", "replace"),
        body_left_out=max(0, len(row.body or b"") - BODY_BYTES_SHOWN),
    )


@router.get("/entity")
async def entity(
    render: Render, context: Context, blueprint: str, entity: str, before: str | None = None
) -> Response:
    """Show an entity: its history, its incidents and its deliveries."""
    read = context.store.read
    wanted = ChangeFilter(blueprint=blueprint, entity=entity)
    page = await read_page(read(queries.changes.changes, wanted, before=before, limit=PAGE_ROWS))
    which = IncidentFilter(blueprint=blueprint, entity=entity)
    incidents = await read(queries.incidents.page, which=which, before=None, limit=SHORT_ROWS)
    with_reports = await read(queries.page.deliveries_of, [row.id for row in page.rows])
    # A report to a run in Port is not an alert: it is shown with its change only.
    deliveries = [row for row in with_reports if row.destination != RUNS]
    if not page.rows and not incidents.rows:  # one that was renamed has its changes elsewhere
        raise HTTPException(404, f"No change of {blueprint} {entity} is stored.")
    shown = [view_change(row) for row in page.rows]
    last = deliveries[-1].notification if deliveries else None
    return await render(
        "entity.html",
        blueprint=blueprint,
        entity=entity,
        title=shown[0].title if shown else entity,
        teams=page.rows[0].teams if page.rows else (),
        page=page,
        before=before,
        changes=shown,
        incidents=await view_incidents(
            context, incidents.rows, await read(queries.silences.active, context.clock())
        ),
        deliveries=list(reversed(deliveries))[:SHORT_ROWS],
        links=last.links if last else (),
        port=entity_url(context.app_url, blueprint, entity, page.rows[0].resource if page.rows else ENTITY),
    )


@router.get("/silences")
async def silences(render: Render, context: Context) -> Response:
    """Show silences, those that have ended too."""
    rows = await context.store.read(queries.silences.silences, active_at=None)
    return await render("silences.html", silences=rows[:SILENCES_SHOWN], patterns_text=patterns_text)


@router.get("/quarantine")
async def quarantine(render: Render, context: Context, before: str | None = None) -> Response:
    """Show signed bodies that could not be read."""
    page = await read_page(context.store.read(queries.quarantine.bodies, before=before, limit=SHORT_ROWS))
    forms = {row.id: forms_tried(row.body) for row in page.rows if len(row.body) == row.size}
    return await render("quarantine.html", page=page, forms=forms)


@router.get("/audit")
async def audit(render: Render, context: Context, before: str | None = None) -> Response:
    """Show the audit trail."""
    page = await read_page(context.store.read(queries.audit.entries, before=before, limit=PAGE_ROWS))
    return await render("audit.html", page=page, before=before)


@router.get("/events", response_class=EventSourceResponse)
async def events(
    request: Request, __: SignedIn, gate: SessionGate, context: Context
) -> AsyncIterator[ServerSentEvent]:
    """Send an event whenever there is something new, as long as the session lasts.

    Other processes write to the store as well, and notify nobody: it is polled once a second.
    """
    seen: tuple[int, ...] | None = None
    quiet_seconds = 0.0
    while gate.visitor(request.cookies.get(COOKIE)) is not None and not request.app.state.stopping:
        newest = await context.store.read(queries.counts.newest)
        if seen is not None and (newest != seen or quiet_seconds >= REFRESH_SECONDS):
            yield ServerSentEvent(event="news", raw_data="new")
            quiet_seconds = 0.0
        elif seen is None:
            yield ServerSentEvent(event="ready", raw_data="ready", retry=2000)
        seen = newest
        for _ in range(STOP_POLLS):  # a stop must not wait for the next look: uvicorn waits for open streams
            if not request.app.state.stopping:
                await asyncio.sleep(NEWS_POLL_SECONDS / STOP_POLLS)
        quiet_seconds += NEWS_POLL_SECONDS
