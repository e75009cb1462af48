"""The URL of a job: where its templates may stand, and how their values are written there.

People who edit the catalog choose the values, and must not choose what is called: a value stays within
the segment of the path, or the part of the query, that its template stands in.

Rules: https://www.rfc-editor.org/rfc/rfc3986#section-3
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from yarl import URL

from app.errors import DeliveryFailed, Scope, SettingsError
from app.rules.template import as_text, parse

MAX_LINE_CHARS = 8_000  # of the URL, and of a header: servers refuse longer ones
UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What would end a header, or what is no text."""
HTTP_URL = re.compile(r"(https?://[^\s/?#]+)(.*)", re.IGNORECASE | re.DOTALL)
URL_CHARACTERS = "%/?#:@!$&'()*+,;=-._~[]"
"""What may stand in a URL beside letters and digits, and is sent as it is written."""
LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
HOST_PIECE = re.compile(r"[A-Za-z0-9_.-]+")
"""A value in the host: nothing that ends it, and no script that would become another name on the way."""
ENCODED_BY_JQ = re.compile(r"\|\s*@uri\s*")
SAFE_ENCODED = re.compile(r"([A-Za-z0-9_.~-]|%[0-9A-F]{2})*")
HOLE = "\x00"
"""Stands for a value where only its place matters; no URL has it."""


class JobUrl:
    """A URL with templates in its path, its query, its fragment or the name of its host.

    Args:
        text: The URL as the rules file has it.
        allow_hosts: The hosts that it may lead to, in small letters, ``*.`` before one for all
            below it; empty: any.

    Attributes:
        programs: The templates' programs, in the order in which `fill` wants their results.
        templates: The same, as templates.
        fixed_host: Whether the host is the same for every message.

    Raises:
        SettingsError: A template may not stand where it does, or the URL may not lead where it does.
    """

    def __init__(self, text: str, allow_hosts: Sequence[str]) -> None:
        self._pieces = parse(text).pieces
        self._allow_hosts = allow_hosts
        self.programs = tuple(piece.text for piece in self._pieces if not piece.literal)
        # Each by itself: what a value may be depends on its place.
        self.templates = [f"{{{{ {program} }}}}" for program in self.programs]
        shape = "".join(piece.text if piece.literal else HOLE for piece in self._pieces)
        authority = re.split("[/?#]", shape.partition("://")[2], maxsplit=1)[0]
        user, _, host = authority.rpartition("@")
        name, port = re.fullmatch(r"(\[.*\]|[^:]*)(.*)", host, re.DOTALL).groups()  # type: ignore[union-attr]
        if HOLE in user + port:
            where = "the user or password" if HOLE in user else "the port, or what follows it without a /"
            raise SettingsError(f"url: a template cannot give {where}")
        self.fixed_host = HOLE not in name
        if not self.fixed_host and not allow_hosts:
            raise SettingsError(
                "url: a template gives the host, and the request may carry secrets: name in allow_hosts where"
                " it may go"
            )
        self._same: URL | None = None
        if self.fixed_host and (name or not self.programs):
            try:
                url = self.fill(["x"] * len(self.programs))  # the host is this one, whatever the values are
            except DeliveryFailed as failed:
                raise SettingsError(f"url: {failed.reason}") from None
            self._same = None if self.programs else url

    def fill(self, results: Sequence[Any]) -> URL:
        """Make the URL of one message, given what each of `programs` came to.

        Raises:
            DeliveryFailed: Message: a value does not fit into its place, or the URL leads elsewhere.
        """
        if self._same is not None:
            return self._same
        values = iter(results)
        text, place = "", "host"
        for piece in self._pieces:
            if piece.literal:
                text += piece.text
                # As far as it goes: after a slash no host follows, and after a question mark no path.
                rest = text.partition("://")[2]
                place = "query" if "?" in rest or "#" in rest else "path" if "/" in rest else "host"
            else:
                text += HOLE + _encoded(as_text(next(values)), place, piece.text)
        _demand_whole_segments(text)
        text = text.replace(HOLE, "")
        if len(text) <= MAX_LINE_CHARS and not UNFIT.search(text):
            with contextlib.suppress(ValueError):
                if parts := HTTP_URL.fullmatch(text):
                    return self._allowed(_as_written(*parts.groups()))
        filled_in = ", with its templates filled," if self.programs else ""
        wanted = f"an http or https URL of at most {MAX_LINE_CHARS:,} characters"
        raise DeliveryFailed(f"the url{filled_in} is not {wanted}", Scope.MESSAGE)

    def _allowed(self, url: URL) -> URL:
        # By the name that is called, and not by how it was written.
        host = (url.raw_host or "").lower().rstrip(".")
        for allowed in self._allow_hosts:
            if host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:])):
                return url
        if self._allow_hosts:
            raise DeliveryFailed("the url leads to a host that allow_hosts does not name", Scope.MESSAGE)
        return url


def _encoded(value: str, place: str, program: str) -> str:
    """Write a value for its place, so that it stays one segment of the path, or one value of the query."""
    if UNFIT.search(value):
        raise DeliveryFailed("a value for the url has control characters", Scope.MESSAGE)
    if place == "host":
        if not HOST_PIECE.fullmatch(value):
            raise DeliveryFailed("a value for the url's host is no part of a host's name", Scope.MESSAGE)
        return value
    if ENCODED_BY_JQ.search(program) and SAFE_ENCODED.fullmatch(value):
        return value
    return quote(value, safe="")


def _demand_whole_segments(text: str) -> None:
    """Raise `DeliveryFailed` if values made a segment of the path empty, ``.`` or ``..``: it would vanish."""
    path = re.split(r"[?#]", text.partition("://")[2], maxsplit=1)[0]
    for segment in path.split("/")[1:]:
        written = unquote(segment.replace(HOLE, ""))
        # Some servers decode %2F and %5C first, and take the dots away then.
        if HOLE in segment and (not written or not {".", ".."}.isdisjoint(re.split(r"[/\\]", written))):
            reason = "a value for the url's path is empty, . or .., and would lead to another path"
            raise DeliveryFailed(reason, Scope.MESSAGE)


def _as_written(host: str, rest: str) -> URL:
    """Make a URL that is sent as it is written: where it is signed, ``%2F`` and ``/`` are not the same."""
    rest = LONE_PERCENT.sub("%25", rest if rest[:1] in {"", "/"} else f"/{rest}")
    escaped = quote(rest, safe=URL_CHARACTERS)
    return URL(str(URL(host)).rstrip("/") + escaped, encoded=True)
