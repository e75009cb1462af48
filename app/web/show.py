"""How things look: templates, and what they need to be told in words."""

import glob
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.errors import UnreadableChange
from app.model.diff import diff
from app.model.incident import Incident
from app.model.notification import Link, Notification, one_line, text_of
from app.notifier.base import duration, entity_url, timestamp
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.store.views import ChangeRow, Views
from app.web.session import Gate, Visitor

HERE = Path(__file__).parent
STATIC = HERE / "static"
LONGEST_VALUE = 2_000
SHORT_VALUE = 120
DIFFERENCES_IN_A_LIST = 4
LEVELS = {"Healthy": "ok", "Degraded": "warning", "Crashed": "critical", "Restarting": "info"}
"""How the blueprint's own statuses are coloured; others by their rule's severity."""


def _version() -> str:
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _query(**values: Any) -> str:
    return urlencode({key: value for key, value in values.items() if value not in (None, "")})


def _local_url(blueprint: str, entity: str) -> str:
    return f"/entity?{_query(blueprint=blueprint, entity=entity)}"


def level_of(state: str, severity: str, *, ended: bool = False) -> str:
    """Return the colour of a state by name: ``ok``, ``info``, ``warning`` or ``critical``."""
    return LEVELS.get(state) or ("ok" if ended else severity)


def iso(time: datetime) -> str:
    """Return a time as machines read it, UTC, in whole seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _ago(time: datetime, now: datetime) -> str:
    span = now - time
    return f"{duration(span)} ago" if span >= timedelta(0) else f"in {duration(-span)}"


def make_environment() -> Environment:
    """Return the templates: what is put into them is escaped, and what is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"version": _version(), "query": _query, "entity_path": _local_url, "len": len}
    environment.filters |= {
        "duration": duration,
        "timestamp": timestamp,
        "iso": iso,
        "line": one_line,
        "exactly": glob.escape,  # as a silence's pattern that fits this name only
        "value": lambda value: one_line(text_of(value), SHORT_VALUE),
        "milliseconds": lambda span: f"{span / timedelta(milliseconds=1):,.0f} ms",
    }
    environment.tests["web"] = lambda url: isinstance(url, str) and url.startswith(("https://", "http://"))
    return environment


ENVIRONMENT = make_environment()


async def render(
    request: Request, template: str, visitor: Visitor, *, status: int = 200, **more: Any
) -> HTMLResponse:
    """Return a page for somebody who is signed in.

    Args:
        request: The request.
        template: The template's file.
        visitor: Who is signed in.
        status: The HTTP status.
        more: What the template needs.
    """
    gate: Gate = request.state.gate
    now = request.state.desk.clock()
    values = {
        "visitor": visitor,
        "csrf": gate.form_token(visitor),
        "now": now,
        "ago": lambda time: _ago(time, now),
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "done": await _done(request, visitor),
        "part": bool(request.headers.get("hx-request")),
    }
    text = ENVIRONMENT.get_template(template).render(values | more)
    return HTMLResponse(text, status)


async def _done(request: Request, visitor: Visitor) -> str | None:
    """Return what this visitor has just done: the trail has it, so that no link can put words here."""
    number = request.query_params.get("did", "")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    views: Views = request.state.desk.views
    entry = await views.noted(int(number))
    return entry.details if entry and entry.who == visitor.name else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A value before and after, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """A change as people look at it; what its body says is empty if this release cannot read it.

    Attributes:
        row: As it is stored.
        title: The entity's title.
        actor: Who or what triggered it.
        origin: Where.
        noticed: The comparison with Port found it.
        differences: What changed.
        left_out: How many further values changed.
    """

    row: ChangeRow
    title: str = ""
    actor: str = ""
    origin: str = ""
    noticed: bool = False
    differences: tuple[Difference, ...] = ()
    left_out: int = 0


