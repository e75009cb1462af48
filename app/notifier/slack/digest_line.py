"""The lines of a digest, and the headings above them: pure."""

from collections.abc import Iterable, Iterator
from typing import Literal

from app.model.change import CREATE, DELETE
from app.model.digest import Chain, GroupBy, Line, LineGroup, Transition, shortened
from app.model.incident import Step
from app.notifier.base import entity_url
from app.notifier.slack.markup import escape, link_to
from app.notifier.words import EMPTY, NOTICE_MARK, SEVERITY_MARKS, STATUS_MARKS, Words, mark_of

# A line is about one entity among many, and the first line always has to fit.
MAX_LINE_TITLE_CHARS = 80
MAX_LINE_VALUE_CHARS = 60
MAX_LINE_NAME_CHARS = 60
MAX_LINE_NOTICE_CHARS = 600
MAX_LINE_INSTEAD_CHARS = 60
MAX_LINE_URL_CHARS = 300
MAX_CHAINS = 3


def several(lines: Iterable[Line], fact: Literal["blueprint", "rule"]) -> bool:
    """Tell whether lines are of several blueprints, or of several rules; notices have neither."""
    return len({getattr(line.last, fact) for line in lines if not line.is_notice}) > 1


def heading_of(group: LineGroup, by: tuple[GroupBy, ...], *, name_blueprint: bool) -> str:
    """Write the heading of a group, bold: what its lines have in common; empty if that is nothing.

    The facts that it is grouped by stand in this order, but the transition at the end. With `name_blueprint`
    the blueprint that all its lines have is named too, since the message has several.
    """
    last = group.lines[0].last
    if group.lines[0].is_notice:
        return "*From the listener itself*"
    texts: dict[GroupBy, str] = {
        "rule": escape(last.rule, MAX_LINE_NAME_CHARS),
        "blueprint": escape(last.blueprint, MAX_LINE_NAME_CHARS),
        "team": f"Team {escape(', '.join(last.teams), MAX_LINE_NAME_CHARS)}" if last.teams else "No team",
        "severity": f"{SEVERITY_MARKS[last.severity]} {last.severity}",
    }
    parts = [texts[fact] for fact in by if fact in texts]
    if name_blueprint and "blueprint" not in by and not several(group.lines, "blueprint"):
        parts.append(texts["blueprint"])
    facts = ", ".join(parts)
    went = _transition(group.transition, group.lines[0]) if group.transition else ""
    heading = f"{facts}: {went}" if facts and went else facts or went
    return f"*{heading}*" if heading else ""


def texts_of(group: LineGroup, app_url: str) -> Iterator[str]:
    """Write each line of a group, without what its heading says, and with links into Port's app."""
    blueprints, rules = several(group.lines, "blueprint"), several(group.lines, "rule")
    for line in group.lines:
        last = line.last
        if line.is_notice:
            yield f"• {NOTICE_MARK} {escape(last.title, MAX_LINE_NOTICE_CHARS)}"
            continue
        words = Words(line, escape)
        url = entity_url(app_url, last.blueprint, last.entity, last.resource)
        title = words.title(MAX_LINE_TITLE_CHARS)
        linked = link_to(url, title) if len(url) <= MAX_LINE_URL_CHARS else title
        where = [escape(last.blueprint, MAX_LINE_NAME_CHARS)] if blueprints else []
        where += [escape(last.rule, MAX_LINE_NAME_CHARS)] if rules else []
        # What the heading says is not said again; nor has a status two marks.
        in_heading = group.transition is not None and not group.transition.happened and len(line.chains) == 1
        in_heading = in_heading and len(line.chains[0].values) <= 2 and last.step is not Step.FLAPPING
        phrase = "" if in_heading else _phrase(line, words)
        if group.transition and group.transition.happened:
            phrase = ""
        details = [*words.course(), *_urgency(line), *_instead(words)]
        yield "".join(
            [
                f"• {_lead(line)}{linked}",
                f" ({', '.join(where)})" if where else "",
                phrase,
                (", " if phrase else ": ") + ", ".join(details) if details else "",
            ]
        )


def _phrase(line: Line, words: Words) -> str:
    """Say what happened to a line's entity; with the names of its properties, where these are several."""
    limit, plain = MAX_LINE_VALUE_CHARS, line.last.step not in (Step.FLAPPING, Step.SETTLED)
    plain = plain and line.last.action not in (CREATE, DELETE)
    if not plain or not line.chains or line.last.change is None:
        return words.phrase(limit, marks=True)
    chains = [_chain(chain, named=len(line.chains) > 1) for chain in line.chains[-MAX_CHAINS:]]
    chains += ["and others"] if len(line.chains) > MAX_CHAINS else []
    return f": {', '.join(chains)}" + (f" ({line.last.limit})" if line.last.limit else "")


def _lead(line: Line) -> str:
    # Where a status is shown it has its own mark.
    change, lead = line.last.change, mark_of(line.last)
    own = STATUS_MARKS.get(change.after) if change and isinstance(change.after, str) else None
    return "" if lead == own else f"{lead} "


def _urgency(line: Line) -> list[str]:
    critical = line.last.severity == "critical" and not line.ended
    return ["critical"] if critical and mark_of(line.last) != SEVERITY_MARKS["critical"] else []


def _instead(words: Words) -> list[str]:
    instead = words.instead(MAX_LINE_INSTEAD_CHARS)
    return [f"{NOTICE_MARK} {instead}"] if instead else []


def _marked(value: str) -> str:
    text = escape(value, MAX_LINE_VALUE_CHARS) or EMPTY
    return f"{STATUS_MARKS[value]} {text}" if value in STATUS_MARKS else text


def _transition(transition: Transition, line: Line) -> str:
    if transition.happened:
        return Words(line, escape).phrase(MAX_LINE_VALUE_CHARS).removeprefix(":").strip()
    after = _marked(transition.after)
    if transition.before is None:
        return f"still {after}"
    if transition.before == transition.after:
        return f"{after} again"
    return f"{_marked(transition.before)} → {after}"


def _chain(chain: Chain, *, named: bool) -> str:
    name = f"{escape(chain.name, MAX_LINE_NAME_CHARS)} " if named else ""
    if len(chain.values) == 1:
        return f"{name}still {_marked(chain.values[0])}"
    return name + " → ".join(map(_marked, shortened(chain.values)))
