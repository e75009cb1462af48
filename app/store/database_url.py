"""The database's URL: what is wrong with it, the SQLite file that it names, and what asyncpg gets of it.

Rules: https://www.postgresql.org/docs/current/libpq-connect.html (URIs and parameters)
"""

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from app.network import Network

SQLITE = "sqlite:///"
POSTGRES_URL = r"postgres(?:ql)?://"
_PARTS = re.compile(
    rf"(?P<scheme>{POSTGRES_URL})(?:(?P<login>[^@/?#\[\]]*)@)?(?P<hosts>[^@/?#]*)(?P<database>/[^@?#]*)?"
    r"(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(?::(?P<port>\d*))?")
_DROPPED = frozenset(
    {
        "pgbouncer",
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "supa",
        "workaround",
        "uselibpqcompat",
    }
    | {"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
    | {"tcp_user_timeout", "gssencmode", "sslcompression", "sslsni", "fallback_application_name"}
    | {"load_balance_hosts", "application_name"}
)
"""Parameters for other clients: the listener has its own limits and name, and recognizes a pgbouncer."""
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NOT_SUPPORTED = {
    "schema": "remove it, and give the listener's user a search_path",
    "hostaddr": "put the address in the place of the host",
    "require_auth": "remove it",
}
SYSTEM = "system"
MAX_PORT = 65_535


def sqlite_file(url: str) -> Path | None:
    """Return the file that a database's URL names, its ``~`` filled in; None: it is no SQLite URL."""
    return Path(url.removeprefix(SQLITE)).expanduser() if url.startswith(SQLITE) else None


def mistake_in(url: str) -> str:
    """Tell what is wrong with a database's URL, in words that follow the variable's name; empty: nothing.

    Nothing of the URL is shown but names of parameters and files.
    """
    if url.startswith(SQLITE):
        return _sqlite_mistake(url.removeprefix(SQLITE))
    if not re.match(POSTGRES_URL, url):
        return f"must begin with {SQLITE} and name a file ({SQLITE}data/listener.db), or with postgresql://"
    if re.search(r"\s", url):
        return "has white space in it: copy it again"
    parts = _PARTS.fullmatch(url)
    if parts is None or not all(map(_HOST.fullmatch, parts["hosts"].split(","))) or not _is_url(url):
        return (
            "cannot be read: in the user, the password and the database's name, characters such as"
            " @ : / ? # [ ] % must be written as %XX (@ is %40, # is %23, [ is %5B)"
        )
    ports = [match["port"] for host in parts["hosts"].split(",") if (match := _HOST.fullmatch(host))]
    if wrong := [port for port in ports if port and not 0 < int(port) <= MAX_PORT]:
        return f"has the port {wrong[0][:20]}: it must be from 1 to {MAX_PORT}"
    if not parts["hosts"] and not parts["database"]:
        return "must name a host: postgresql://USER:PASSWORD@HOST/DATABASE"
    return _parameter_mistake(_parameters(parts["query"]))


def _is_url(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:  # brackets without an address, letters that are another's by Unicode
        return False
    return True


def _sqlite_mistake(file: str) -> str:
    example = (
        f"it must be a file such as {SQLITE}data/listener.db, or with four slashes {SQLITE}/data/listener.db"
    )
    if not file.strip():
        return f"must name a file: {example}"
    if ":memory:" in file or file.startswith("file:"):
        return f"must name a file on disk, or changes would be lost: {example}"
    if "?" in file:
        return f"has options behind a question mark, which are not supported: {example}"
    if "\0" in file:
        return f"has a NUL in it: {example}"
    if sys.platform != "win32" and re.match(r"/?[A-Za-z]:[\\/]|\\", file):
        return f"has a path of Windows, and this is another system: {example}"
    if file.endswith(("/", "\\")):
        return f"names a folder: {example}"
    try:
        Path(file).expanduser()
    except RuntimeError:
        return "begins with ~, and the home folder is not known: write the whole path"
    return ""


def _parameters(query: str | None) -> dict[str, str]:
    return dict(parse_qsl(query or "", keep_blank_values=True))


def _parameter_mistake(parameters: dict[str, str]) -> str:
    mode, root = parameters.get("sslmode", ""), parameters.get("sslrootcert", "")
    if parameters.get("channel_binding", "prefer") == "require":
        return (
            "has channel_binding=require, which the driver does not support: remove it; sslmode=verify-full"
            " with sslrootcert=system proves the server, too"
        )
    for name, advice in _NOT_SUPPORTED.items():
        if name in parameters:
            return f"has the parameter {name}, which is not supported: {advice}"
    if mode and mode not in _SSL_MODES:
        return f"has an sslmode that does not exist: it is one of {', '.join(_SSL_MODES)}"
    if root == SYSTEM and (mode in _SSL_MODES[:3] or {"sslcert", "sslcrl"} & parameters.keys()):
        return "has sslrootcert=system, which goes with sslmode=verify-full, and without sslcert and sslcrl"
    for name in _FILES:
        file = parameters.get(name, "")
        if file and not (name == "sslrootcert" and file == SYSTEM) and not os.access(file, os.R_OK):
            return f"has {name}={file}, a file that cannot be read"
    usual = Path.home() / ".postgresql/root.crt"
    if mode.startswith("verify") and not (root or os.environ.get("PGSSLROOTCERT") or usual.is_file()):
        return f"has sslmode={mode} and needs sslrootcert: system for public authorities, or a file of yours"
    return ""


def for_asyncpg(url: str) -> tuple[str, dict[str, Any]]:
    """Return a PostgreSQL URL as asyncpg takes it, and the arguments for what it does not take in a URL.

    Args:
        url: In which `mistake_in` sees none.

    Raises:
        SettingsError: ``sslrootcert=system``, and the environment's certificates cannot be used.
    """
    base, _, query = url.partition("?")
    parameters = {name: value for name, value in _parameters(query).items() if name not in _DROPPED}
    parameters.pop("channel_binding", None)  # what is left of it asks for nothing
    more: dict[str, Any] = {}
    if parameters.get("sslrootcert") == SYSTEM:
        for name in ("sslrootcert", "sslmode"):
            parameters.pop(name, None)
        more["ssl"] = Network(os.environ).tls()
    return f"{base}?{urlencode(parameters)}" if parameters else base, more


def password_in(url: str) -> tuple[str, ...]:
    """Return the password of a PostgreSQL URL, as it is written and as it is meant; none: there is none."""
    login = re.match(rf"{POSTGRES_URL}[^:/@]*:(.*)@", url)
    return (login[1], unquote(login[1])) if login else ()
