"""The package that pip installs: it has all files of the service, and a program."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from app import __version__
from app.demo.stand_in_slack import StandInSlack
from tests.acceptance.process import ROOT, listening, post_change
from tests.conftest import NO_TLS
from tests.waiting import until

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-index", "--no-deps")
TOKEN = "an-admin-token-of-some-length"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built without a network by the backend that the tests' lock has."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    subprocess.run(build, check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed; what it depends on is this interpreter's."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run((*PIP, "install", *OFFLINE, "--target", str(folder), str(wheel)), check=True)
    return folder


def output(installed: Path, command: Sequence[str], **more: str) -> str:
    """Run a command outside of the repository, with what is installed, and return what it prints.

    Args:
        installed: Where the package is installed.
        command: The command.
        more: Further environment variables.
    """
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "100"} | more
    done = subprocess.run(command, cwd=installed, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_every_file_is_in_the_wheel(wheel: Path) -> None:
    """Templates, what browsers load, SQL and modules: all that is in app/, and nothing beside it."""
    files = {one for one in (ROOT / "app").rglob("*") if one.is_file() and "__pycache__" not in one.parts}
    names = {one for one in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in one}
    assert names == {one.relative_to(ROOT).as_posix() for one in files}
    assert {Path(one).suffix for one in names} >= {".py", ".html", ".css", ".js", ".svg", ".sql"}


def test_the_program(installed: Path) -> None:
    """`port-listener` says its version and its help, and shells can complete it."""
    program = str(installed / "bin" / "port-listener")
    assert output(installed, [program, "--version"]) == f"{__version__}\n"
    said = output(installed, [program, "--help"])
    assert "Usage: port-listener [OPTIONS] COMMAND" in said
    assert "--install-completion" in said
    assert "silence" in said
    for words, one in (("port-listener sil", "silences"), ("port-listener incidents a", "ack")):
        completing = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        said = output(installed, [program], _PORT_LISTENER_COMPLETE="complete_bash", **completing)
        assert said == f"{one}\n"


def test_python_m_app(installed: Path) -> None:
    """The same commands; shells complete programs only, so no completion is offered."""
    said = output(installed, [sys.executable, "-m", "app", "--help"])
    assert "Usage: python -m app [OPTIONS] COMMAND" in said
    assert "completion" not in said


@pytest.mark.acceptance
async def test_the_installed_service(installed: Path, tmp_path: Path, slack: StandInSlack) -> None:
    """It stores and delivers a change, and shows the page, from its installed files alone."""
    command = (str(installed / "bin" / "port-listener"), "serve")
    settings = {"PYTHONPATH": str(installed), "ADMIN_TOKEN": TOKEN}
    async with (
        listening(tmp_path, slack.url, command=command, **settings) as listener,
        httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client,
    ):
        assert (await post_change(client, "checkout-prod")).status_code == 202
        await until(lambda: len(slack.messages) == 1)
        for path in ("/", "/static/page.css"):
            assert (await client.get(path, follow_redirects=True)).status_code == 200
