"""The environment variables: the process's own, those of .env, and the files that NAME_FILE names."""

import codecs
import os
import re
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from app.errors import SettingsError

DOTENV = Path(".env")
REFERENCE = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")
ASSIGNMENT = re.compile(r"\s*(?:export\s+)?'?(?P<name>\w+)'?\s*=\s*(?P<quote>['\"]?)")
MIN_ADMIN_TOKEN_CHARACTERS = 16
TOKEN_FORMS = {
    "port_client_secret": (r"\S+", "has white space in it: copy it again"),
    "port_previous_client_secret": (r"\S+", "has white space in it: copy it again"),
    # Not AnyHttpUrl: its errors and its repr show the address, which is a secret.
    "slack_webhook_url": (
        r"https?://[^\s/]+(/\S*)?",
        "is not a URL: take it from your Slack app's page, Incoming Webhooks",
    ),
    "slack_bot_token": (
        r"xox[be][-.][!-~]+",
        "is no bot token, which begins with xoxb-: your Slack app's page, OAuth & Permissions, has it",
    ),
    "slack_app_token": (
        r"xapp-[!-~]+",
        "is no app-level token, which begins with xapp-: your Slack app's page, Basic Information, has it",
    ),
    "slack_signing_secret": (r"[!-~]{16,}", "is none: your Slack app's page, Basic Information, has it"),
    "admin_token": (
        rf"(?s:.{{{MIN_ADMIN_TOKEN_CHARACTERS},}})",
        (
            f"is too short to guard anything: at least {MIN_ADMIN_TOKEN_CHARACTERS} characters, such as"
            " `openssl rand -hex 24` prints"
        ),
    ),
}
"""What each token and secret must look like, by its setting, and the mistake where it does not."""


class Environment(Mapping[str, str]):
    """Variables by name; NAME_FILE gives NAME, as Docker's and Kubernetes' mounted secrets need it.

    A value is without white space and without a pair of quotes around it: `docker run --env-file` keeps
    quotes, where other readers of .env take them off. A blank value stays as it is.

    Raises:
        SettingsError: By each look-up: NAME and NAME_FILE are both set, the file cannot be read, or the value
            is not UTF-8. The text names the variable and shows no value.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        value, file = self._variables.get(name, ""), self._variables.get(f"{name}_FILE", "").strip()
        if file:
            if value:
                raise SettingsError(f"{name} and {name}_FILE are both set: remove one of them")
            value = _content(f"{name}_FILE", Path(file))
        elif name not in self._variables:
            raise KeyError(name)
        if not _is_text(value):
            raise SettingsError(f"{name} is not UTF-8: set it again")
        return _unquoted(value.strip()) or value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def environment(dotenv: Path = DOTENV) -> Environment:
    """Read the variables: .env's, and the process's own, which win unless they are empty.

    Raises:
        SettingsError: .env cannot be read, or SSLKEYLOGFILE not be written; the text names the file, the
            variable, or both.
    """
    own = dict(os.environ)
    if keys := own.get("SSLKEYLOGFILE"):  # or each library with TLS would fail while it is imported
        try:
            Path(keys).open("ab").close()
        except OSError as error:
            raise SettingsError(
                f"SSLKEYLOGFILE names a file that cannot be written: {error.strerror}"
            ) from None
    try:
        content = b"" if dotenv.is_dir() else dotenv.read_bytes()  # a folder: a virtual environment, a mount
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise SettingsError(f"{dotenv} cannot be read: {error.strerror}") from None
    listed = parse_dotenv(content, own, str(dotenv))
    return Environment(listed | {name: value for name, value in own.items() if value or name not in listed})


def parse_dotenv(content: bytes, variables: Mapping[str, str], name: str = str(DOTENV)) -> dict[str, str]:
    """Parse a .env file: UTF-8, or UTF-16 with a byte order mark as PowerShell writes it.

    `${NAME}` stands for a variable, but not in single quotes:
    https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/

    Args:
        content: The file's bytes.
        variables: What `${NAME}` may stand for, beside what stands further up in the file.
        name: The file's name, for errors.

    Raises:
        SettingsError: A line cannot be read, or only by guessing; the text shows no value.
    """
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(_decoded(content, name))):
        written = binding.original.string
        line = binding.original.line + len(re.match(r"\s*", written)[0].splitlines())  # type: ignore[index]
        place = f"{name}, line {max(line, 1)}"
        assigned = ASSIGNMENT.match(written)
        if binding.error:
            subject = f"{assigned['name']} " if assigned else ""
            raise SettingsError(f"{place}: {subject}cannot be read: is a quote missing, or an equals sign?")
        if binding.key is None or binding.value is None:
            continue
        if not _is_text(binding.key + binding.value):
            key = binding.key if _is_text(binding.key) else "a name"
            raise SettingsError(f"{place}: {key} is not UTF-8: save the file as UTF-8")
        literal = assigned is not None and assigned["quote"] == "'"
        values[binding.key] = binding.value if literal else _filled(binding, values, variables, place)
    return values


def _filled(binding: Binding, values: Mapping[str, str], variables: Mapping[str, str], place: str) -> str:
    def stands_for(match: re.Match[str]) -> str:
        value = variables.get(match["name"]) or values.get(match["name"], match["default"])
        if value is None:
            raise SettingsError(
                f"{place}: {binding.key} refers by ${{…}} to a variable that is not set. If this is the value"
                " itself, put it into single quotes"
            )
        return value

    return REFERENCE.sub(stands_for, binding.value or "")


def _decoded(content: bytes, name: str) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        # What is not UTF-8 may be in a comment, where it does no harm.
        text = content.decode("utf-16") if utf16 else content.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError(f"{name} is not UTF-8: save it as UTF-8")
    return text


def _content(variable: str, file: Path) -> str:
    try:
        text = file.read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{variable} names a file that cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} names a file that is not UTF-8") from None
    if not text.strip():
        raise SettingsError(f"{variable} names a file that is empty")
    return text


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _unquoted(value: str) -> str:
    pair = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1].strip() if pair else value
