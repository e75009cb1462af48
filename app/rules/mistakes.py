"""Turns pydantic's errors about a rules file into sentences for its author."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import Mistake
from app.rules.yaml_text import PLAIN_NAME, Document, Place, keyed

WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "none_required": "nothing",
}
SUBJECT_KEYS = frozenset({"property", "relation", "team", "scorecard", "run", "all", "any", "jq"})
CONDITION_KEYS = SUBJECT_KEYS | {"from", "to", "above", "below", "levels", "for"}
"""Those that a rule itself has not."""
MIN_HIDDEN_CHARS = 4  # a shorter value may be any word of a mistake
SHOULD = re.compile(r"^(Value error, )?(\w+ should )?")

KeysAt = Callable[[Sequence[Any]], Sequence[str]]
"""Gives the keys that are allowed beside the last one of a path, as pydantic writes it."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is most like another, whatever the case; None if none is."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[near[0]] if near else None


def explain(error: ValidationError, document: Document, keys_at: KeysAt) -> Iterator[Mistake]:
    """Turn a validation error into mistakes; where all alternatives of a union fail, they are one mistake.

    Values are never shown, since any may be a secret; keys and types are, if they look like ones.
    """
    errors = error.errors(include_url=False, include_input=False)
    meant: set[tuple[Any, ...]] = set()
    others: dict[Place, list[ErrorDetails]] = {}
    for detail in errors:
        path = detail["loc"]
        if detail["type"] == "extra_forbidden":
            key, known = str(path[-1]), keys_at(path)
            if near := nearest(key, known):
                meant.add((*path[:-1], near))
            text = _unknown_key(path, key, near, known)
            yield document.mistake(path, keyed(document.place(path[:-1]), text))
        elif detail["type"] != "missing":
            others.setdefault(document.place(path), []).append(detail)
    for detail in errors:
        path = detail["loc"]
        # Not where an unknown key is near: it is the missing one, misspelt, and was named above.
        if detail["type"] == "missing" and path not in meant:
            yield document.mistake(path, keyed(document.place(path), f"{str(path[-1])!r} is missing"))
    for place, several in others.items():
        if place not in document.spoilt:  # a variable that is missing there has been named already
            # pydantic puts a mistake in a destination's type at the destination.
            there = (*place, "type") if several[0]["type"] == "union_tag_invalid" else place
            for text in _texts(several, document.at(place)):
                yield document.mistake(there, keyed(there, text))


def _unknown_key(path: Sequence[Any], key: str, near: str | None, known: Sequence[str]) -> str:
    if key in CONDITION_KEYS and len(path) == 3 and path[0] == "rules":
        subject = "" if key in SUBJECT_KEYS else "property: …, "
        return f"`{key}` belongs inside `when`, as in when: {{{subject}{key}: …}}"
    shown = f"{key!r}" if PLAIN_NAME.fullmatch(key) else "this key"
    return f"{shown} is not known here" + (
        f"; did you mean {near!r}?" if near else f"; there are {', '.join(known)}"
    )


def _texts(errors: Sequence[ErrorDetails], value: Any) -> list[str]:
    wanted = {WANTED[detail["type"]]: None for detail in errors if detail["type"] in WANTED}
    if "a number" in wanted:
        wanted.pop("a whole number", None)
    texts = [
        _text(detail, value)
        for detail in errors
        # A list is also called empty when what is in it is wrong.
        if detail["type"] not in WANTED and not (detail["type"] == "too_short" and value)
    ]
    if wanted:
        *most, last = wanted
        quotes = "; put it in quotes" if "text" in wanted and isinstance(value, int | float) else ""
        texts.append(f"must be {', '.join(most)}{' or ' if most else ''}{last}{quotes}")
    return list(dict.fromkeys(texts))


def _text(error: ErrorDetails, value: Any) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "union_tag_not_found":
            return "'type' is missing"
        case "literal_error" | "union_tag_invalid":
            expected = str(context.get("expected") or context.get("expected_tags"))
            if isinstance(value, str) and expected in {"True", "False"}:
                expected = expected.lower()  # as YAML writes it
            written = str(value.get("type") if isinstance(value, dict) else value)
            near = nearest(written, re.findall(r"'([^']*)'", expected))
            expected = " or ".join(expected.rsplit(", ", 1)) if " or " not in expected else expected
            return f"must be {expected}" + (f"; did you mean {near!r}?" if near else "")
        case "string_too_short" | "too_short":
            return "must not be empty"
    message = SHOULD.sub("", error["msg"], count=1)
    return f"must {message}" if " should " in error["msg"] and not message.startswith("must") else message


def in_order(mistakes: Iterable[Mistake], document: Document) -> tuple[Mistake, ...]:
    """Put mistakes in the order of the file, each once, with the names of variables for their values."""
    by_line = sorted(dict.fromkeys(mistakes), key=lambda mistake: mistake.line)
    return tuple(_hidden(mistake, document.hidden) for mistake in by_line)


def _hidden(mistake: Mistake, hidden: Mapping[str, str]) -> Mistake:
    """Replace values from the environment in a mistake's text by their names."""
    text = mistake.text
    # The longest first: a short value may be a part of a longer one.
    for value, name in sorted(hidden.items(), key=lambda item: -len(item[0])):
        if len(value) >= MIN_HIDDEN_CHARS:
            text = text.replace(value, name)
    return replace(mistake, text=text)
