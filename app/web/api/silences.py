"""The API's routes about silences."""

from typing import Annotated

from fastapi import Depends, Query, status

from app.model.silence import ANY, Silence
from app.store import queries
from app.web.api import silence_actions
from app.web.api.base import NOT_FOUND, Number, Pattern, demand_text, make_router
from app.web.api.models import ActionOut
from app.web.api.silence_models import SilenceEdit, SilenceIn, SilenceOut, SilencePreviewOut
from app.web.context import Context
from app.web.session import Program

router = make_router()


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
    return await silence_actions.add_silence(context, who, patterns, ends_at, new.comment, new.starts_at)


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
    return await silence_actions.revise_silence(context, who, number, **values)


@router.delete("/silences/{number}", tags=["Silences"], summary="End a silence now", responses=NOT_FOUND)
async def end_silence(context: Context, who: Program, number: Number) -> ActionOut:
    """End a silence now; it stays in the list of those that have ended."""
    return await silence_actions.end_silence(context, who, number)
