"""The rules file: YAML, checked as a whole, each mistake with its line."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from app.alerts.condition import Strict
from app.alerts.rules import BUILT_IN, Rule
from app.alerts.send import DEFAULT_DESTINATION, names
from app.errors import ListenerError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
HTTP_LANES = 8

JobStep = Literal["opened", "changed", "resolved", "reminded"]
Steps = Annotated[
    tuple[JobStep, ...],
    Field(description="At which steps of an incident it runs; without an incident, at every match"),
]
JOB_STEPS: tuple[JobStep, ...] = ("opened", "changed")
"""A job that mends something is not to run again because it is mended."""


class SlackDestination(Strict):
    """A channel, through its incoming webhook."""

    type: Literal["slack"]
    webhook_url: Annotated[SecretStr, Field(description="The incoming webhook's address")]


class HttpDestination(Strict):
    """A job at an HTTP address. Texts in url, headers and body may hold templates: jq in `{{ }}`."""

    type: Literal["http"]
    url: SecretStr
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    headers: Annotated[dict[str, SecretStr], Field(default_factory=dict)]
    body: Any = None
    secret: SecretStr | None = None
    allow_private: bool = False
    lanes: Annotated[int, Field(ge=1, le=64)] = HTTP_LANES
    steps: Steps = JOB_STEPS


class PortActionDestination(Strict):
    """A run of a self-service action in Port. Texts in inputs may hold templates."""

    type: Literal["port_action"]
    action: Annotated[str, Field(min_length=1)]
    inputs: Annotated[dict[str, Any], Field(default_factory=dict)]
    entity: str | None = None
    steps: Steps = JOB_STEPS


class ConsoleDestination(Strict):
    """The terminal in which the listener runs."""

    type: Literal["console"]


Destination = Annotated[
    SlackDestination | HttpDestination | PortActionDestination | ConsoleDestination,
    Field(discriminator="type"),
]


class RulesFile(Strict):
    """What is to be told, to whom."""

    version: Literal[1]
    destinations: Annotated[dict[str, Destination], Field(default_factory=dict)]
    rules: tuple[Rule, ...] = (BUILT_IN,)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place of a rules file.

    Attributes:
        line: The line, from 1.
        rule: The rule's name, or its place; empty outside of rules.
        text: What is wrong, and what would be right.
    """

    line: int
    rule: str
    text: str


