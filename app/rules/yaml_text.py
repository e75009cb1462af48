"""A rules file's text: YAML whose parts know their lines, and `${NAME}` from the environment."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import ComposerError
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import RoundTripScanner, ScannerError
from typing_extensions import override

from app.errors import Mistake, RulesError

VARIABLE = re.compile(r"(\$?)\$\{([^{}]*)\}?")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN_VALUE = re.compile(r"""[^\s,\]}#"'&*!|>{\[]+""")
RULES_HOLD = "a rules file is a mapping with version, destinations and rules"
PLAIN_NAME = re.compile(r"[\w.-]{1,60}")
"""Matches keys and names, which may be shown, and not addresses and secrets."""

MAX_DEPTH = 100  # every library that reads the result must be able to follow
TOO_DEEP = "its values are nested too deep, or a part of it is within itself, by an alias (*)"
MOST_VALUES = 200_000
"""How many values a rules file may have, those counted again that aliases repeat."""

Place = tuple[str | int, ...]


def keyed(place: Place, text: str) -> str:
    """Begin a text with the key that it is about; a rule's or destination's own name is said anyway."""
    inner = place[2:] if len(place) > 1 and place[0] in {"rules", "destinations"} else place
    key = next((part for part in reversed(inner) if isinstance(part, str)), None)
    return f"{key}: {text}" if key else text


@dataclass(slots=True)
class Document:
    """A rules file that is YAML.

    Attributes:
        tree: The file, whose parts know their lines.
        text: The file's lines, as they are written.
        plain: The same as plain JSON values, with what `${NAME}` stands for.
        mistakes: What went wrong on the way from `tree` to `plain`.
        spoilt: Where that was: nothing more can be said of these places.
        hidden: For each value from the environment, its name.
    """

    tree: CommentedMap
    text: Sequence[str] = ()
    plain: Any = None
    mistakes: list[Mistake] = field(default_factory=list)
    spoilt: set[Place] = field(default_factory=set)
    hidden: dict[str, str] = field(default_factory=dict)

    def place(self, path: Sequence[Any]) -> Place:
        """Reduce pydantic's path, which names models too, to the parts that stand in the file."""
        return tuple(key for key, _, _ in self._walk(path))

    def at(self, path: Sequence[Any]) -> Any:
        """Look up the innermost part of `path` that is in the file, as it is written there."""
        steps = self._walk(path)
        return steps[-1][2] if steps else self.tree

    def mistake(self, path: Sequence[Any], text: str) -> Mistake:
        """Make a mistake at a place, with its line and its rule or destination."""
        steps, owner = self._walk(path), ""
        if len(path) > 1 and path[0] == "rules" and isinstance(path[1], int):
            rule = self.at(path[:2])
            name = rule.get("name") if isinstance(rule, Mapping) else None
            owner = str(name) if name and isinstance(name, str | int | float) else f"number {path[1] + 1}"
        elif len(path) > 1 and path[0] == "destinations":
            text = f"destination {str(path[1])!r}: {text}"
        elif len(path) > 1 and path[0] == "tests":
            test = self.at(path[:2])
            name = test.get("name") if isinstance(test, Mapping) else None
            text = f"test {name!r}: {text}" if isinstance(name, str) else text
        return Mistake(steps[-1][1] if steps else 1, owner, text)

    def written(self, place: Place) -> str:
        """Look up how a single value is written, without quotes; empty if it is in quotes, or not found."""
        steps = self._walk(place[:-1])
        parent, key = steps[-1][2] if steps else self.tree, place[-1]
        position = ((getattr(parent, "lc", None) and parent.lc.data) or {}).get(key)
        if position is None or position[-2] >= len(self.text):  # an alias has no place of its own
            return ""
        plain = PLAIN_VALUE.match(self.text[position[-2]], position[-1])
        return plain[0] if plain else ""

    def lines(self) -> dict[Place, int]:
        """Collect the lines of all rules, of all destinations, and of the keys of both."""
        found: dict[Place, int] = {}
        for part in ("rules", "destinations"):
            members = self.tree.get(part)
            keys = members.keys() if isinstance(members, Mapping) else range(len(members or ()))
            for key in keys:
                inner = members[key] if isinstance(members[key], Mapping) else ()
                for place in ((part, key), *((part, key, name) for name in inner)):
                    found[place] = self._walk(place)[-1][1]
        return found

    def _walk(self, path: Sequence[Any]) -> list[tuple[Any, int, Any]]:
        steps: list[tuple[Any, int, Any]] = []
        node: Any = self.tree
        line = 1
        for key in path:
            inside = (isinstance(node, CommentedMap) and key in node) or (
                isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node)
            )
            if not inside:  # the name of a model in pydantic's path
                continue
            lines = (node.lc.data or {}).get(key)  # what an alias merges in has none
            line = lines[0] + 1 if lines else line
            node = node[key]
            steps.append((key, line, node))
        return steps


