"""The rules file: YAML, checked as a whole, each mistake with its line."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, ValidationError, create_model

from app.errors import Mistake, RulesError, TemplateError
from app.model.change import DELETE
from app.model.report import RUNS
from app.rules.condition import Condition
from app.rules.destination import DestinationSettings, SettingsModels
from app.rules.hints import find_hints
from app.rules.kin.affected import Affected
from app.rules.kin.check import wrong_ties
from app.rules.kin.group import GroupBy
from app.rules.kin.quiet import QuietWhile
from app.rules.mistakes import explain, in_order, nearest
from app.rules.rule import BUILT_IN, Flap, Rule
from app.rules.targets import DEFAULT_DESTINATION, TARGET_KINDS, ByTemplate, PortLookup, named
from app.rules.template import expressions, jq_in
from app.rules.values import Not, Strict
from app.rules.yaml_text import PLAIN_NAME, Document, Place, read_yaml

FILE_VERSION = 1
AS_WRITTEN: dict[str, Any] = {"by_alias": True, "exclude_unset": True}

CheckJq = Callable[[str], str | None]
"""Gives what is wrong with a jq program, or None."""


def _version(value: Any) -> Any:
    if isinstance(value, int) and value > FILE_VERSION:
        raise ValueError(f"this release reads version {FILE_VERSION}; a later version needs a later release")
    return value


class RulesFile(Strict):
    """A rules file: the rules, and the destinations that they name."""

    version: Annotated[Literal[1], BeforeValidator(_version, json_schema_input_type=Literal[1])]
    """The version of the format."""
    destinations: Annotated[dict[str, DestinationSettings], Field(default_factory=dict)]
    """Where alerts can go, by name."""
    rules: Annotated[
        tuple[Rule, ...],
        Field(json_schema_extra={"default": [BUILT_IN.model_dump(mode="json", **AS_WRITTEN)]}),
    ] = (BUILT_IN,)
    """Which changes alert, and where; all are looked at, in this order. Not given: the built-in rule."""


def file_model(models: SettingsModels) -> type[RulesFile]:
    """Make the model of a rules file whose destinations are of these kinds; of none: it has none."""
    return _file_model(tuple(models.values()))


@cache  # making one takes 0.1 s
def _file_model(models: tuple[type[DestinationSettings], ...]) -> type[RulesFile]:
    if not models:
        return RulesFile
    union: Any = Union[models]  # noqa: UP007 - it is made of a list
    destination: Any = Annotated[union, Field(discriminator="type")]
    described = RulesFile.model_fields["destinations"].description
    destinations: Any = Annotated[dict[str, destination], Field(default_factory=dict, description=described)]
    return create_model("RulesFile", __base__=RulesFile, __doc__=RulesFile.__doc__, destinations=destinations)


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file without mistakes.

    Attributes:
        file: Its content.
        hidden: Values from the environment that stand in it: they must never be shown.
        name: The file's name; empty: there is no file, the built-in rule holds.
        lines: The lines, from 1, of its rules (``("rules", 0)``), destinations and the keys of these.
        hints: What is no mistake, but hardly meant.
    """

    file: RulesFile
    hidden: tuple[str, ...] = field(default=(), repr=False)
    name: str = ""
    lines: Mapping[Place, int] = field(default_factory=dict)
    hints: tuple[Mistake, ...] = ()

    def line_of(self, *place: str | int) -> int:
        """Look up the line of the innermost part of a place that is known; 1 if none is."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def load_rules(
    text: str,
    environment: Mapping[str, str],
    *,
    models: SettingsModels,
    name: str = "rules",
    check_jq: CheckJq = lambda _: None,
) -> Rules:
    """Parse the text of a rules file into rules and destinations.

    Args:
        text: The file's text.
        environment: What `${NAME}` is replaced by.
        models: The settings model of each kind of destination, by its name. Only those of the kinds in the
            file are asked for, unless one in it does not exist.
        name: The file's name, for the mistakes.
        check_jq: Checks a jq program; it is asked once of each.

    Raises:
        RulesError: Something is wrong; every mistake is named, and no value from the environment is shown.
    """
    check_jq = lru_cache(maxsize=None)(check_jq)  # compiling takes 4 ms, and programs are often repeated
    document = read_yaml(text, environment, name=name)
    mistakes = list(document.mistakes)
    file = None
    try:
        file = file_model(_models_for(document, models)).model_validate(document.plain)
    except ValidationError as error:
        mistakes += explain(error, document, lambda path: _keys_at(models, path))
    mistakes += _repeated_names(document)
    mistakes += _in_destinations(document, models, check_jq)
    mistakes += _in_rules(document, check_jq)
    mistakes += wrong_ties([*map(_readable, written := _rules(document))], written, document)
    if file is None or mistakes:
        raise RulesError(name, in_order(mistakes, document), _partly(document, models, name, mistakes))
    hints = in_order(find_hints(file, document), document)
    return Rules(file, tuple(sorted(document.hidden)), name, document.lines(), hints)


def _partly(document: Document, models: SettingsModels, name: str, wrong: Sequence[Mistake]) -> Rules:
    """Read the destinations in which nothing is wrong so far."""
    right = {}
    for key, written in _destinations(document).items():
        if not any(mistake.text.startswith(f"destination {key!r}: ") for mistake in wrong):
            with suppress(ValidationError, KeyError, TypeError):
                right[key] = models[written["type"]].model_validate(written)
    return Rules(RulesFile(version=1, destinations=right), name=name, lines=document.lines())


def _models_for(document: Document, models: SettingsModels) -> SettingsModels:
    """Choose the models of the kinds in a document; all of them where one is unknown, so that it is said."""
    written = [_mapping(entry).get("type") for entry in _destinations(document).values()]
    used = [kind for kind in models if kind in written]
    return {kind: models[kind] for kind in (used if all(kind in used for kind in written) else models)}


def _keys_at(models: SettingsModels, path: Sequence[Any]) -> list[str]:
    return [info.alias or name for name, info in _model_at(models, path).model_fields.items()]


def _model_at(models: SettingsModels, path: Sequence[Any]) -> type[Strict]:
    """Find the model that the last key of a path, as pydantic writes it, was looked for in."""
    match tuple(path):
        case ("destinations", _, str(kind), *_):
            return models[kind]
        case ("rules", _, "send", *_, "<port>", "port", _):
            return PortLookup
        case ("rules", _, "send", _, str(tag), *_):
            return TARGET_KINDS[tag.strip("<>")]
        case ("rules", _, "when" | "resolve", *rest):
            return Not if "<not>" in rest else Condition
        case ("rules", _, "flap", *_):
            return Flap
        case ("rules", _, "quiet_while" | "by" | "affected" as key, *_):
            return QuietWhile if key == "quiet_while" else GroupBy if key == "by" else Affected
        case ("rules", _, _):
            return Rule
    return RulesFile


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _destinations(document: Document) -> Mapping[str, Any]:
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
        yield from _wrong_targets(document, path, rule, check_jq)
        yield from _endless(document, path, rule)
        for key in ("when", "resolve"):
            for way, program in jq_in(_mapping(written).get(key)):
                if problem := check_jq(program):
                    yield document.mistake((*path, key, *way), f"jq: {problem}")
        yield from _template_mistakes(document, (*path, "title"), rule.title, check_jq)
        yield from _template_mistakes(document, (*path, "message"), rule.message, check_jq)


def _wrong_targets(
    document: Document, path: tuple[str, int], rule: Rule, check_jq: CheckJq
) -> Iterator[Mistake]:
    known = {*_destinations(document), DEFAULT_DESTINATION}
    for place, target in enumerate(rule.send):
        for way, destination in named(target):
            there = (*path, "send", place, *way)
            if destination not in known and document.place(there) not in document.spoilt:
                yield document.mistake(there, _unknown(document, there, destination, known))
        if isinstance(target, ByTemplate) and (problem := check_jq(target.program)):
            yield document.mistake((*path, "send", place, "template"), f"jq: {problem}")


def _endless(document: Document, path: tuple[str, int], rule: Rule) -> Iterator[Mistake]:
    """Yield where a rule waits for an end that can never be seen."""
    if rule.resolve is None and rule.when is not None and not rule.when.can_lapse:
        ends = "needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`"
        if rule.wait:
            yield document.mistake((*path, "when", "for"), f"`for` {ends}")
        elif rule.again_after:
            yield document.mistake((*path, "again_after"), f"`again_after` {ends}")
    if rule.flap and not rule.has_incident:
        text = "`flap` needs to see when the incident ends: give the rule a `resolve`"
        yield document.mistake((*path, "flap"), text)
    if rule.wait and set(rule.on) == {DELETE}:
        yield document.mistake((*path, "when", "for"), "`for` has nothing to wait for after DELETE")


def _in_destinations(document: Document, models: SettingsModels, check_jq: CheckJq) -> Iterator[Mistake]:
    """Yield what is wrong with destinations in view of one another and of jq."""
    destinations = _destinations(document)
    known = {*destinations, DEFAULT_DESTINATION}
    if RUNS in destinations:
        yield document.mistake(("destinations", RUNS), f"{RUNS} is what the listener calls runs in Port")
    for name, written in destinations.items():
        settings, path = _mapping(written), ("destinations", name)
        fallback, kind = settings.get("fallback"), settings.get("type")
        if fallback == name:
            yield document.mistake((*path, "fallback"), "fallback: must be another destination")
        elif isinstance(fallback, str) and fallback not in known:
            text = _unknown(document, (*path, "fallback"), fallback, known, "fallback")
            yield document.mistake((*path, "fallback"), text)
        for part in models[kind].templates if kind in [*models] else ():
            yield from _template_mistakes(document, (*path, part), settings.get(part), check_jq)


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
