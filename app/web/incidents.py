"""The first page, which shows what is wrong now, and that of all incidents."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.model.change import ENTITY
from app.model.delivery import State
from app.model.incident import RANKS
from app.model.silence import Silence, silence_of
from app.notifier.base import entity_url
from app.notifier.words import words_of
from app.store import queries
from app.store.kin.shown import below
from app.store.queue_state import WAITS_LONG
from app.store.views import ChangeFilter, IncidentFilter, IncidentRow
from app.web.api.incident_models import read_alerts
from app.web.api.silence_actions import patterns_text
from app.web.context import Context, WebContext, read_page
from app.web.health import queue_warnings
from app.web.render import PageRoute, Render
from app.web.view import view_change

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PAGE_ROWS = 50
SHORT_ROWS = 20
LATEST_CHANGES = 8
MOST_OPEN = 2_000
"""Of more open incidents, silences are looked for among the worst."""
MOST_BELOW = 500
LEVELS_BELOW = 3
"""How deep incidents are shown that others stand for: a cluster, its services, their endpoints."""
VALUE_CHARACTERS = 100
ACKNOWLEDGED = {"acknowledged": True, "unacknowledged": False}
"""What of the query's `how` asks for."""
SEVERITIES = sorted(RANKS, key=RANKS.__getitem__, reverse=True)


@router.get("/")
async def now(request: Request, render: Render, context: Context) -> Response:
    """Show what is wrong now."""
    time, read = context.clock(), context.store.read
    asked, which = get_incident_filter(request)
    health = await context.readiness()
    counts = await read(queries.counts.overview, time - timedelta(hours=1))
    silences = await read(queries.silences.silences, active_at=time)
    active = [silence for silence in silences if silence.is_active(time)]
    every = await read(queries.incidents.worst, MOST_OPEN) if active else []  # only silences need them
    stuck = await read(queries.counts.stuck, time - WAITS_LONG, time)
    ids = {
        "not_delivered": stuck[State.PENDING],
        "dead": stuck[State.DEAD],
        "silenced": [row.incident.id for row in every if row.last and silence_of(row.last, active)],
    }
    if asked["how"] in ACKNOWLEDGED:
        which = replace(which, acknowledged=ACKNOWLEDGED[asked["how"]])
    elif asked["how"]:
        which = replace(which, ids=ids.get(asked["how"], []))
    # What is asked for is found wherever it stands; else what another incident stands for is in its row.
    which = replace(which, top=not any(asked.values()))
    incidents = await read(queries.incidents.worst, PAGE_ROWS + 1, which)
    dead = await read(queries.page.deliveries, state=State.DEAD, before=None, limit=SHORT_ROWS)
    queues = await read(queries.page.queues, time)
    recent = await read(queries.changes.changes, ChangeFilter(), before=None, limit=LATEST_CHANGES)
    known = queue_warnings(queues, time)
    tally = await read(queries.counts.tally, time)
    severities, ways = tally.by_severity, [(name, len(names)) for name, names in ids.items() if names]
    if tally.acknowledged:
        ways += [("acknowledged", tally.acknowledged)]
    return await render(
        "now.html",
        health=health,
        warnings=[warning for warning in health.warnings if warning not in known],
        counts=counts,
        severities=[(name, severities[name]) for name in SEVERITIES if severities[name]],
        worst=next((name for name in SEVERITIES if severities[name]), "ok"),
        ways=ways,
        asked=asked,
        choices=await read(queries.changes.choices),
        incidents=await _with_others(context, incidents[:PAGE_ROWS], active, levels=LEVELS_BELOW * which.top),
        more=len(incidents) > PAGE_ROWS,
        on_hold=[queue for queue in queues if queue.on_hold],
        failing=[queue for queue in queues if not queue.on_hold and (queue.failures or queue.trouble(time))],
        dead=dead,
        silences=silences,
        patterns_text=patterns_text,
        changes=[view_change(row) for row in recent.rows],
        reconciling=await context.reconciling(),
    )


async def _with_others(
    context: WebContext, rows: Sequence[IncidentRow], active: Sequence[Silence], *, levels: int
) -> list[dict[str, Any]]:
    """Gather what is shown of incidents, each with those that it stands for, so many levels deep."""
    shown = await view_incidents(context, rows, active)
    pairs: Sequence[tuple[str, str]] = ()
    if levels and rows:
        pairs = await context.store.read(below, [row.incident.id for row in rows], MOST_BELOW)
    if not pairs:
        return shown
    which = IncidentFilter(ids=[name for _, name in pairs])
    others = await context.store.read(queries.incidents.worst, MOST_BELOW, which)
    seen = await _with_others(context, others, active, levels=levels - 1)
    for row in shown:
        mine = {name for cause, name in pairs if cause == row["incident"].id}
        row["below"] = [other for other in seen if other["incident"].id in mine]
    return shown


def get_incident_filter(request: Request) -> tuple[dict[str, str], IncidentFilter]:
    """Parse a query into the fields of the form, as text, and the filter that they make."""
    names = ("severity", "blueprint", "rule", "team", "q", "how", "state")
    asked = {name: request.query_params.get(name, "").strip() for name in names}
    fields: dict[str, Any] = {name: asked[name] or None for name in names[:4]}
    return asked, IncidentFilter(**fields, text=asked["q"] or None)


async def view_incidents(
    context: WebContext, rows: Sequence[IncidentRow], active: Sequence[Silence]
) -> list[dict[str, Any]]:
    """Gather what is shown of incidents: who was told, and how, and which silence covers each.

    Args:
        context: The running parts.
        rows: The incidents.
        active: The silences that are active.
    """
    ids = [row.incident.id for row in rows]
    alerts = await read_alerts(context.store, ids, context.clock(), context.find_links)
    return [
        {
            "incident": row.incident,
            "last": row.last,
            "cause": row.cause,
            "below": (),
            "title": (row.last and words_of(row.last).title()) or row.incident.entity,
            "value": words_of(row.last).value(VALUE_CHARACTERS) if row.last else "",
            "silence": row.last and not row.incident.resolved_at and silence_of(row.last, active),
            "alerts": alerts.get(row.incident.id, ()),
            "port": entity_url(
                context.app_url,
                row.incident.blueprint,
                row.incident.entity,
                (row.last and row.last.resource) or ENTITY,
            ),
        }
        for row in rows
    ]


@router.get("/incidents")
async def incidents(request: Request, render: Render, context: Context) -> Response:
    """Show all incidents, open and resolved, with a search."""
    time, read = context.clock(), context.store.read
    asked, which = get_incident_filter(request)
    before = request.query_params.get("before") or None
    is_open = {"open": True, "resolved": False}.get(asked["state"])
    page = await read_page(
        read(queries.incidents.page, is_open=is_open, which=which, before=before, limit=PAGE_ROWS)
    )
    return await render(
        "incidents.html",
        asked=asked,
        before=before,
        page=page,
        incidents=await view_incidents(context, page.rows, await read(queries.silences.active, time)),
        choices=await read(queries.changes.choices),
    )
