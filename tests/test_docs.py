"""The documentation says what is so."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from app import __version__
from app.cli import command_line as make_command_line
from app.settings import Settings
from scripts.generate_docs import PAGES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(group: TyperGroup, prefix: str = "") -> list[str]:
    """Return every command with its group's name before it."""
    found = []
    for name, command in group.commands.items():
        found.append(f"{prefix}{name}")
        if isinstance(command, TyperGroup):
            found += commands(command, f"{prefix}{name} ")
    return found


def command_line() -> TyperGroup:
    """Return the whole command line."""
    group = typer.main.get_command(make_command_line())
    assert isinstance(group, TyperGroup)
    return group


@pytest.mark.parametrize("name", PAGES)
def test_what_is_made_from_the_source_is_up_to_date(name: str) -> None:
    """The pages of commands, settings and log events, and .env.example, are as the source says."""
    path = ROOT / name
    assert path.exists(), "run scripts/generate_docs.py"
    assert path.read_text() == PAGES[name](), "run scripts/generate_docs.py"


def test_every_setting_has_a_description() -> None:
    """Each setting says what it does."""
    for name, info in Settings.model_fields.items():
        assert info.description, name


@pytest.mark.parametrize("command", commands(command_line()))
def test_every_command_is_in_the_readme(command: str) -> None:
    """The README shows each command."""
    assert f"app {command}" in README


def test_every_command_the_readme_shows_exists() -> None:
    """Whatever `python -m app …` the README shows is a command."""
    shown = re.findall(r"python -m app ([a-z]+)", README)
    assert shown
    assert set(shown) <= set(command_line().commands)


def test_every_command_has_help() -> None:
    """Each command and each option says what it is for."""
    pending: list[TyperGroup] = [command_line()]
    while pending:
        group = pending.pop()
        for name, command in group.commands.items():
            assert command.help, name
            for parameter in command.params:
                described = getattr(parameter, "help", None)
                assert described, f"{name} {parameter.name}"
            if isinstance(command, TyperGroup):
                pending.append(command)


def test_every_file_the_readme_names_exists() -> None:
    """Files and folders that the README links or shows are there."""
    for path in re.findall(r"\]\((?!https?://|#)([^)#]+)", README) + re.findall(
        r"(?:^|[\s`])\./(scripts/[a-z]+)", README
    ):
        assert (ROOT / path).exists(), path


def test_the_version_is_one() -> None:
    """What /metrics tells as the release is what pyproject.toml says."""
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_the_first_screen_has_the_two_commands() -> None:
    """The README's first screen shows what does all the set-up."""
    first_screen = "\n".join(README.splitlines()[:40])
    assert "./scripts/demo" in first_screen
    assert "./scripts/test" in first_screen


def test_the_dockerfile_uses_the_lock_and_another_user() -> None:
    """The image is built from the lock, does not run as root, and asks the listener how it is."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    install = "--require-hashes --no-deps -r requirements.lock"
    for part in (install, "USER 10001", "HEALTHCHECK", "VOLUME /data"):
        assert part in dockerfile


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_the_lock_is_whole(lock: str) -> None:
    """Every locked package has hashes, no index is named, and what pyproject.toml demands is there."""
    text = (ROOT / lock).read_text()
    packages = re.findall(r"^([a-z0-9_.-]+)==", text, re.MULTILINE | re.IGNORECASE)
    assert len(packages) == len(
        re.findall(r"^[a-zA-Z0-9_.-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
    )
    assert "://" not in text
    demanded = re.findall(r'^    "([a-z_-]+)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    runtime = demanded[: demanded.index("uvloop") + 1]
    wanted = runtime if lock == "requirements.lock" else demanded
    assert {name.replace("_", "-") for name in wanted} <= {name.replace("_", "-") for name in packages}
