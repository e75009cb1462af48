"""The API under /api/v1: what the page shows and does, for programs."""

import secrets
from typing import Annotated, Literal

from fastapi import Depends, Header, HTTPException, Query

from app.model.delivery import State
from app.model.incident import Person, Severity
from app.model.notification import one_line
from app.store import queries
from app.store.actions import Verb
from app.store.views import ChangeFilter, IncidentFilter, Page
from app.web import actions
from app.web.actions import MAX_ID
from app.web.api.base import FOR_AN_ACTION, NOT_FOUND, Before, Limit, Number, demand_text, make_router
from app.web.api.incident_models import IncidentActionIn, IncidentOut, read_alerts
from app.web.api.models import (
    ActionOut,
    AuditOut,
    ChangeOut,
    ChangesOut,
    DeliveryOut,
    IncidentState,
    PageOut,
    QuarantineOut,
    QueueOut,
    ReconciliationOut,
    RetryIn,
    Time,
)
from app.web.api.status import StatusOut, read_status
from app.web.context import Context, read_page
from app.web.page import get_filter
from app.web.session import Program
from app.web.view import view_change

Wanted = Annotated[ChangeFilter, Depends(get_filter)]

router = make_router()


@router.get("/status", tags=["Status"], summary="How the listener is, in a few numbers")
async def status_(context: Context) -> StatusOut:
    """Count what is open, on hold, dead, waiting and silenced, and say what needs attention."""
    return await read_status(context.store, await context.readiness(), context.clock())


@router.get("/changes", tags=["Changes"], summary="Changes, newest first")
async def changes(context: Context, wanted: Wanted, before: Before = None, limit: Limit = 50) -> ChangesOut:
    """List changes. Where few match, a page may hold fewer than `limit`, even none, and have a `next`.

    `q` is a part of the entity's identifier, `state` the state of one of its deliveries, or `none` for no
    alert; `since` and `until` are times of arrival, UTC, in ISO 8601.
    """
    page = await read_page(context.store.read(queries.changes.changes, wanted, before=before, limit=limit))
    shown = [view_change(row) for row in page.rows]
    return ChangesOut(items=shown, next=page.next, searched_to=page.searched_to)


@router.get("/changes/{number}", tags=["Changes"], summary="One change", responses=NOT_FOUND)
async def change(context: Context, number: Number) -> ChangeOut:
    """Return one change with all its values."""
    if (row := await context.store.read(queries.changes.change, number)) is None:
        raise HTTPException(404, f"There is no change {number}.")
    return view_change(row, whole=True)


