"""The API: what the page shows and does, for programs."""

import json
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, status

from app.model.delivery import State
from app.store.views import ChangeFilter
from app.web import actions
from app.web.actions import LARGEST_ID, Done
from app.web.comparison import Comparison
from app.web.dashboard import get_filter
from app.web.session import AtTheDesk, Program, get_program
from app.web.show import show_change
from app.web.v1_models import (
    Change,
    Changes,
    Delivery,
    Did,
    Entry,
    Incident,
    IncidentState,
    Listed,
    NewSilence,
    Problem,
    Quarantined,
    Queue,
    Silence,
)

T = TypeVar("T")
Responses = dict[int | str, dict[str, Any]]

GUARDED: Responses = {
    401: {"model": Problem, "description": "The token is missing or wrong."},
    429: {"model": Problem, "description": "Too many wrong tokens. Try again after Retry-After."},
    503: {"description": "The store cannot be read or written now."},
}
MISSING: Responses = {404: {"model": Problem, "description": "There is no such thing."}}
REFUSED: Responses = {
    409: {"model": Problem, "description": "It is not in a state in which that can be done."}
}

router = APIRouter(prefix="/api/v1", dependencies=[Depends(get_program)], responses=GUARDED)

Number = Annotated[int, Path(gt=0, le=LARGEST_ID)]
Before = Annotated[str | None, Query(description="A page's `next`.", max_length=300)]
Limit = Annotated[int, Query(ge=1, le=200)]
Which = Annotated[ChangeFilter, Depends(get_filter)]


def _did(done: Done) -> Did:
    return Did(done=done.said, audit=done.audit, id=done.id)


async def demand_text(request: Request) -> None:
    """Refuse what no answer, no store and no log could hold: JSON can escape half a letter.

    Raises:
        HTTPException: 422.
    """
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HTTPException(422, "The body holds what is no text.") from None
    except ValueError:
        return  # no JSON at all, which is said elsewhere


def _bad_cursor() -> HTTPException:
    return HTTPException(422, "`before` must be a page's `next`.")


@router.get("/changes", tags=["Changes"], summary="Changes, newest first")
async def changes(desk: AtTheDesk, which: Which, before: Before = None, limit: Limit = 50) -> Changes:
    """List changes. Where few fit, a page may hold fewer than `limit`, even none, and have a `next`.

    `q` is a part of the entity's identifier, `state` where one of the deliveries stands, or `none` for no
    alert; `since` and `until` are times of arrival, UTC, in ISO 8601.
    """
    try:
        page = await desk.views.changes(which, before=before, limit=limit)
    except ValueError:
        raise _bad_cursor() from None
    items = [Change.of(show_change(one)) for one in page.rows]
    return Changes(items=items, next=page.next, searched_to=page.searched_to)


@router.get("/changes/{number}", tags=["Changes"], summary="One change", responses=MISSING)
async def change(desk: AtTheDesk, number: Number) -> Change:
    """Return one change with all that changed."""
    if (row := await desk.views.change(number)) is None:
        raise HTTPException(404, f"There is no change {number}.")
    return Change.of(show_change(row, whole=True))


@router.get("/deliveries", tags=["Deliveries"], summary="Deliveries, those of the newest change first")
async def deliveries(
    desk: AtTheDesk,
    state: State | None = None,
    change: Annotated[int | None, Query(gt=0, le=LARGEST_ID)] = None,
    before: Before = None,
    limit: Limit = 50,
) -> Listed[Delivery]:
    """List deliveries with every attempt, in one state or of one change."""
    if change is not None:
        rows, following = await desk.views.deliveries_of([change]), None
        rows = [row for row in rows if state in (None, row.delivery.state)]
    else:
        try:
            page = await desk.views.deliveries(state=state, before=before, limit=limit)
        except ValueError:
            raise _bad_cursor() from None
        rows, following = list(page.rows), page.next
    attempts = await desk.views.attempts([row.delivery.id for row in rows])
    return Listed[Delivery](items=[Delivery.of(row, attempts) for row in rows], next=following)


@router.get("/deliveries/{number}", tags=["Deliveries"], summary="One delivery", responses=MISSING)
async def delivery(desk: AtTheDesk, number: Number) -> Delivery:
    """Return one delivery with every attempt."""
    if (row := await desk.views.delivery(number)) is None:
        raise HTTPException(404, f"There is no delivery {number}.")
    return Delivery.of(row, await desk.views.attempts([number]))


