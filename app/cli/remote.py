"""A listener elsewhere: commands that ask its API, from a laptop, in place of this machine's store."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import httpx
import typer
from pydantic import BaseModel, ValidationError

from app.cli.base import user_name
from app.environment import environment
from app.errors import ListenerError, SettingsError
from app.model.notification import one_line
from app.network import Network
from app.port.refusal import UNREACHED, why_unreached
from app.web.api.models import ActionOut, PageOut

_Out = TypeVar("_Out", bound=BaseModel)

REMOTE_SECONDS = 30.0
MAX_WHO = 60
"""Of a name as much is kept, and percent-encoded it must fit into a header."""
ROWS_A_REQUEST = 200
"""As many as the API gives at once."""
THIS_MACHINE = "local"
URL_VARIABLE = "LISTENER_URL"
TOKEN_VARIABLE = "LISTENER_TOKEN"  # noqa: S105 - the variable's name

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help=f"A listener elsewhere: https://listener.example.com; {THIS_MACHINE}: this machine's store."
        f" Not given: {URL_VARIABLE}, or `url` in ~/.config/port-listener.toml.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", help=f"Its ADMIN_TOKEN. Not given: {TOKEN_VARIABLE}, which `ps` does not show, or `token`."
    ),
]


def config_file() -> Path:
    """Name the file with `url` and `token` of the listener that the commands ask, as TOML.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - Path fails
    return Path(folder) / "port-listener.toml"


@dataclass(frozen=True, slots=True)
class Remote:
    """The API of a listener elsewhere.

    Attributes:
        url: Its address, with the path's prefix if it has one.
        token: Its ADMIN_TOKEN.
        who: For whom it is asked, as its audit trail and the channels call them.
    """

    url: str
    token: str
    who: str = field(default_factory=user_name)

    def ask(self, path: str, out: type[_Out], **query: Any) -> _Out:
        """Get one thing: `path` behind /api/v1.

        Raises:
            ListenerError: There is none, or the listener cannot be asked.
        """
        return _read(self._send("GET", path, query), out)

    def ask_list(self, path: str, out: type[_Out], **query: Any) -> list[_Out]:
        """Get a list that has no pages."""
        rows = self._send("GET", path, query)
        return [_read(row, out) for row in (rows if isinstance(rows, list) else [rows])]

    def ask_pages(self, path: str, out: type[_Out], limit: int, **query: Any) -> list[_Out]:
        """Get the first rows of a list, page by page."""
        rows: list[_Out] = []
        before = None
        while len(rows) < limit:
            size = min(ROWS_A_REQUEST, limit - len(rows))
            page = self._send("GET", path, {**query, "before": before, "limit": size})
            read = _read(page, PageOut[out])  # type: ignore[valid-type]
            rows += read.items
            if read.next is None or read.next == before:
                break
            before = read.next
        return rows

    def act(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> ActionOut:
        """Let it do something, and give what was done."""
        return _read(self._send(method, path, {}, body), ActionOut)

    def _send(
        self, method: str, path: str, query: Mapping[str, Any], body: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            answer = httpx.request(
                method,
                f"{self.url.rstrip('/')}/api/v1{path}",
                params={name: value for name, value in query.items() if value is not None},
                json=body,
                headers={
                    "Authorization": f"Bearer {self.token}",
                    "X-Acting-For": quote(one_line(self.who, MAX_WHO)),
                },
                timeout=REMOTE_SECONDS,
                **Network(environment()).httpx(self.url),
            )
        except UNREACHED as error:
            raise ListenerError(f"cannot reach {self.url}: {why_unreached(error)}") from None
        try:
            content = answer.json()
        except (ValueError, RecursionError):
            content = None
        if answer.is_success and content is not None:
            return content
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise ListenerError(f"{self.url} refuses the token: it must be the listener's ADMIN_TOKEN")
        if answer.has_redirect_location:  # not followed: the token is not for elsewhere
            there = one_line(answer.headers["location"].partition("?")[0], 200)
            raise ListenerError(f"{self.url} redirects to {there}: give the address that it leads to")
        if isinstance(content, dict) and isinstance(content.get("detail"), str):
            raise ListenerError(one_line(content["detail"], 1_000))
        raise ListenerError(
            f"{self.url} answers {answer.status_code}, but not as this listener does: give the address of its"
            " page, with the path"
        )


def remote(url: str | None, token: str | None) -> Remote | None:
    """Find the listener that a command asks; None: the store of this machine.

    Args:
        url: The option `--url`.
        token: The option `--token`.

    Raises:
        SettingsError: The address is none, the token is missing, or the file cannot be read.
    """
    variable = os.environ.get(URL_VARIABLE)
    if THIS_MACHINE in (url, url or variable):
        return None
    kept = _kept()
    address = (url or variable or kept.get("url") or "").rstrip("/")
    if not address:
        return None
    if not address.startswith(("http://", "https://")) or "@" in address:
        raise SettingsError(
            f"--url {one_line(address.rpartition('@')[2], 100)} must begin with https:// or http://, and hold"
            " no password"
        )
    # The token of one listener is not for another one.
    known = kept.get("token") if address == kept.get("url", "").rstrip("/") else None
    is_variables = not variable or address == variable.rstrip("/")
    secret = (token or (is_variables and os.environ.get(TOKEN_VARIABLE)) or known or "").strip()
    if not secret:
        raise SettingsError(f"{TOKEN_VARIABLE} is not set: it is the ADMIN_TOKEN of {address}")
    if not (secret.isascii() and secret.isprintable()):
        raise SettingsError("the token holds a character that no header can hold: it is no ADMIN_TOKEN")
    return Remote(address, secret)


def _kept() -> dict[str, str]:
    path = config_file()
    try:
        values = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # of a service there may be no home
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {one_line(str(error), 200)}") from None
    wrong = sorted(
        name for name in values if name not in ("url", "token") or not isinstance(values[name], str)
    )
    if wrong:
        raise SettingsError(f"{path}: {one_line(wrong[0], 60)} is not known: it has `url` and `token`, texts")
    return values


def _read(row: Any, out: type[_Out]) -> _Out:
    try:
        return out.model_validate(row)
    except ValidationError:
        raise ListenerError(
            "it answers in another form: it is no listener, or one of another version"
        ) from None
