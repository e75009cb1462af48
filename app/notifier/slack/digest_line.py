"""The lines of a digest, and the headings above them: pure."""

from collections.abc import Iterable, Iterator
from typing import Literal

from app.model.digest import Chain, GroupBy, Line, LineGroup, Transition, shortened
from app.model.incident import Step
from app.notifier.base import STATUS_MARKS, duration, entity_url
from app.notifier.slack.markup import NOTICE_MARK, RESOLVED_MARK, SEVERITY_MARKS, escape, happened, title_of

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
        title = title_of(last, MAX_LINE_TITLE_CHARS)
        url = entity_url(app_url, last.blueprint, last.entity)
        where = [escape(last.blueprint, MAX_LINE_NAME_CHARS)] if blueprints else []
        where += [escape(last.rule, MAX_LINE_NAME_CHARS)] if rules else []
        details = [*_values(line, group.transition), *_course(line)]
        yield "".join(
            [
                f"• {_green(line)}",
                f"<{url}|{title}>" if len(url) <= MAX_LINE_URL_CHARS else title,
                f" ({', '.join(where)})" if where else "",
                f": {', '.join(details)}" if details else "",
            ]
        )


def _green(line: Line) -> str:
    # Where a status is shown it has its own mark.
    change = line.last.change
    has_mark = change is not None and isinstance(change.after, str) and change.after in STATUS_MARKS
    return f"{RESOLVED_MARK} " if line.ended and not has_mark else ""


def _marked(value: str) -> str:
    text = escape(value, MAX_LINE_VALUE_CHARS) or "(empty)"
    return f"{STATUS_MARKS[value]} {text}" if value in STATUS_MARKS else text


def _transition(transition: Transition, line: Line) -> str:
    if transition.happened:
        return happened(line.last)
    after = _marked(transition.after)
    if transition.before is None:
        return f"still {after}"
    if transition.before == transition.after:
        return f"{after} again"
    return f"{_marked(transition.before)} → {after}"


def _values(line: Line, heading: Transition | None) -> list[str]:
    """List the values of a line's properties, unless the heading shows all of them."""
    if heading and not heading.happened and len(line.chains) == 1 and len(line.chains[0].values) <= 2:
        return []
    words = [_chain(chain, named=len(line.chains) > 1) for chain in line.chains[-MAX_CHAINS:]]
    if len(line.chains) > MAX_CHAINS:
        words.append("and others")
    if line.last.change is None and heading is None:
        words.append(happened(line.last))
    return words


def _chain(chain: Chain, *, named: bool) -> str:
    name = f"{escape(chain.name, MAX_LINE_NAME_CHARS)} " if named else ""
    if len(chain.values) == 1:
        return f"{name}still {_marked(chain.values[0])}"
    return name + " → ".join(map(_marked, shortened(chain.values)))


def _course(line: Line) -> list[str]:
    """Describe the course of a line's incident: how often it changed, and for how long."""
    last, words = line.last, []
    window = f" {duration(last.window)}" if last.window else ""
    span = duration(last.at - last.opened_at) if last.opened_at else ""
    often = line.changes > (2 if last.step is Step.RESOLVED else 1)  # up and down once: `after` says it
    if last.step is Step.FLAPPING:
        words.append(f"flaps: {last.moves} changes{window and f' in{window}'}, quiet until stable")
    elif last.step is Step.SETTLED:
        words.append(f"settled: stable{window and f' for{window}'}")
    elif line.complete and often:
        words.append(f"{line.changes:,} changes in {duration(last.at - line.notifications[0].at)}")
    if span and last.step is Step.RESOLVED:
        words.append(f"{'ended ' if words else ''}after {span}")
    elif last.step is Step.REMINDED:
        words.append(f"open for {span}" if span else "still open")
    if last.worse:
        words.append("got worse")
    if any(alert.late for alert in line.notifications):
        words.append("late")
    if last.instead:
        words.append(f"{NOTICE_MARK} {escape(last.instead, MAX_LINE_INSTEAD_CHARS)}")
    return words
