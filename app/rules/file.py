"""The rules file: YAML, checked as a whole, each mistake with its line."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, ValidationError, create_model

from app.errors import Mistake, RulesError
from app.rules.condition import Condition
from app.rules.destination import DestinationSettings, SettingsModels, SlackRules
from app.rules.hints import find_hints
from app.rules.kin.affected import Affected
from app.rules.kin.group import GroupBy
from app.rules.kin.quiet import QuietWhile
from app.rules.mistakes import explain, in_order
from app.rules.references import CheckJq, written_destinations, wrong_references
from app.rules.rule import BUILT_IN, Rule
from app.rules.targets import TARGET_KINDS, Escalation, FromPort, Hours, PortLookup
from app.rules.values import Flap, Not, Strict
from app.rules.yaml_text import Document, Place, read_yaml

FILE_VERSION = 1
MODELS_OF_KEYS: Mapping[str, type[Strict]] = {
    "flap": Flap,
    "escalate": Escalation,
    "quiet_while": QuietWhile,
    "by": GroupBy,
    "affected": Affected,
    "slack": SlackRules,
}
AS_WRITTEN: dict[str, Any] = {"by_alias": True, "exclude_unset": True}


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
    hours: Annotated[dict[str, Hours], Field(default_factory=dict)]
    """Hours of the week, by name, at which a target of a rule is told."""
    rules: Annotated[
        tuple[Rule, ...],
        Field(json_schema_extra={"default": [BUILT_IN.model_dump(mode="json", **AS_WRITTEN)]}),
    ] = (BUILT_IN,)
    """Which changes alert, and where; all are looked at, in this order. Not given: the built-in rule."""
    slack: Annotated[SlackRules, Field(json_schema_extra={"default": {}})] = SlackRules()
    """Who may do what by a click in Slack."""


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
    if "tests" in document.tree and isinstance(document.tree.get("rules"), str):
        suite = "this is a suite, the tests of a rules file; `rules test --suite` runs it"
        raise RulesError(name, [document.mistake(("rules",), suite)])
    mistakes = list(document.mistakes)
    file = None
    try:
        file = file_model(_models_for(document, models)).model_validate(document.plain)
    except ValidationError as error:
        mistakes += explain(error, document, lambda path: _keys_at(models, path))
    mistakes += wrong_references(document, models, check_jq)
    if file is None or mistakes:
        raise RulesError(name, in_order(mistakes, document), _partly(document, models, name, mistakes))
    hints = in_order(find_hints(file, document), document)
    return Rules(file, tuple(sorted(document.hidden)), name, document.lines(), hints)


def _partly(document: Document, models: SettingsModels, name: str, wrong: Sequence[Mistake]) -> Rules:
    """Read the destinations in which nothing is wrong so far."""
    right = {}
    for key, written in written_destinations(document).items():
        if not any(mistake.text.startswith(f"destination {key!r}: ") for mistake in wrong):
            with suppress(ValidationError, KeyError, TypeError):
                right[key] = models[written["type"]].model_validate(written)
    return Rules(RulesFile(version=1, destinations=right, hours={}), name=name, lines=document.lines())


def _models_for(document: Document, models: SettingsModels) -> SettingsModels:
    """Choose the models of the kinds in a document; all of them where one is unknown, so that it is said."""
    entries = written_destinations(document).values()
    written = [entry.get("type") if isinstance(entry, Mapping) else None for entry in entries]
    used = [kind for kind in models if kind in written]
    return {kind: models[kind] for kind in (used if all(kind in used for kind in written) else models)}


def _keys_at(models: SettingsModels, path: Sequence[Any]) -> list[str]:
    return [info.alias or name for name, info in _model_at(models, path).model_fields.items()]


def _model_at(models: SettingsModels, path: Sequence[Any]) -> type[Strict]:
    """Find the model that the last key of a path, as pydantic writes it, was looked for in."""
    match tuple(path):
        case (_, *_, "<port>", "port", _):
            return PortLookup
        case ("destinations", _, _, _, "<port>", _) | ("rules", _, "mention", "<port>", _):
            return FromPort
        case ("destinations", _, str(kind), *_):
            return models[kind]
        case ("rules", _, "when" | "resolve", *rest):
            return Not if "<not>" in rest else Condition
        case ("rules", _, *_, "send" | "to", _, str(tag), _) | ("rules", _, *_, "to", str(tag), _):
            return TARGET_KINDS[tag.strip("<>")]
        case ("rules", _, "flap" | "escalate" | "quiet_while" | "by" | "affected" as key, *_) | (
            "slack" as key,
            *_,
        ):
            return MODELS_OF_KEYS[key]
        case ("rules", _, _):
            return Rule
    return Hours if tuple(path[:1]) == ("hours",) and len(path) > 2 else RulesFile