@router.post(
    "/deliveries/{number}/retry",
    tags=["Deliveries"],
    summary="Try again at once",
    responses=MISSING | REFUSED,
)
async def retry(desk: AtTheDesk, who: Program, number: Number) -> Did:
    """Try a delivery that is dead, or waits, again at once. Its history stays."""
    return _did(await actions.retry(desk, who, number))


@router.get("/incidents", tags=["Incidents"], summary="Incidents, those that opened last first")
async def incidents(
    desk: AtTheDesk,
    state: IncidentState | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    before: Before = None,
    limit: Limit = 50,
) -> Listed[Incident]:
    """List incidents, in one state, or of one entity (`blueprint` and `entity` together)."""
    if (blueprint is None) != (entity is None):
        raise HTTPException(422, "Give `blueprint` and `entity` together.")
    try:
        page = await desk.views.incidents(
            is_open=None if state is None else state == "open",
            blueprint=blueprint,
            entity=entity,
            before=before,
            limit=limit,
        )
    except ValueError:
        raise _bad_cursor() from None
    return Listed[Incident](items=[Incident.of(row) for row in page.rows], next=page.next)


@router.get("/silences", tags=["Silences"], summary="Silences, newest first")
async def silences(
    desk: AtTheDesk, *, ended: Annotated[bool, Query(description="Those that have ended, too.")] = False
) -> list[Silence]:
    """List silences."""
    rows = await desk.store.silences(active_at=None if ended else desk.clock())
    return [Silence.of(one) for one in rows]


@router.post(
    "/silences",
    tags=["Silences"],
    summary="Silence",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(demand_text)],
)
async def add_silence(desk: AtTheDesk, who: Program, new: NewSilence) -> Did:
    """Let nobody hear of what the patterns cover; what is still open when it ends is told once."""
    patterns = (new.rule, new.blueprint, new.entity, new.team)
    silence = actions.silence_of(desk, who, patterns, new.end(desk.clock()), new.comment)
    return _did(await actions.silence(desk, who, silence))


@router.delete("/silences/{number}", tags=["Silences"], summary="End a silence now", responses=MISSING)
async def end_silence(desk: AtTheDesk, who: Program, number: Number) -> Did:
    """End a silence now; it stays in the list of those that have ended."""
    return _did(await actions.end_silence(desk, who, number))


@router.get("/queues", tags=["Queues"], summary="How every queue is, by name")
async def queues(desk: AtTheDesk) -> list[Queue]:
    """List queues: what waits, and which are on hold and why."""
    return [Queue.of(one) for one in await desk.store.queues(desk.clock())]


@router.post(
    "/queues/{name:path}/release",
    tags=["Queues"],
    summary="Release a queue on hold",
    responses=MISSING | REFUSED,
)
async def release(desk: AtTheDesk, who: Program, name: str) -> Did:
    """Let a queue on hold, and the others of its destination, send at once."""
    return _did(await actions.release(desk, who, name))


@router.get("/comparison", tags=["Comparison"], summary="How the comparison with Port is")
async def comparison(desk: AtTheDesk) -> Comparison:
    """Tell when Port's entities were last compared with their last known state, and what was found."""
    return Comparison.of(await desk.comparison())


@router.get("/quarantine", tags=["Quarantine"], summary="Signed bodies that could not be read, newest first")
async def quarantine(desk: AtTheDesk, before: Before = None, limit: Limit = 50) -> Listed[Quarantined]:
    """List what is in quarantine."""
    try:
        page = await desk.views.quarantine(before=before, limit=limit)
    except ValueError:
        raise _bad_cursor() from None
    return Listed[Quarantined](items=[Quarantined.of(row) for row in page.rows], next=page.next)


@router.post(
    "/quarantine/{number}/replay", tags=["Quarantine"], summary="Read it again", responses=MISSING | REFUSED
)
async def replay(desk: AtTheDesk, who: Program, number: Number) -> Did:
    """Read a body again: what can be read now is accepted as a change, and leaves the quarantine."""
    return _did(await actions.replay(desk, who, number))


@router.get("/audit", tags=["Audit"], summary="What was done on the page and through this API, newest first")
async def audit(desk: AtTheDesk, before: Before = None, limit: Limit = 50) -> Listed[Entry]:
    """List the audit trail."""
    try:
        page = await desk.views.audit(before=before, limit=limit)
    except ValueError:
        raise _bad_cursor() from None
    return Listed[Entry](items=[Entry.of(row) for row in page.rows], next=page.next)
