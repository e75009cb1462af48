"""The API under /api/v1: what the page shows and does, for programs."""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from app.model.delivery import State
from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.store import queries
from app.store.views import ChangeFilter, Page
from app.web import actions
from app.web.actions import MAX_ID
from app.web.api_models import (
    ActionOut,
    AuditOut,
    ChangeOut,
    ChangesOut,
    DeliveryOut,
    IncidentClose,
    IncidentOut,
    IncidentState,
    PageOut,
    ProblemOut,
    QuarantineOut,
    QueueOut,
    ReconciliationOut,
    SilenceEdit,
    SilenceIn,
    SilenceOut,
    SilencePreviewOut,
)
from app.web.context import Context, read_page
from app.web.page import get_filter
from app.web.session import Program, get_program
from app.web.view import view_change

Responses = dict[int | str, dict[str, Any]]

GUARDED: Responses = {
    400: {"model": ProblemOut, "description": "The request's body cannot be read."},
    401: {"model": ProblemOut, "description": "The token is missing or wrong."},
    405: {"model": ProblemOut, "description": "The path has no such method; Allow says which it has."},
    422: {"model": ProblemOut, "description": "A value is missing, or cannot be."},
    429: {"model": ProblemOut, "description": "Too many wrong tokens. Try again after Retry-After."},
    503: {"model": ProblemOut, "description": "The store cannot be read or written now."},
}
MAX_PROBLEM_CHARS = 1_000
NOT_FOUND: Responses = {404: {"model": ProblemOut, "description": "There is no such thing."}}
FOR_AN_ACTION: Responses = NOT_FOUND | {
    409: {"model": ProblemOut, "description": "It is not in a state in which that can be done."}
}


class _Route(APIRoute):
    """A route whose every refusal has one shape: `ProblemOut`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                wrong = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
                raise HTTPException(422, one_line("; ".join(wrong), MAX_PROBLEM_CHARS)) from None

        return handler


router = APIRouter(
    prefix="/api/v1", dependencies=[Depends(get_program)], responses=GUARDED, route_class=_Route
)

Number = Annotated[int, Path(gt=0, le=MAX_ID)]
Before = Annotated[str | None, Query(description="A page's `next`.", max_length=300)]
Pattern = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
Wanted = Annotated[ChangeFilter, Depends(get_filter)]


async def demand_text(request: Request) -> None:
    """Refuse half a surrogate pair, which JSON can escape and no answer, store or log can encode.

    Raises:
        HTTPException: 422.
    """
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HTTPException(422, "The body holds text that is not Unicode.") from None
    except (ValueError, RecursionError):
        return  # not JSON, or nested endlessly: the framework refuses it


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
    before: Before = None,
    limit: Limit = 50,
) -> PageOut[DeliveryOut]:
    """List deliveries with every attempt, in one state or of one change."""
    if change is None:
        page = await read_page(
            context.store.read(queries.page.deliveries, state=state, before=before, limit=limit)
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
    "/deliveries/{number}/retry", tags=["Deliveries"], summary="Try again at once", responses=FOR_AN_ACTION
)
async def retry(context: Context, who: Program, number: Number) -> ActionOut:
    """Make a delivery due now, whether it is dead or waits. Its history stays."""
    return await actions.retry(context, who, number)


@router.get("/incidents", tags=["Incidents"], summary="Incidents, those that opened last first")
async def incidents(
    context: Context,
    state: IncidentState | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    before: Before = None,
    limit: Limit = 50,
) -> PageOut[IncidentOut]:
    """List incidents, in one state, or of one entity (`blueprint` and `entity` together)."""
    if (blueprint is None) != (entity is None):
        raise HTTPException(422, "Give `blueprint` and `entity` together.")
    page = await read_page(
        context.store.read(
            queries.incidents.page,
            is_open=None if state is None else state == "open",
            blueprint=blueprint,
            entity=entity,
            before=before,
            limit=limit,
        )
    )
    return PageOut[IncidentOut](items=[IncidentOut.of(row) for row in page.rows], next=page.next)


@router.post(
    "/incidents/{name:path}/close",
    tags=["Incidents"],
    summary="Close an incident",
    responses=NOT_FOUND,
    dependencies=[Depends(demand_text)],
)
async def close_incident(context: Context, who: Program, name: str, closed: IncidentClose) -> ActionOut:
    """Close an incident that no change will end; each channel that was told of it is told so."""
    return await actions.close_incident(context, who, name, closed.comment)


@router.get("/silences", tags=["Silences"], summary="Silences, newest first")
async def silences(
    context: Context, *, ended: Annotated[bool, Query(description="Those that have ended, too.")] = False
) -> list[SilenceOut]:
    """List silences."""
    rows = await context.store.read(queries.silences.silences, active_at=None if ended else context.clock())
    return [SilenceOut.model_validate(silence) for silence in rows]


@router.post(
    "/silences",
    tags=["Silences"],
    summary="Add a silence",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(demand_text)],
    responses={413: {"description": "The body is larger than MAX_BODY_BYTES."}},
)
async def add_silence(context: Context, who: Program, new: SilenceIn) -> ActionOut:
    """Mute what the patterns cover; each incident that is still open at the end alerts once."""
    patterns = (new.rule, new.blueprint, new.entity, new.team)
    ends_at = new.end(context.clock())
    return await actions.add_silence(context, who, patterns, ends_at, new.comment, new.starts_at)


@router.get("/silences/preview", tags=["Silences"], summary="What a silence would cover")
async def preview_silence(
    context: Context,
    rule: Pattern = ANY,
    blueprint: Pattern = ANY,
    entity: Pattern = ANY,
    team: Pattern = ANY,
) -> SilencePreviewOut:
    """Count the open incidents and the alerts of the last 24 hours that four patterns fit."""
    now = context.clock()
    silence = Silence(rule, blueprint, entity, team, now, now, author="", comment="")
    return SilencePreviewOut.model_validate(await context.store.read(queries.silences.preview, silence, now))


@router.patch(
    "/silences/{number}",
    tags=["Silences"],
    summary="Change a silence",
    responses=NOT_FOUND,
    dependencies=[Depends(demand_text)],
)
async def revise_silence(context: Context, who: Program, number: Number, edit: SilenceEdit) -> ActionOut:
    """Change when a silence begins or ends, or its comment; one that has ended stays as it is."""
    values = {name: getattr(edit, name) for name in SilenceEdit.model_fields}
    return await actions.revise_silence(context, who, number, **values)


@router.delete("/silences/{number}", tags=["Silences"], summary="End a silence now", responses=NOT_FOUND)
async def end_silence(context: Context, who: Program, number: Number) -> ActionOut:
    """End a silence now; it stays in the list of those that have ended."""
    return await actions.end_silence(context, who, number)


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


@router.post(
    "/quarantine/{number}/replay", tags=["Quarantine"], summary="Read it again", responses=FOR_AN_ACTION
)
async def replay(context: Context, who: Program, number: Number) -> ActionOut:
    """Read a body again: one that can be read now is accepted as a change, and leaves the quarantine."""
    return await actions.replay(context, who, number)


@router.get("/audit", tags=["Audit"], summary="Actions on the page and through this API, newest first")
async def audit(context: Context, before: Before = None, limit: Limit = 50) -> PageOut[AuditOut]:
    """List the audit trail."""
    page = await read_page(context.store.read(queries.audit.entries, before=before, limit=limit))
    return PageOut[AuditOut](items=[AuditOut.model_validate(row) for row in page.rows], next=page.next)
