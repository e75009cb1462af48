"""What is wrong with rules and destinations in view of one another, and of jq."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from app.errors import Mistake, TemplateError
from app.model.change import DELETE
from app.model.incident import CATALOG_QUEUES
from app.model.report import RUNS
from app.rules.destination import SettingsModels
from app.rules.kin.check import wrong_ties
from app.rules.mistakes import nearest
from app.rules.rule import Rule
from app.rules.targets import DEFAULT_DESTINATION, HOLD, ByHours, ByTemplate, Target, named, plain
from app.rules.template import expressions
from app.rules.yaml_text import PLAIN_NAME, Document, Place

CheckJq = Callable[[str], str | None]
"""Gives what is wrong with a jq program, or None."""


def wrong_references(document: Document, models: SettingsModels, check_jq: CheckJq) -> Iterator[Mistake]:
    """Yield what is wrong with the parts of a document in view of one another, and of jq."""
    yield from _repeated_names(document)
    yield from _in_destinations(document, models, check_jq)
    yield from _in_rules(document, check_jq)
    written = _rules(document)
    yield from wrong_ties([*map(_readable, written)], written, document)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def written_destinations(document: Document) -> Mapping[str, Any]:
    """Give the destinations of a document as they are written."""
    return _mapping(document.plain.get("destinations"))


def _rules(document: Document) -> list[Any]:
    rules = document.plain.get("rules")
    return rules if isinstance(rules, list) else []


def _readable(written: Any) -> Rule | None:
    """Read a rule; of one that is wrong only its `send`, if that is right: of it more can be said."""
    for part in (written, {"name": "wrong", "send": _mapping(written).get("send")}):
        with suppress(ValidationError):
            return Rule.model_validate(part)
    return None


def _in_rules(document: Document, check_jq: CheckJq) -> Iterator[Mistake]:
    """Yield what is wrong with rules in view of the destinations and of jq."""
    for number, written in enumerate(_rules(document)):
        rule, path = _readable(written), ("rules", number)
        if rule is None:
            continue
        yield from _wrong_targets(document, (*path, "send"), rule.send, check_jq)
        for place, escalation in enumerate(rule.escalate):
            there = (*path, "escalate", place)
            yield from _wrong_targets(document, (*there, "send"), escalation.send, check_jq)
            if place and escalation.after <= rule.escalate[place - 1].after:
                yield document.mistake((*there, "after"), "after: must be longer than that of the one before")
        yield from _endless(document, path, rule)
        for key in ("when", "resolve"):
            for way, program in _jq_in(_mapping(written).get(key)):
                if problem := check_jq(program):
                    yield document.mistake((*path, key, *way), f"jq: {problem}")
        yield from _template_mistakes(document, (*path, "title"), rule.title, check_jq)
        yield from _template_mistakes(document, (*path, "message"), rule.message, check_jq)
        yield from _template_mistakes(document, (*path, "mention"), rule.mention, check_jq)


def _wrong_targets(
    document: Document, path: Place, targets: Iterable[Target], check_jq: CheckJq
) -> Iterator[Mistake]:
    known = {*written_destinations(document), DEFAULT_DESTINATION}
    for place, target in enumerate(targets):
        for way, destination in named(target):
            there = (*path, place, *way)
            if destination not in known and document.place(there) not in document.spoilt:
                yield document.mistake(there, _unknown(document, there, destination, known))
        hours = _mapping(document.plain.get("hours"))
        if isinstance(target, ByHours) and target.when not in hours:
            near = nearest(target.when, hours)
            hint = f"; did you mean {near!r}?" if near else ""
            yield document.mistake((*path, place, "when"), f"when: there are no hours {target.when!r}{hint}")
        inner, way = plain(target), ("to",) if isinstance(target, ByHours) else ()
        if isinstance(inner, ByTemplate) and (problem := check_jq(inner.program)):
            yield document.mistake((*path, place, *way, "template"), f"jq: {problem}")


def _endless(document: Document, path: tuple[str, int], rule: Rule) -> Iterator[Mistake]:
    """Yield where a rule waits for an end that can never be seen."""
    if rule.resolve is None and rule.when is not None and not rule.when.can_lapse:
        ends = "needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`"
        if rule.wait:
            yield document.mistake((*path, "when", "for"), f"`for` {ends}")
        elif rule.again_after:
            yield document.mistake((*path, "again_after"), f"`again_after` {ends}")
        elif rule.escalate:
            yield document.mistake((*path, "escalate"), f"`escalate` {ends}")
    if rule.flap and not rule.has_incident:
        text = "`flap` needs to see when the incident ends: give the rule a `resolve`"
        yield document.mistake((*path, "flap"), text)
    if rule.wait and set(rule.on) == {DELETE}:
        yield document.mistake((*path, "when", "for"), "`for` has nothing to wait for after DELETE")


def _in_destinations(document: Document, models: SettingsModels, check_jq: CheckJq) -> Iterator[Mistake]:
    """Yield what is wrong with destinations in view of one another and of jq."""
    destinations = written_destinations(document)
    known = {*destinations, DEFAULT_DESTINATION}
    if RUNS in destinations:
        yield document.mistake(("destinations", RUNS), f"{RUNS} is what the listener calls runs in Port")
    if HOLD in destinations:
        yield document.mistake(("destinations", HOLD), f"{HOLD} is a word of `else`: choose another name")
    for name, written in destinations.items():
        settings, path = _mapping(written), ("destinations", name)
        fallback, kind = settings.get("fallback"), settings.get("type")
        if fallback == name:
            yield document.mistake((*path, "fallback"), "fallback: must be another destination")
        elif isinstance(fallback, str) and fallback not in known:
            text = _unknown(document, (*path, "fallback"), fallback, known, "fallback")
            yield document.mistake((*path, "fallback"), text)
        yield from _wrong_default(document, path, destinations, known)
        for part in models[kind].templates if kind in [*models] else ():
            yield from _template_mistakes(document, (*path, part), settings.get(part), check_jq)


def _wrong_default(
    document: Document, path: tuple[str, str], destinations: Mapping[str, Any], known: Collection[str]
) -> Iterator[Mistake]:
    """Yield what is wrong with where a destination sends what the catalog leads nowhere."""
    name, there = path[1], (*path, "default")
    if name.startswith(CATALOG_QUEUES):
        yield document.mistake(path, "a destination's name must not begin with # or @, as a channel's does")
    default = _mapping(destinations[name]).get("default")
    if not isinstance(default, str) or default.startswith(CATALOG_QUEUES):
        return
    if default not in known:
        text = _unknown(document, there, default, known, "default")
        yield document.mistake(there, f"{text}; a channel begins with #")
        return
    other = _mapping(destinations.get(default))
    channel = other.get("channel")
    if "user" in other or isinstance(channel, Mapping) or "{{" in str(channel):
        yield document.mistake(there, "default: must be a channel, or a destination with one of its own")


def _repeated_names(document: Document) -> Iterator[Mistake]:
    lines: dict[str, int] = {}
    for number, rule in enumerate(_rules(document)):
        name = _mapping(rule).get("name")
        if not isinstance(name, str):
            continue
        here = document.mistake(("rules", number, "name"), "")
        if name in lines:
            yield replace(here, text=f"there is a rule of this name in line {lines[name]} already")
        lines.setdefault(name, here.line)


def _unknown(
    document: Document, path: Sequence[Any], name: str, known: Collection[str], key: str = "send"
) -> str:
    if not PLAIN_NAME.fullmatch(name):  # perhaps an address with its secret
        return f"{key}: must be the name of a destination; its address belongs under `destinations`"
    shown = document.at(path)
    near = nearest(name, known)
    hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(sorted(known))}"
    return f"there is no destination {shown if isinstance(shown, str) else name!r}{hint}"


def _jq_in(condition: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the jq programs of a condition, with the way to each."""
    for part, value in _mapping(condition).items():
        if part == "jq":
            yield (part,), value
        elif part in {"all", "any"}:
            for place, member in enumerate(value):
                yield from (((part, place, *way), program) for way, program in _jq_in(member))


def _template_mistakes(
    document: Document, path: tuple[Any, ...], value: Any, check_jq: CheckJq
) -> Iterator[Mistake]:
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _template_mistakes(document, (*path, key), item, check_jq)
    elif isinstance(value, str):
        key = next(part for part in reversed(path) if isinstance(part, str))
        try:
            programs = expressions(value)
        except TemplateError as error:
            yield document.mistake(path, f"{key}: {error}")
            return
        for program in programs:
            if problem := check_jq(program):
                yield document.mistake(path, f"{key}: jq: {problem}")
