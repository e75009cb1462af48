"""The commands about silences and destinations, as a person runs them: what they make of bad input."""

import asyncio
import io
import json
import os
import pwd
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from app.cli import main
from app.cli.base import user_name
from app.model.delivery import Outcome
from app.store import queries
from app.store.store import Store
from tests.store.helpers import attempt, claim, incoming

TOKEN = "hush-hush-hush"
RULES = f"""
version: 1
destinations:
  rocket: {{type: slack, webhook_url: "http://127.0.0.1:9/services/{TOKEN}"}}
  twin: {{type: slack, webhook_url: "http://127.0.0.1:9/services/{TOKEN}"}}
  job: {{type: http, url: "http://127.0.0.1:9/{TOKEN}"}}
"""
ADD = ("silences", "add", "--for", "1h", "--comment", "deploy")
UNDECODABLE = os.fsdecode(b"\xff")


@pytest.fixture(autouse=True)
def rules_file(environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ARG001
    """The test's own rules, in the working directory."""
    monkeypatch.setenv("RULES_FILE", "rules.yaml")
    (tmp_path / "rules.yaml").write_text(RULES)


async def run(*arguments: str) -> tuple[int, str]:
    """Run a command, and return its status and what it has printed."""

    def work() -> tuple[int, str]:
        with redirect_stdout(io.StringIO()) as said, redirect_stderr(said), pytest.raises(SystemExit) as end:
            main(list(arguments))
        assert isinstance(end.value.code, int)
        return end.value.code, said.getvalue()

    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("silences", "add", "--for", "0s", "--comment", "c", "--rule", "r"), 1, "between 1s and 30d"),
        (("silences", "add", "--for", "31d", "--comment", "c", "--rule", "r"), 1, "between 1s and 30d"),
        (("silences", "add", "--for", "9" * 99, "--comment", "c", "--rule", "r"), 1, "a time such as"),
        (("silences", "add", "--comment", "c", "--rule", "r"), 2, "Missing option '--for'"),
        (ADD, 2, "say what"),
        ((*ADD, "--rule", "*"), 2, "say what"),
        ((*ADD, "--rule", ""), 2, "must not be empty"),
        ((*ADD, "--entity", "x" * 201), 2, "at most 200"),
        ((*ADD, "--rule", "r", "--author", "x" * 501), 2, "at most 500"),
        ((*ADD, "--rule", "r", "--comment", " "), 2, "must not be empty"),
        ((*ADD, "--rule", UNDECODABLE), 2, "not UTF-8"),
        (("silences", "end", "77"), 1, "There is no silence 77"),
        (("silences", "end", "0"), 2, "greater than or equal to 1"),
        (("destinations", "release", "rocket"), 1, "rocket is not on hold"),
        (("destinations", "release", "nobody"), 1, "there is no destination 'nobody'"),
        (("destinations", "release", ""), 1, "there is no destination ''"),
        (("destinations", "test", "nobody"), 1, "there is no destination 'nobody'"),
        (("destinations", "test", "job"), 1, "--run"),
        (("destinations", "test", "rocket"), 1, "rocket did not take it: no connection"),
        (("deliveries", "--limit", "9" * 30), 2, "less than or equal to"),
        (("deliveries", "retry", "--rule", UNDECODABLE), 2, "not UTF-8"),
        (("deliveries", "retry", "--since", "soon"), 1, "a time such as"),
    ],
)
@pytest.mark.usefixtures("store")
async def test_bad_input_is_a_sentence(arguments: tuple[str, ...], status: int, said: str) -> None:
    """It says what is wrong, with a status, and neither a traceback nor a secret."""
    came_to, printed = await run(*arguments)
    assert (came_to, said in " ".join(printed.split())) == (status, True), printed
    assert TOKEN not in printed


async def test_without_a_database() -> None:
    """What looks at the store says that there is none, and makes none."""
    for arguments in (
        (*ADD, "--rule", "r"),
        ("silences", "list"),
        ("silences", "end", "1"),
        ("destinations",),
        ("destinations", "release", "rocket"),
        ("deliveries", "retry", "--dead"),
    ):
        status, printed = await run(*arguments)
        assert (status, "there is no database" in printed) == (1, True), printed
        assert "there is no database" in (await run("silences", "list"))[1]


def test_somebody_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user often has a number only: that is who it was, then."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert user_name(1_234_567) == "user 1234567"
    assert user_name(0) == pwd.getpwuid(0).pw_name  # who runs this test may have no name


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "arguments",
    [
        (*ADD, "--rule", "a\x1b[31mb\x9bc\u202e"),
        ("incident", "close", "a\x1b[31mb"),
        ("destinations", "release", "a\x1b[31mb"),
        ("send", "--entity", "a\x1b[31mb", "--url", "http://127.0.0.1:1"),
    ],
)
async def test_no_terminal_obeys_an_echo(arguments: tuple[str, ...]) -> None:
    """What was given is shown as a text."""
    _, printed = await run(*arguments)
    assert "\x1b" not in printed.replace("\x1b[0m", "")
    assert not {"\x9b", "\u202e"} & {*printed}


@pytest.mark.usefixtures("store")
async def test_a_destination_is_shown_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However a secret would be written in JSON."""
    secret = 'geheimnis-ü"-\\'
    monkeypatch.setenv("KEY", secret)
    job = {"type": "http", "url": "https://jobs.example.com/", "body": {"key": "${KEY}"}}
    rule = {"name": "a", "blueprint": "b", "when": {"property": "c"}, "send": "job"}
    file = tmp_path / "shown.json"
    file.write_text(json.dumps({"version": 1, "destinations": {"job": job}, "rules": [rule]}))
    monkeypatch.setenv("RULES_FILE", str(file))
    for more in ((), ("--json",)):
        status, shown = await run("destinations", "show", "job", *more)
        assert (status, "geheimnis" in shown, "[hidden]" in shown) == (0, False, True), shown


async def test_released_by_either_name_of_a_channel(store: Store) -> None:
    """Two destinations that are one channel share a queue: whichever is named, it is released."""
    one = incoming()

    def to_both(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        names = ("rocket", "twin")
        return replace(
            decision,
            alerts=tuple(replace(decision.alerts[0], destination=name, queue="rocket") for name in names),
        )

    await store.accept([replace(one, decide=to_both)])  # type: ignore[arg-type]
    await store.record(await claim(store), attempt(Outcome.ON_HOLD, wait=600))
    _, listed = await run("destinations", "--json")
    states = {row["name"]: row["state"] for row in map(json.loads, listed.splitlines())}
    assert states["rocket"] == states["twin"] == "on hold: said; nobody was told of 2 alerts that wait"
    assert "is released" in (await run("destinations", "release", "twin"))[1]
    status, shown = await run("destinations", "show", "twin")
    assert (status, "type: slack" in shown, "webhook_url: **********" in shown) == (0, True, True)
    assert json.loads((await run("destinations", "show", "twin", "--json"))[1])["name"] == "twin"
    assert "'x'; known are default, job," in (await run("destinations", "show", "x"))[1]
    assert "type: console" in (await run("destinations", "show", "default"))[1]  # as it is listed
    (queue,) = await store.read(queries.page.queues, attempt(Outcome.ON_HOLD).ended_at)
    assert queue.on_hold is None
