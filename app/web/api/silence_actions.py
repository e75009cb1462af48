"""What people and programs do to silences. Each action is logged in the audit trail."""

from datetime import datetime

from fastapi import HTTPException

from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.notifier.base import timestamp
from app.store import queries
from app.web.actions import (
    MAX_COMMENT_CHARACTERS,
    MAX_ID,
    MAX_PATTERN_CHARACTERS,
    MAX_SILENCE,
    ActionContext,
    record,
)
from app.web.api.models import ActionOut


async def add_silence(
    context: ActionContext,
    who: str,
    patterns: tuple[str, str, str, str],
    ends_at: datetime,
    comment: str,
    starts_at: datetime | None = None,
) -> ActionOut:
    """Store a silence: alerts that it covers are not sent.

    Args:
        context: The running parts.
        who: Who silences.
        patterns: Rule, blueprint, entity and team; empty: any.
        ends_at: When it ends, UTC.
        comment: Why.
        starts_at: When it begins, UTC; None: now.

    Raises:
        HTTPException: 422, all patterns are empty, the comment is, or the end is too early or too late.
    """
    now = context.clock()
    patterns_or_any = [pattern.strip() or ANY for pattern in patterns]
    if all(pattern == ANY for pattern in patterns_or_any):
        raise HTTPException(422, "Say what to silence: a rule, a blueprint, an entity or a team.")
    if max(map(len, patterns_or_any)) > MAX_PATTERN_CHARACTERS:
        raise HTTPException(422, f"A pattern has at most {MAX_PATTERN_CHARACTERS} characters.")
    if not comment.strip() or len(comment) > MAX_COMMENT_CHARACTERS:
        raise HTTPException(422, f"Say why, in 1 to {MAX_COMMENT_CHARACTERS} characters.")
    starts_at = max(now, starts_at or now)
    _demand_span(starts_at, ends_at, now)
    rule, blueprint, entity, team = patterns_or_any
    silence = Silence(rule, blueprint, entity, team, starts_at, ends_at, who, comment.strip())
    number = await context.store.write(queries.silences.add, silence)
    reason = one_line(silence.comment)
    details = f"Silence {number}: {patterns_text(silence)}, {_span_text(silence, now)}: {reason}"
    return await record(context, who, "silence", details, id_=number)


def _demand_span(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if not starts_at < ends_at <= now + MAX_SILENCE:
        raise HTTPException(422, "A silence must end in the future, after it begins, and within a year.")


def _span_text(silence: Silence, now: datetime) -> str:
    begins = f"from {timestamp(silence.starts_at)} " if silence.starts_at > now else ""
    return f"{begins}until {timestamp(silence.ends_at)}"


async def revise_silence(
    context: ActionContext,
    who: str,
    number: int,
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    comment: str | None = None,
) -> ActionOut:
    """Change when a silence begins or ends, or why it is there; what is None stays.

    Raises:
        HTTPException: 404, there is none of this number that has not ended; 422, the end is too early or
            too late, or the comment is empty or too long.
    """
    now = context.clock()
    if ends_at is not None:
        _demand_span(max(now, starts_at or now), ends_at, now)
    if comment is not None and not 0 < len(comment.strip()) <= MAX_COMMENT_CHARACTERS:
        raise HTTPException(422, f"Say why, in 1 to {MAX_COMMENT_CHARACTERS} characters.")
    revised = None
    if 0 < number <= MAX_ID:
        try:
            revised = await context.store.write(
                queries.silences.revise,
                number,
                now,
                starts_at=starts_at and max(now, starts_at),
                ends_at=ends_at,
                comment=comment and comment.strip(),
            )
        except ValueError as error:
            raise HTTPException(422, f"{error}.".capitalize()) from None
    if revised is None:
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    text = f"{patterns_text(revised)}, {_span_text(revised, now)}: {one_line(revised.comment)}"
    return await record(context, who, "change silence", f"Silence {number} is now: {text}", id_=number)


async def end_silence(context: ActionContext, who: str, number: int) -> ActionOut:
    """End a silence now.

    Raises:
        HTTPException: 404, there is none of this number that has not ended.
    """
    if not 0 < number <= MAX_ID or not await context.store.write(
        queries.silences.end, number, context.clock()
    ):
        raise HTTPException(404, f"There is no silence {number} that has not ended.")
    context.wake()
    details = f"Silence {number} has ended. Incidents that it muted and that are still open alert once."
    return await record(context, who, "end silence", details, id_=number)


def patterns_text(silence: Silence) -> str:
    """Return a silence's patterns in words: ``rule health, team Payments``."""
    patterns = ((name, getattr(silence, name)) for name in ("rule", "blueprint", "entity", "team"))
    text = ", ".join(f"{name} {one_line(pattern)}" for name, pattern in patterns if pattern != ANY)
    return text or "everything"


def covered_text(incidents: int, alerts: int) -> str:
    """Say how many open incidents a silence covers, and how many alerts of the last day it would have."""
    are_open = "1 open incident" if incidents == 1 else f"{incidents:,} open incidents"
    came = "1 alert" if alerts == 1 else f"{alerts:,} alerts"
    return f"{are_open} now, {came} in the last 24 hours"