@router.get("/deliveries", tags=["Deliveries"], summary="Deliveries, those of the newest change first")
async def deliveries(
    context: Context,
    state: State | None = None,
    change: Annotated[int | None, Query(gt=0, le=MAX_ID)] = None,
    entity: str | None = None,
    rule: str | None = None,
    destination: str | None = None,
    since: Annotated[Time | None, Query(description="Stored at or after this time.")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> PageOut[DeliveryOut]:
    """List deliveries with every attempt, in one state, of one entity, rule or destination, or of one change.

    With `change` only `state` counts beside it.
    """
    if change is None:
        page = await read_page(
            context.store.read(
                queries.page.deliveries,
                state=state,
                entity=entity,
                rule=rule,
                destination=destination,
                since=since,
                before=before,
                limit=limit,
            )
        )
    else:
        of_change = await context.store.read(queries.page.deliveries_of, [change])
        page = Page([row for row in of_change if state in (None, row.state)])
    attempts = await context.store.read(queries.page.attempts, [row.id for row in page.rows])
    return PageOut[DeliveryOut](items=[DeliveryOut.of(row, attempts) for row in page.rows], next=page.next)


@router.get("/deliveries/{number}", tags=["Deliveries"], summary="One delivery", responses=NOT_FOUND)
async def delivery(context: Context, number: Number) -> DeliveryOut:
    """Return one delivery with every attempt."""
    if (row := await context.store.read(queries.page.delivery, number)) is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    return DeliveryOut.of(row, await context.store.read(queries.page.attempts, [number]))


@router.post(
    "/deliveries/retry",
    tags=["Deliveries"],
    summary="Try dead ones again at once",
    dependencies=[Depends(demand_text)],
)
async def retry_dead(context: Context, who: Program, wanted: RetryIn) -> ActionOut:
    """Make dead deliveries due now: all, or those of a rule, for a destination, or that died lately."""
    return await actions.retry_dead(
        context, who, rule=wanted.rule, destination=wanted.destination, since=wanted.since
    )


@router.post(
    "/deliveries/{number}/retry", tags=["Deliveries"], summary="Try again at once", responses=FOR_AN_ACTION
)
async def retry(context: Context, who: Program, number: Number) -> ActionOut:
    """Make a delivery due now, whether it is dead or waits. Its history stays."""
    return await actions.retry(context, who, number)


@router.get("/incidents", tags=["Incidents"], summary="Incidents, those that opened last first")
async def incidents(
    context: Context,
    state: IncidentState | None = None,
    severity: Severity | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    q: str | None = None,
    rule: str | None = None,
    team: str | None = None,
    acknowledged: bool | None = None,
    order: Literal["newest", "worst"] = "newest",
    before: Before = None,
    limit: Limit = 50,
) -> PageOut[IncidentOut]:
    """List incidents: in one state, acknowledged or not; `q` is a part of the entity's identifier.

    With `order=worst` the worst come first, of those the oldest; a `next` is for its own order only.
    """
    which = IncidentFilter(
        severity=severity,
        blueprint=blueprint,
        entity=entity,
        text=q,
        rule=rule,
        team=team,
        acknowledged=acknowledged,
    )
    page = await read_page(
        context.store.read(
            queries.incidents.page,
            is_open=None if state is None else state == "open",
            which=which,
            worst_first=order == "worst",
            before=before,
            limit=limit,
        )
    )
    ids = [row.incident.id for row in page.rows]
    alerts = await read_alerts(context.store, ids, context.clock(), context.find_links)
    return PageOut[IncidentOut](items=[IncidentOut.of(row, alerts) for row in page.rows], next=page.next)


@router.get("/incidents/{name:path}", tags=["Incidents"], summary="One incident", responses=NOT_FOUND)
async def incident(context: Context, name: str) -> IncidentOut:
    """Return one incident."""
    if (row := await context.store.read(queries.incidents.incident, name)) is None:
        raise HTTPException(404, f"There is no incident {one_line(name, 80)!r}.")
    return IncidentOut.of(row, await read_alerts(context.store, [name], context.clock(), context.find_links))


@router.post(
    "/incidents/{name:path}/{verb}",
    tags=["Incidents"],
    summary="Acknowledge, unacknowledge, silence or close an incident",
    responses=FOR_AN_ACTION,
    dependencies=[Depends(demand_text)],
)
async def act_on_incident(
    context: Context,
    who: Program,
    name: str,
    verb: Verb,
    wanted: IncidentActionIn,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> ActionOut:
    """Act on an open incident.

    `acknowledge`: reminders and escalations stop until it gets worse. `unacknowledge` takes that back.
    `silence`: its alerts are muted until it is over, or for as long as the body says. `close`: it is over,
    though no change has ended it, and each channel that was told of it is told so.

    With the same `Idempotency-Key` it is done once.
    """
    until = wanted.end(context.clock())
    id_ = f"api:{idempotency_key or secrets.token_hex(16)}"
    person = Person(who, "api")
    return await actions.act_on_incident(context, person, verb, name, wanted.comment, id_=id_, until=until)


@router.get("/queues", tags=["Queues"], summary="Every queue, by name")
async def queues(context: Context) -> list[QueueOut]:
    """List queues: what waits, and which are on hold and why."""
    rows = await context.store.read(queries.page.queues, context.clock())
    return [QueueOut.model_validate(queue) for queue in rows]


@router.post(
    "/queues/{name:path}/release", tags=["Queues"], summary="Release a queue on hold", responses=FOR_AN_ACTION
)
async def release(context: Context, who: Program, name: str) -> ActionOut:
    """Release a queue that is on hold, and the others of its destination: they send at once."""
    return await actions.release(context, who, name)


@router.get("/comparison", tags=["Reconciliation"], summary="How reconciling with Port goes")
async def reconciliation(context: Context) -> ReconciliationOut:
    """Return the last comparison of Port's entities with their last known state, and what it found."""
    return await context.reconciling()


@router.get("/quarantine", tags=["Quarantine"], summary="Signed bodies that could not be read, newest first")
async def quarantine(context: Context, before: Before = None, limit: Limit = 50) -> PageOut[QuarantineOut]:
    """List what is in quarantine."""
    page = await read_page(context.store.read(queries.quarantine.bodies, before=before, limit=limit))
    return PageOut[QuarantineOut](
        items=[QuarantineOut.model_validate(row) for row in page.rows], next=page.next
    )


@router.get("/quarantine/{number}", tags=["Quarantine"], summary="One body", responses=NOT_FOUND)
async def quarantined(context: Context, number: Number) -> QuarantineOut:
    """Return one body, whole."""
    return QuarantineOut.model_validate(await actions.quarantined(context, number))


@router.post(
    "/quarantine/{number}/replay", tags=["Quarantine"], summary="Read it again", responses=FOR_AN_ACTION
)
async def replay(context: Context, who: Program, number: Number) -> ActionOut:
    """Read a body again: one that can be read now is accepted as a change, and leaves the quarantine."""
    return await actions.replay(context, who, number)


@router.get("/audit", tags=["Audit"], summary="What people and programs did, newest first")
async def audit(context: Context, before: Before = None, limit: Limit = 50) -> PageOut[AuditOut]:
    """List the audit trail."""
    page = await read_page(context.store.read(queries.audit.entries, before=before, limit=limit))
    return PageOut[AuditOut](items=[AuditOut.model_validate(row) for row in page.rows], next=page.next)
