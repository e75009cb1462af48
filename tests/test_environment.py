"""What the environment, .env and mounted files may hold: it is read, or refused in a sentence."""

from pathlib import Path

import pytest

from app.environment import Environment, environment, parse_dotenv
from app.errors import SettingsError
from app.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env but the test's own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"A=hush-1", "hush-1"),
        (b"\xef\xbb\xbfA=hush-1", "hush-1"),
        ("A=hüsh\r\n".encode("utf-16"), "hüsh"),
        (b"\xfe\xff" + "A=hüsh".encode("utf-16-be"), "hüsh"),
        ("# für alle\nA=hush-1".encode("latin-1"), "hush-1"),
        (b"export A = 'hush 1' # a comment", "hush 1"),
        (b"A=hush-1 # a comment", "hush-1"),
        (b"A='x${B}$y'", "x${B}$y"),
        (b'B=1\nA="x${B}y${C:-2}"', "x1y2"),
        (b"A=${HOME_OF}/x", "/home/x"),
        (b"A='one\ntwo'", "one\ntwo"),
    ],
)
def test_dotenv(content: bytes, value: str) -> None:
    """UTF-8, and what PowerShell writes; quotes, comments and ${…} as Compose has them."""
    assert parse_dotenv(content, {"HOME_OF": "/home"})["A"] == value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("A=hush".encode("utf-16-le"), ".env is not UTF-8"),
        (b"\xff\xfeA", ".env is not UTF-8"),
        ("\n\nA=hüsh".encode("latin-1"), ".env, line 3: A is not UTF-8: save the file as UTF-8"),
        (b"B=1\nA=hush${hush}", r".env, line 2: A refers by ${…} to a variable that is not set"),
        (b'B=1\n\nA="hush\nC=2', ".env, line 3: A cannot be read: is a quote missing"),
        (b"A: hush", ".env, line 1: cannot be read"),
    ],
)
def test_dotenv_that_cannot_be_read(content: bytes, text: str) -> None:
    """The sentence names the file, the line and the variable, and shows nothing of the value."""
    with pytest.raises(SettingsError) as refused:
        parse_dotenv(content, {})
    assert str(refused.value).startswith(text)
    assert "hush" not in str(refused.value)
    assert "hüsh" not in str(refused.value)


def test_dotenv_that_is_no_file(tmp_path: Path) -> None:
    """A folder is a virtual environment or a mount, and is left alone; what cannot be opened is refused."""
    (tmp_path / ".env").mkdir()
    assert "NOTHING" not in environment()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SettingsError, match=r"loop cannot be read: Too many levels"):
        environment(loop)


def test_a_file_of_keys_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries open it while they are imported: it is refused before that."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys"))
    with pytest.raises(SettingsError, match=r"\ASSLKEYLOGFILE names a file that cannot be written: No such"):
        load_settings()


@pytest.mark.parametrize("value", ['"hush-hush"', "'hush-hush'", " hush-hush\n", ' "hush-hush" '])
def test_quotes_and_white_space(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """`docker run --env-file` keeps quotes; they are taken off, for settings and rules alike."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", value)
    assert load_settings().secrets == ("hush-hush",)
    assert environment()["PORT_CLIENT_SECRET"] == "hush-hush"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PORT_CLIENT_SECRET", "hush # ours", "PORT_CLIENT_SECRET has a comment behind it (#)"),
        ("PORT_CLIENT_SECRET", '"hush" # ours', "PORT_CLIENT_SECRET has a comment behind it (#)"),
        ("ADMIN_TOKEN", "hush-hush-hush-hush # ours", "ADMIN_TOKEN has a comment behind it (#)"),
        ("PORT_CLIENT_SECRET", "hush\nhush", "PORT_CLIENT_SECRET has white space in it"),
        ("PORT_CLIENT_SECRET", "hush\udce9", "PORT_CLIENT_SECRET is not UTF-8"),
    ],
)
def test_what_would_be_a_wrong_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    """It is refused by name, before it makes a 401 of every change."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "a-good-one")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(text)
    assert "hush" not in str(refused.value)


def test_secrets_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NAME_FILE gives NAME, for settings and for variables of rules."""
    file = tmp_path / "secret"
    file.write_text("hush-hush\n")
    for name in ("PORT_CLIENT_SECRET", "ROCKET"):
        monkeypatch.setenv(f"{name}_FILE", str(file))
    assert load_settings().secrets == ("hush-hush",)
    assert environment()["ROCKET"] == "hush-hush"


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"A": "1", "A_FILE": "/etc/hostname"}, "A and A_FILE are both set"),
        ({"A_FILE": "/nowhere/secret"}, "A_FILE names a file that cannot be read: No such file"),
        ({"A_FILE": "/"}, "A_FILE names a file that cannot be read: Is a directory"),
        ({"A_FILE": "/dev/null"}, "A_FILE names a file that is empty"),
    ],
)
def test_secrets_in_files_that_cannot_be_had(variables: dict[str, str], text: str) -> None:
    """One sentence names the variable."""
    with pytest.raises(SettingsError) as refused:
        Environment(variables).get("A")
    assert str(refused.value).startswith(text)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It does not hide what .env has."""
    (tmp_path / ".env").write_text("PORT_CLIENT_SECRET=from-file")
    monkeypatch.setenv("PORT_CLIENT_SECRET", "")
    assert load_settings().secrets == ("from-file",)