def show_change(row: ChangeRow, *, whole: bool = False) -> ChangeShown:
    """Read a stored change's body, and say what changed.

    Args:
        row: The change.
        whole: All that changed, and long values; else as much as a list has room for.
    """
    if row.body is None:
        return ChangeShown(row, title=row.entity)
    try:
        change = parse_event(Signed(row.body, row.at))
    except UnreadableChange:  # an older release could
        return ChangeShown(row, title=row.entity)
    changes = diff(change.before, change.after)
    if not whole and (change.before is None or change.after is None):
        changes = ()  # all its values are new, or gone: the action says so
    limit = LONGEST_VALUE if whole else SHORT_VALUE
    shown = changes if whole else changes[:DIFFERENCES_IN_A_LIST]
    differences = tuple(
        Difference(one_line(one.name, 200), *(one_line(text_of(v), limit) for v in (one.before, one.after)))
        for one in shown
    )
    return ChangeShown(
        row,
        title=one_line(change.title, 200),
        actor=one_line(change.actor, 200),
        origin=one_line(change.origin, 60),
        noticed=change.found_at is not None,
        differences=differences,
        left_out=len(changes) - len(shown),
    )


def links_of(said: Notification | None) -> tuple[Link, ...]:
    """Return an entity's own links that may be followed: to the web, nowhere else."""
    return tuple(one for one in (said.links if said else ()) if one.url.startswith(("https://", "http://")))


def port_link(app_url: str, blueprint: str, entity: str) -> str:
    """Return the address of an entity in Port."""
    return entity_url(app_url, blueprint, entity)


ROWS_AT_MOST = 100


def timeline(
    told: list[Notification], incidents: list[Incident], since: datetime, now: datetime
) -> list[dict[str, Any]]:
    """Return the rows of the timeline: for each entity, and rule if it has several, its states in order.

    Of more than `ROWS_AT_MOST` those that are well now are left out first, then those that moved first.

    Args:
        told: What was told, oldest first.
        incidents: Those that were open at any time since.
        since: Where the picture begins, UTC.
        now: Where it ends, UTC.
    """
    points: dict[tuple[str, str, str], list[tuple[datetime, str, str]]] = {}
    titles: dict[tuple[str, str], str] = {}
    for one in told:
        key = (one.blueprint, one.entity, one.rule)
        titles[key[:2]] = one.title
        states = points.setdefault(key, [])
        if not states and one.change and one.at > since:
            states.append((since, *_first(one)))
        after = text_of(one.change.after) if one.change else one.action.lower()
        states.append((max(one.at, since), after, level_of(after, one.severity, ended=one.ended)))
    for incident in incidents:  # what opened before the picture begins, and was not told of since
        key = (incident.blueprint, incident.entity, incident.rule)
        if key not in points:
            start = max(incident.opened_at, since)
            points[key] = [(start, incident.state, level_of(incident.state, incident.severity))]
            if incident.resolved_at is not None:
                points[key].append((incident.resolved_at, "ended", "ok"))
    shown = sorted(points, key=lambda key: (points[key][-1][2] != "ok", points[key][-1][0]))[-ROWS_AT_MOST:]
    rules = Counter(key[:2] for key in points)
    return [
        {
            "label": f"{key[1]} ({key[2]})" if rules[key[:2]] > 1 else key[1],
            "title": titles.get(key[:2], key[1]),
            "url": _local_url(key[0], key[1]),
            "segments": _segments(points[key], now),
        }
        for key in sorted(shown, key=lambda key: (key[1], key[2]))
    ]


def _first(one: Notification) -> tuple[str, str]:
    """Return the state before the first thing that was told."""
    before = text_of(one.change.before) if one.change else ""
    return before, level_of(before, one.severity, ended=one.step in ("opened", "noticed") or one.ended)


def _segments(states: list[tuple[datetime, str, str]], now: datetime) -> list[Mapping[str, Any]]:
    ends = [at for at, *_ in states[1:]] + [now]
    return [
        {"from": iso(at), "to": iso(max(at, end)), "state": one_line(state, 60), "level": level}
        for (at, state, level), end in zip(states, ends, strict=True)
    ]
