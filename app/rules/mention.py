"""Whom a rule calls: in Slack's own notation, or as the catalog names them."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from app.errors import TemplateError
from app.model.notification import text_of
from app.rules.condition import JqError
from app.rules.targets import CatalogText, FromPort
from app.rules.template import parse

MENTION_WORD = re.compile(
    r"@(here|channel|everyone)|<!(here|channel|everyone)>|<!subteam\^[A-Z0-9]+>|<@[A-Z0-9]+>"
)
"""https://docs.slack.dev/messaging/formatting-message-text (mentions)"""
AROUND_A_VALUE = re.compile(r"@|<@|<!subteam\^|>")
"""What may be written around a value of the catalog: Slack's notation of it is made here."""
BETWEEN = re.compile(r"[,;\s]+")
MAX_PEOPLE = 10
MAX_PERSON_CHARS = 200


def _in_slacks_notation(mention: str) -> str:
    try:
        pieces = parse(mention).pieces
    except TemplateError as error:
        raise ValueError(str(error)) from None
    words = [word for piece in pieces if piece.literal for word in piece.text.split()]
    filled = any(not piece.literal for piece in pieces)
    fits = (MENTION_WORD.fullmatch(word) or (filled and AROUND_A_VALUE.fullmatch(word)) for word in words)
    if not (words or filled) or not all(fits):
        raise ValueError(
            "must be @here, @channel, a group <!subteam^S…> or a person <@U…>; several with a space between"
        )
    return mention if filled else " ".join(map(_marked, words))


def _marked(word: str) -> str:
    return f"<!{word[1:]}>" if word.startswith("@") else word


Mention = Annotated[
    Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_in_slacks_notation), Tag("<text>")]
    | Annotated[FromPort, Tag("<port>")],
    Discriminator(lambda value: "<port>" if isinstance(value, Mapping | FromPort) else "<text>"),
]
"""Mentions in Slack's notation, templates among them; or a look-up."""


def fixed_mention(mention: Mention) -> str:
    """Give what is the same for every change, in Slack's notation; it may be empty."""
    if not isinstance(mention, str):
        return ""
    words = (word for piece in parse(mention).pieces if piece.literal for word in piece.text.split())
    return " ".join(_marked(word) for word in words if MENTION_WORD.fullmatch(word))


def catalog_mentions(mention: Mention | None) -> tuple[CatalogText, ...]:
    """List what gives people for a change."""
    if mention is None or isinstance(mention, FromPort):
        return () if mention is None else (mention,)
    return tuple(f"{{{{ {program} }}}}" for program in parse(mention).expressions)


def people_in(values: Iterable[object]) -> tuple[str, ...]:
    """List the people that values of the catalog name, as they are written there, `MAX_PEOPLE` at most."""
    people: dict[str, None] = {}
    for value in values:
        if value is None or isinstance(value, JqError):
            continue
        text = text_of(value).strip()
        # A name of two words is one, which nobody has; but several addresses may stand in one text.
        people |= dict.fromkeys(BETWEEN.split(text) if "@" in text or "," in text else [text])
    people.pop("", None)
    return tuple(person[:MAX_PERSON_CHARS] for person in people)[:MAX_PEOPLE]
