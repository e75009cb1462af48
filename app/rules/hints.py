"""What is no mistake in a rules file, but hardly what its author meant: each with the right form."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.errors import Mistake
from app.model.incident import CATALOG_QUEUES
from app.model.silence import ANY, Silence
from app.rules.mistakes import nearest
from app.rules.rule import Rule
from app.rules.targets import DEFAULT_DESTINATION, ByHours, ByPort, ByTemplate, named, plain
from app.rules.values import GLOB
from app.rules.yaml_text import Document, Place

if TYPE_CHECKING:
    from app.rules.file import RulesFile

TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""To YAML 1.2 these are texts; to YAML 1.1, and so to many people, they are not."""
PATH_OF_A_VALUE = re.compile(r"\.?(?:event\.)?(?:diff\.(?:after|before)\.)?(propert|relation)(?:ies|s)\.(.+)")
META = {"$title": "title: true", "$team": "team: true"}
ENVELOPE = re.compile(r"(?<![\w\])\"'?.])\.event\b(\.\w+)?")


def find_hints(file: "RulesFile", document: Document) -> Iterator[Mistake]:
    """Yield the hints about a file that has no mistakes."""
    written = document.tree.get("rules") or ()
    for number, (rule, as_written) in enumerate(zip(file.rules, written, strict=False)):
        for key in ("when", "resolve"):
            yield from _in_condition(document, ("rules", number, key), as_written.get(key))
        for key in ("title", "message", "send", "escalate"):
            yield from _in_programs(document, ("rules", number, key), as_written.get(key))
        if rule.reads_scorecards:
            text = "it reads scorecards, so it is not reconciled: write `scorecard: …` for a level"
            yield document.mistake(("rules", number), text)
        if _resolved_by_what_opens(rule):
            text = "resolve: it is the same as `when`, so an incident ends as it begins; name the good state"
            yield document.mistake(("rules", number, "resolve"), text)
    for name, settings in file.destinations.items():
        for key in settings.templates:
            there = ("destinations", name, key)
            yield from _in_programs(document, there, document.tree["destinations"][name].get(key))
    used = {target.when for rule in file.rules for target in rule.targets if isinstance(target, ByHours)}
    for name in file.hours.keys() - used:
        yield document.mistake(("hours", name), f"hours {name}: no target is told at them")
    # What belongs to no destination any more goes to the default.
    for name in file.destinations.keys() - used_destinations(file) - {DEFAULT_DESTINATION}:
        text = "no rule sends to it, and it is nobody's fallback: name it in a `send`, or remove it"
        yield document.mistake(("destinations", name), text)


def used_destinations(file: "RulesFile") -> set[str]:
    """Collect the destinations that alerts may go to: what rules name, and their fallbacks."""
    targets = [target for rule in file.rules for target in rule.targets]
    used = {name for target in targets for _, name in named(target)}
    if any(isinstance(plain(target), ByTemplate | ByPort) for target in targets):  # it may name any
        used |= file.destinations.keys()
    routing = {name: settings.routing() for name, settings in file.destinations.items()}
    while more := {
        other
        for name, way in routing.items()
        if name in used
        for other in (way.fallback, way.catalog and way.catalog.default)
        if other and not other.startswith(CATALOG_QUEUES) and other not in used
    }:
        used |= more
    return used


def why_idle(silence: Silence, rules: Sequence[Rule]) -> str:
    """Say why a silence matches nothing, as far as that can be seen in the rules; empty: it may match."""
    meant = [rule for rule in rules if fnmatchcase(rule.name, silence.rule)]
    about = {blueprint for rule in meant for blueprint in rule.blueprint}
    if any(_overlap(silence.blueprint, blueprint) for blueprint in about):
        return ""
    if meant:
        near = nearest(silence.blueprint, about)
        which = "no rule" if silence.rule == ANY else f"no rule called {silence.rule!r}"
        text = f"{which} is about blueprint {silence.blueprint!r}"
    else:
        near = nearest(silence.rule, (rule.name for rule in rules))
        text = f"no rule is called {silence.rule!r}"
    return f"{text}; did you mean {near!r}?" if near else text


def _overlap(one: str, other: str) -> bool:
    # Of two patterns it is not worked out whether one name fits both.
    patterns = not GLOB.isdisjoint(one) and not GLOB.isdisjoint(other)
    return patterns or fnmatchcase(one, other) or fnmatchcase(other, one)


def _resolved_by_what_opens(rule: Rule) -> bool:
    if rule.when is None or rule.resolve is None:
        return False
    when, resolve = (part.model_dump(exclude={"for_"}) for part in (rule.when, rule.resolve))
    # One value, and a list of it alone, mean the same.
    return when.keys() == resolve.keys() and all(_listed(when[key]) == _listed(resolve[key]) for key in when)


def _listed(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [value]


def _in_condition(document: Document, place: Place, condition: Any) -> Iterator[Mistake]:
    if not isinstance(condition, Mapping):
        return
    for key, value in condition.items():
        there = (*place, key)
        if key in {"all", "any"}:
            for number, member in enumerate(value):
                yield from _in_condition(document, (*there, number), member)
        elif key in {"from", "to"}:
            yield from _in_values(document, there, value)
        elif key == "jq":
            yield from _in_programs(document, there, value)
        elif key in {"property", "relation"} and (right := _right_name(key, value)):
            yield document.mistake(there, f"{key}: {value} is no {key}'s identifier: write {right}")


def _right_name(key: str, value: str) -> str:
    """Say what to write in place of what is no identifier of a property or relation; empty: it may be one."""
    if path := PATH_OF_A_VALUE.fullmatch(value):
        return f"{path[1].replace('propert', 'property')}: {path[2]}"
    if name := re.fullmatch(r"\.([\w@=-]+)", value):  # as in a jq program
        return f"{key}: {name[1]}"
    return META.get(value, "") if key == "property" else ""


def _in_values(document: Document, place: Place, value: Any) -> Iterator[Mistake]:
    if isinstance(value, Mapping):
        yield from _in_values(document, (*place, "not"), value.get("not"))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _in_values(document, (*place, number), item)
    elif hint := _another_value(document.written(place), value):
        key = next(part for part in reversed(place) if isinstance(part, str))
        yield document.mistake(place, f"{key}: {hint}")


def _another_value(written: str, value: Any) -> str:
    """Say what a value without quotes is, where it may be meant as another one."""
    if not written or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        truth = TRUTHS.get(value.lower()) if written == value else None
        return f'{value} is a text: write {truth}, or "{value}" if the text is meant' if truth else ""
    if isinstance(value, int | float):
        number = float(value) if isinstance(value, float) else int(value)
        if str(number) != written:
            return f'{written} is the number {number}: write "{written}" if the text is meant'
    return ""


def _in_programs(document: Document, place: Place, value: Any) -> Iterator[Mistake]:
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _in_programs(document, (*place, key), item)
    elif isinstance(value, str) and (place[-1] == "jq" or "{{" in value):
        for wrong in islice(ENVELOPE.finditer(value), 1):
            text = f"jq: a program sees Port's event itself: write {wrong[1] or '.'}, not {wrong[0]}"
            yield document.mistake(place, text)