def read_yaml(text: str, environment: Mapping[str, str], *, name: str, holds: str = RULES_HOLD) -> Document:
    """Read a file's text; `${NAME}` is replaced from the environment, `$${NAME}` stands for itself.

    Args:
        text: The text.
        environment: What `${NAME}` is replaced by.
        name: The file's name, for the mistakes.
        holds: What such a file is, for one that is something else.

    Raises:
        RulesError: It is not YAML, or not a mapping; no value of the file is shown.
    """
    try:
        yaml = YAML(typ="rt", pure=True)
        yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
        tree = yaml.load(StringIO(text))
    except YAMLError as error:
        raise RulesError(name, [_not_yaml(error, text)]) from None
    except ValueError:
        raise RulesError(name, [Mistake(1, "", "a date that does not exist; put texts in quotes")]) from None
    except RecursionError:
        raise RulesError(name, [Mistake(1, "", TOO_DEEP)]) from None
    except TypeError:  # ruamel's own, of a key that cannot be one
        text = "a key that is a mapping or a list itself; put texts with {{ }} in quotes"
        raise RulesError(name, [Mistake(1, "", text)]) from None
    if not isinstance(tree, CommentedMap):
        kind = "list" if isinstance(tree, list) else "single value"
        problem = "the file is empty" if tree is None else f"this is a {kind}"
        text = f"{problem}; {holds}"
        raise RulesError(name, [Mistake(1, "", text)])
    document = Document(tree, text.splitlines())
    # An alias inside its own anchor is legal YAML, and a tree without end.
    try:
        document.plain = _Plain(document, environment).of(tree, ())
    except RecursionError:
        raise RulesError(name, [Mistake(1, "", TOO_DEEP)]) from None
    except _TooMuch:
        text = f"with its aliases (*) it has more than {MOST_VALUES:,} values"
        raise RulesError(name, [Mistake(1, "", text)]) from None
    return document


class _Map(CommentedMap):
    """Knows no others that it is merged into (``<<``): it never changes, and each is compared with all."""

    def add_referent(self, _: CommentedMap) -> None:
        pass


class _Constructor(RoundTripConstructor):
    @override
    def construct_yaml_map(self, node: MappingNode) -> Iterator[CommentedMap]:
        yield (data := _Map())
        data._yaml_set_line_col(node.start_mark.line, node.start_mark.column)  # noqa: SLF001 - as ruamel does
        self.construct_mapping(node, data, deep=True)


_Constructor.add_constructor("tag:yaml.org,2002:map", _Constructor.construct_yaml_map)


class _Scanner(RoundTripScanner):
    """Refuses what is nested too deep before it is read: a few thousand brackets take seconds."""

    @override
    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        self._check_depth()
        super().fetch_flow_collection_start(TokenClass, to_push)

    @override
    def add_indent(self, column: int) -> bool:
        self._check_depth()
        return bool(super().add_indent(column))

    def _check_depth(self) -> None:
        if len(self.indents) + len(self.flow_context) > MAX_DEPTH:
            raise ScannerError(None, None, TOO_DEEP, self.reader.get_mark())


def _not_yaml(error: YAMLError, text: str) -> Mistake:
    """Say what is wrong without the values that ruamel quotes."""
    if isinstance(error, ReaderError):
        return Mistake(text.count("\n", 0, error.position) + 1, "", "a character that YAML does not allow")
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Mistake(1, "", "not YAML")
    line = error.problem_mark.line + 1
    problem = error.problem or ""
    if problem == TOO_DEEP:
        return Mistake(line, "", TOO_DEEP)
    written = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if isinstance(error, DuplicateKeyError):
        key = problem.partition('"')[2].partition('"')[0]
        subject = f"the key {key!r} is" if PLAIN_NAME.fullmatch(key) else "this key is"
        return Mistake(line, "", f"{subject} there twice; keep one of them")
    # Of a tab ruamel may also say something else about its line.
    if "'\\t'" in problem or written.lstrip(" ").startswith("\t"):
        return Mistake(line, "", "a tab; YAML is indented by spaces")
    if isinstance(error, ComposerError):
        if "another document" in problem:
            return Mistake(line, "", "a second document begins (---); the file must be one")
        return Mistake(line, "", "an alias (*) of nothing; put texts that begin with * in quotes")
    hint = "; put texts with ${…} or {{…}} in quotes" if "${" in written or "{{" in written else ""
    return Mistake(line, "", f"not YAML: {problem or 'cannot be read'}{hint}")


class _TooMuch(Exception):
    """Aliases of aliases can make a small file as large as one likes."""


@dataclass(slots=True)
class _Plain:
    """Makes plain values of what ruamel gives."""

    document: Document
    environment: Mapping[str, str]
    values: int = 0

    def of(self, value: Any, place: Place) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise _TooMuch
        if len(place) > MAX_DEPTH:
            raise RecursionError
        match value:
            case None | bool():
                return value
            case str():
                return VARIABLE.sub(lambda match: self._variable(match, place), str(value))
            case int():
                return int(value)
            case float():
                return float(value)
            case list():
                return [self.of(item, (*place, number)) for number, item in enumerate(value)]
            case Mapping():
                if not all(isinstance(key, str | int | float | None) for key in value):
                    return self._wrong(place, "a key that is no text; put texts with {{ }} in quotes", value)
                return {str(key): self.of(item, (*place, key)) for key, item in value.items()}
        return self._wrong(place, "neither text nor a number; put texts in quotes", value)

    def _variable(self, match: re.Match[str], place: Place) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        if not VARIABLE_NAME.fullmatch(name) or not match[0].endswith("}"):
            text = "${…} must hold a variable's name; write $${ if you mean the text itself"
            return str(self._wrong(place, text, match[0]))
        value = self.environment.get(name, "").strip()
        if not value:
            return str(self._wrong(place, f"the environment variable {name} is not set", match[0]))
        # It may be a secret: mistakes show its name in its place.
        self.document.hidden[value] = f"${{{name}}}"
        return value

    def _wrong(self, place: Place, text: str, value: Any) -> Any:
        if isinstance(value, date) and place[:1] == ("hours",):  # there a date can only be meant as one
            return value.isoformat()
        self.document.mistakes.append(self.document.mistake(place, keyed(place, text)))
        self.document.spoilt.add(place)
        return value