class RulesError(ListenerError):
    """A rules file cannot be used.

    Args:
        name: The file's name.
        mistakes: All that is wrong with it.
    """

    def __init__(self, name: str, mistakes: Sequence[Mistake]) -> None:
        lines = (
            f"{name}:{one.line}: {f'rule {one.rule!r}: ' if one.rule else ''}{one.text}" for one in mistakes
        )
        super().__init__("\n".join(lines))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file that can be used.

    Attributes:
        file: What it says.
        hidden: Values from the environment that stand in it: they must never be shown.
    """

    file: RulesFile
    hidden: tuple[str, ...] = ()


def load_rules(
    text: str,
    environment: Mapping[str, str],
    *,
    name: str = "rules",
    check_jq: Callable[[str], str | None] = lambda _: None,
) -> Rules:
    """Read a rules file.

    Args:
        text: The file's text.
        environment: What `${NAME}` is replaced by.
        name: The file's name, for the mistakes.
        check_jq: Gives what is wrong with a jq program, or None.

    Raises:
        RulesError: Something is wrong; every mistake is named, and no value from the environment is shown.
    """
    try:
        yaml = YAML(typ="rt", pure=True)
        tree = yaml.load(StringIO(text))
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        problem = (error.problem if isinstance(error, MarkedYAMLError) else None) or "this is not YAML"
        raise RulesError(name, [Mistake(mark.line + 1 if mark else 1, "", problem)]) from None
    if not isinstance(tree, CommentedMap):
        raise RulesError(
            name, [Mistake(1, "", "a rules file is a mapping with version, destinations, rules")]
        )
    mistakes: list[Mistake] = []
    hidden: set[str] = set()
    plain = _substitute(tree, (), environment, tree, mistakes, hidden)
    try:
        file = TypeAdapter(RulesFile).validate_python(plain)
    except ValidationError as error:
        mistakes += _explain(error, tree)
    else:
        mistakes += _contradictions(file, tree, check_jq)
    if mistakes:
        raise RulesError(name, sorted(mistakes, key=lambda one: one.line))
    return Rules(file, tuple(sorted(hidden)))


def _substitute(
    value: Any,
    path: tuple[Any, ...],
    environment: Mapping[str, str],
    tree: CommentedMap,
    mistakes: list[Mistake],
    hidden: set[str],
) -> Any:
    def again(inner: Any, key: Any) -> Any:
        return _substitute(inner, (*path, key), environment, tree, mistakes, hidden)

    if isinstance(value, Mapping):
        return {str(key): again(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [again(inner, number) for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        given = environment.get(found[1], "")
        if not given:
            text = f"the environment variable {found[1]} is not set"
            mistakes.append(Mistake(_line(tree, path), _rule_at(tree, path), text))
            return found[0]
        hidden.add(given)
        return given

    return VARIABLE.sub(replace, str(value))


def _line(tree: Any, path: Sequence[Any]) -> int:
    """Return the line, from 1, of the innermost part of `path` that stands in the file."""
    line = 1
    for key in path:
        if isinstance(tree, CommentedMap) and key in tree:
            line = tree.lc.key(key)[0] + 1
        elif isinstance(tree, CommentedSeq) and isinstance(key, int) and key < len(tree):
            line = tree.lc.item(key)[0] + 1
        else:
            continue  # pydantic's path names models and alternatives too
        tree = tree[key]
    return line


def _rule_at(tree: Any, path: Sequence[Any]) -> str:
    if len(path) < 2 or path[0] != "rules" or not isinstance(path[1], int):
        return ""
    rules = tree.get("rules")
    rule = rules[path[1]] if isinstance(rules, list) and path[1] < len(rules) else None
    name = rule.get("name") if isinstance(rule, Mapping) else None
    return str(name) if name else f"number {path[1] + 1}"


def _explain(error: ValidationError, tree: CommentedMap) -> Iterator[Mistake]:
    seen: set[tuple[int, str]] = set()
    for one in error.errors(include_url=False, include_input=False):
        path = one["loc"]
        # Of the alternatives of a union each complains; the field that is there or not says enough once.
        field = next(
            (str(part) for part in reversed(path) if isinstance(part, str) and _in(tree, path, part)), ""
        )
        text = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            near = get_close_matches(str(path[-1]), KEYS, n=1)
            text = f"{path[-1]!r} is not known here" + (f"; did you mean {near[0]!r}?" if near else "")
        elif one["type"] == "missing":
            text = f"{path[-1]!r} is missing"
        elif field:
            text = f"{field}: {text[:1].lower()}{text[1:]}"
        line = _line(tree, path)
        if (line, text) not in seen:
            seen.add((line, text))
            yield Mistake(line, _rule_at(tree, path), text)


def _in(tree: Any, path: Sequence[Any], name: str) -> bool:
    for key in path:
        if isinstance(tree, CommentedMap) and key in tree:
            if key == name:
                return True
            tree = tree[key]
        elif isinstance(tree, CommentedSeq) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
    return False


def _contradictions(
    file: RulesFile, tree: CommentedMap, check_jq: Callable[[str], str | None]
) -> Iterator[Mistake]:
    known = {*file.destinations, DEFAULT_DESTINATION}
    seen: set[str] = set()
    for number, rule in enumerate(file.rules):
        path = ("rules", number)

        def mistake(text: str, *further: Any, path: tuple[Any, ...] = path, rule: Rule = rule) -> Mistake:
            return Mistake(_line(tree, (*path, *further)), rule.name, text)

        if rule.name in seen:
            yield mistake(f"there are two rules of the name {rule.name!r}", "name")
        seen.add(rule.name)
        for place, target in enumerate(rule.send):
            for name in names(target):
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    hint = (
                        f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
                    )
                    yield mistake(f"there is no destination {name!r}{hint}", "send", place)
        if rule.wait and rule.when and not rule.when.is_level and rule.resolve is None:
            yield mistake(
                "`for` needs a `when` that can be seen to hold (to, above, below), or a `resolve`", "when"
            )
        for program in rule.programs():
            if problem := check_jq(program):
                yield mistake(f"jq: {problem}", "when")


def _all_keys() -> list[str]:
    schema = RulesFile.model_json_schema()
    models = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for model in models for key in model.get("properties", ())})


KEYS = _all_keys()
