"""Port's templates: text with jq in ``{{ }}``. Pure: it finds the programs and fills in their results.

What Port does is said in https://docs.port.io/actions-and-automations/define-automations/setup-action and
shown by the code that does it, https://github.com/port-labs/jq-node-bindings/blob/main/lib/template.js.
As there:

- a string that is one expression, give or take white space around it, keeps the result's type;
- else each result becomes text: a string as it is, anything else as compact JSON;
- braces inside jq's strings are jq's, and ``}}`` without ``{{`` is a mistake.

Unlike there:

- null is empty in a text, where Port writes ``null``;
- braces may nest, ``{{ {a: {b: 1}} }}``, where Port wants ``} }``;
- the keys of an object are no templates;
- jq's strings are in double quotes; Port takes single ones too.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.errors import TemplateError
from app.model.notification import Part

OPEN = "{{"
CLOSE = "}}"
EDGE = re.compile(r"\{\{|\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text, taken apart.

    Attributes:
        pieces: In the text's order; one that is not literal is a jq program, without the braces around it.
    """

    pieces: tuple[Part, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """The programs, in the text's order."""
        return tuple(piece.text for piece in self.pieces if not piece.literal)

    @property
    def only(self) -> str | None:
        """The program, if the text is nothing but one expression and white space."""
        blank = all(piece.text.isspace() for piece in self.pieces if piece.literal)
        return self.expressions[0] if blank and len(self.expressions) == 1 else None


@lru_cache(1024)  # a rules file's texts, each of which every delivery fills
def parse(text: str) -> Template:
    """Take a text apart.

    Raises:
        TemplateError: Braces that are not closed, closed without being opened, or empty.
    """
    pieces: list[Part] = []
    at = 0
    while edge := EDGE.search(text, at):
        start = edge.start()
        if edge[0] == CLOSE:  # within an expression `_end` has passed it
            raise TemplateError(f"{CLOSE} without {OPEN}", start)
        if start > at:
            pieces.append(Part(text[at:start], literal=True))
        end = _end(text, start)
        program = text[start + len(OPEN) : end].strip()
        if not program:
            raise TemplateError(f"nothing between {OPEN} and {CLOSE}", start)
        pieces.append(Part(program, literal=False))
        at = end + len(CLOSE)
    if at < len(text):
        pieces.append(Part(text[at:], literal=True))
    return Template(tuple(pieces))


def expressions(value: Any) -> list[str]:
    """Collect the programs in all strings of a JSON value, each once; an object's keys are no templates.

    Raises:
        TemplateError: A string is no template.
    """
    return list(dict.fromkeys(program for text in _strings(value) for program in parse(text).expressions))


def fill(value: Any, results: Mapping[str, Any]) -> Any:
    """Fill a JSON value: each expression in its strings is replaced by its result, or a text in its place.

    Raises:
        KeyError: A program has no result.
        TemplateError: A string is no template.
    """
    match value:
        case str():
            # Alone it keeps its type, so that a number can be sent as a number.
            only = parse(value).only
            if only is not None:
                return results[only]
            return "".join(part.text for part in parts(value, results))
        case list() | tuple():
            return [fill(item, results) for item in value]
        case Mapping():
            return {key: fill(item, results) for key, item in value.items()}
    return value


def parts(text: str, results: Mapping[str, Any]) -> tuple[Part, ...]:
    """Fill a text; keep the author's own parts and the values apart, since only values are escaped.

    Raises:
        KeyError: A program has no result.
        TemplateError: The text is no template.
    """
    pieces = parse(text).pieces
    return tuple(
        piece if piece.literal else Part(as_text(results[piece.text]), literal=False) for piece in pieces
    )


def as_text(value: Any) -> str:
    """Write a result as text: null is empty, a string is itself, anything else is compact JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() | tuple():
            for item in value:
                yield from _strings(item)
        case Mapping():
            for item in value.values():
                yield from _strings(item)


def _end(text: str, start: int) -> int:
    """Find the end of the expression that opens at `start`: the next ``}}`` that is not jq's own.

    What is open is kept on a stack: an object's brace, a string's quote, and the parenthesis of ``\\(…)``,
    inside which jq goes on and may have strings of its own.
    """
    opened: list[str] = []
    at = start + len(OPEN)
    while at < len(text):
        char, top = text[at], opened[-1] if opened else ""
        if top == '"':
            if char == "\\":
                at += 1
                if text[at : at + 1] == "(":
                    opened.append("(")
            elif char == '"':
                opened.pop()
        elif char in '"({':
            opened.append(char)
        elif (char, top) in {("}", "{"), (")", "(")}:
            opened.pop()
        elif text.startswith(CLOSE, at):
            return at  # also within a parenthesis: jq says better what is wrong with it
        at += 1
    raise TemplateError(f"{OPEN} without {CLOSE}", start)
