"""Commands that ask a listener elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Mount

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.notifier.slack.web_api import GET_PERMALINK
from tests.cli.helpers import Result, Run
from tests.conftest import Start, count
from tests.notifier.slack.stand_in_api import TOKEN as BOT_TOKEN
from tests.notifier.slack.stand_in_api import StandInSlackApi
from tests.waiting import until
from tests.web.visitor import TOKEN, sign_in


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of settings that is empty, and no listener in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("LISTENER_URL", "LISTENER_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def rows(result: Result) -> list[Any]:
    """Parse a command's JSON lines; the service in this process may have logged between them."""
    return [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]


async def test_the_same_here_and_elsewhere(
    start: Start, run: Run, slack: StandInSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each list says over the API what it says of this machine's store, and who acts is named."""
    slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 3)
    async with start(admin_token=TOKEN, log_level="ERROR") as service:
        await service.change("Healthy", "Degraded", entity="a")
        await service.post(b"{}" + b" " * 3000)  # the API's list has 2,000 bytes of it
        at = ("--url", service.url, "--token", TOKEN)

        async def dead() -> bool:
            return await count(service.store, State.DEAD) == 1

        await until(dead)
        incident = rows(await run("incidents", "--json"))[0]["id"]
        monkeypatch.setenv("LOGNAME", "Åsa")
        for verb, said in (("ack", "is acknowledged by Åsa."), ("unack", "is not acknowledged any more")):
            assert said in (await run("incidents", verb, "a", *at)).out  # by its entity
        monkeypatch.setenv("LOGNAME", "🚀" * 90 + "\udcff")  # as long as it gets, and not all of it text
        added = await run("silences", "add", "--for", "1h", "--comment", "why", "--entity", "[ab]", *at)
        assert added.out.startswith(
            "It covers 1 open incident now, 1 alert in the last 24 hours.\nSilence 1: "
        )
        for words in (
            ("silences",),
            ("incidents",),
            ("incidents", "--unacknowledged", "--all"),
            ("incidents", "--entity", "a", "--severity", "warning", "--rule", "health", "--limit", "1"),
            ("incidents", "show", incident),
            ("silences", "show", "1"),
            ("deliveries",),
            ("deliveries", "--entity", "a", "--state", "dead", "--rule", "health", "--since", "1h"),
            ("deliveries", "show", "1"),
            ("changes",),
            ("changes", "--entity", "a", "--rule", "health", "--since", "1h"),
            ("changes", "show", "1"),
            ("quarantine",),
            ("quarantine", "show", "1"),
            ("audit",),
            ("status",),
        ):
            here, elsewhere = await run(*words, "--json"), await run(*words, "--json", *at)
            assert (elsewhere.status, elsewhere.err) == (here.status, here.err), words
            assert rows(elsewhere) == rows(here) != [], words
            assert (await run(*words, *at)).out
        retried = await run("deliveries", "retry", "--rule", "health", *at)
        assert "1 dead delivery is tried again (rule health).\n" in retried.out
        assert "0 deliveries" in (await run("deliveries", "--destination", "nobody", *at)).out
        replayed = await run("quarantine", "replay", *at)
        assert (replayed.status, "still cannot be read" in replayed.err) == (1, True)
        (row,) = rows(await run("destinations", "--json", *at))
        assert (row["name"], row["state"]) == ("default", "ok")
        assert "x is not on hold" in (await run("destinations", "release", "x", *at)).err
        edited = await run("silences", "edit", "1", "--extend", "1h", "--comment", "longer", *at)
        assert "Silence 1 is now: entity [ab], until " in edited.out
        assert (await run("silences", "end", "1", *at)).status == 0
        assert "There are no silences.\n" in (await run("silences", *at)).out


async def test_who_was_told_with_a_link(
    start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page, the API and the commands link to Slack's message; without an answer they have no link."""
    api, rules = StandInSlackApi("oncall"), tmp_path / "rules.json"
    when, resolve = ({"property": "healthStatus", "to": state} for state in ("Degraded", "Healthy"))
    health = {"name": "health", "when": when, "resolve": resolve, "send": "ops"}
    oncall = {"type": "slack", "channel": "oncall", "rate": 1000}
    rules.write_text(json.dumps({"version": 1, "destinations": {"ops": oncall}, "rules": [health]}))
    async with serving(api.app) as url:
        monkeypatch.setenv("SLACK_BOT_TOKEN", BOT_TOKEN)
        monkeypatch.setenv("SLACK_API_URL", f"{url}/api/")
        bot = {"slack_bot_token": BOT_TOKEN, "slack_api_url": f"{url}/api/", "rules_file": rules}
        async with start(admin_token=TOKEN, log_level="ERROR", **bot) as service:
            api.answers[GET_PERMALINK].append(JSONResponse({"ok": False, "error": "internal_error"}))
            for entity in ("a", "b"):
                await service.change("Healthy", "Degraded", entity=entity)

            async def told() -> bool:
                return await count(service.store, State.DELIVERED) == 2

            await until(told)
            at = ("--url", service.url, "--token", TOKEN)
            without, found = [
                [row["alerts"][0]["message_url"] for row in rows(await run("incidents", "--json", *where))]
                for where in ((), at)
            ]
            assert without == [None, None]
            (channel,) = api.channels.values()
            ends = {message["ts"].replace(".", "") for message in channel.posted}
            assert {link.rpartition("/p")[2] for link in found} == ends
            assert found[0].startswith(f"https://example.slack.com/archives/{channel.id}/p")
            await sign_in(service)
            page = (await service.client.get("/")).text
            assert all(f'<a href="{link}" rel="noopener noreferrer">in Slack</a>' in page for link in found)
            assert ">#oncall <time" in page
            # Once for the channel, not for each message.
            assert [name for name, _ in api.calls].count(GET_PERMALINK) == 2


async def test_which_listener(
    start: Start, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option wins over the environment, and that over the file; a token is sent to its listener only."""
    async with start(admin_token=TOKEN, log_level="ERROR") as service:
        file = tmp_path / "port-listener.toml"
        file.write_text(f'url = "{service.url}"\ntoken = "{TOKEN}"\n')
        assert (await run("silences")).out == "There are no silences.\n"
        assert rows(await run("status", "--json"))[0]["status"] == "ok"
        other = await run("silences", "--url", "http://127.0.0.1:9")
        assert other.err.startswith("LISTENER_TOKEN is not set: it is the ADMIN_TOKEN of http://127.0.0.1:9")
        gone = await run("silences", "--url", "http://127.0.0.1:9", "--token", "x")
        assert gone.err.startswith("cannot reach http://127.0.0.1:9: ")
        nowhere = await run("silences", "--url", "http://a..b", "--token", "x")
        assert nowhere.err.startswith("cannot reach http://a..b: its name is none")
        assert TOKEN not in (wrong := await run("silences", "--token", "wrong")).err
        assert "refuses the token" in wrong.err
        assert "no delivery 7" in (await run("deliveries", "show", "7")).err
        file.write_text("url = 1")
        assert (await run("silences", "--url", "local")).status == 0
        file.write_text(f'url = "{service.url}/"\ntoken = """\n{TOKEN}\n"""\n')
        assert (await run("silences", "--url", service.url)).status == 0
        assert (await run("deliveries", "retry", "--rule", "")).status == 2
        assert "no delivery 7\n" in (await run("deliveries", "retry", "7", "8")).err.replace(".", "")
        monkeypatch.setenv("HOME", "/dev/null")
        monkeypatch.delenv("XDG_CONFIG_HOME")
        assert (await run("silences")).status == 0
        for wrong_token in ("a\nb", "ü"):
            odd = await run("silences", "--url", service.url, "--token", wrong_token)
            assert odd.err == "the token holds a character that no header can hold: it is no ADMIN_TOKEN\n"
        password = await run("silences", "--url", "https://user:hidden@127.0.0.1", "--token", "x")
        assert ("hidden" in password.err, password.status) == (False, 1)
        monkeypatch.setenv("LISTENER_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("LISTENER_TOKEN", TOKEN)
        assert "LISTENER_TOKEN is not set" in (await run("silences", "--url", service.url)).err
        monkeypatch.delenv("LISTENER_TOKEN")
        monkeypatch.setenv("LISTENER_URL", "listener.example.com")
        assert "must begin with https://" in (await run("silences")).err
        elsewhere = RedirectResponse("https://listener.example.com/?hidden=1", 301)
        async with serving(Starlette(routes=[Mount("/api", elsewhere)])) as moved:
            led = await run("silences", "--url", moved, "--token", "x")
        assert led.err.startswith(f"{moved} redirects to https://listener.example.com/: give the address")
        monkeypatch.setenv("LISTENER_URL", f"{service.url}/healthz#")
        assert "in another form" in (await run("silences", "--token", TOKEN)).err


@pytest.mark.parametrize("text", ["url = 1", "adress = 'x'", "url", "\xff"])
async def test_a_file_that_cannot_be_read(run: Run, tmp_path: Path, text: str) -> None:
    """It is one sentence that names the file."""
    (tmp_path / "port-listener.toml").write_text(text, encoding="latin-1")
    wrong = await run("status")
    assert wrong.status == 1
    assert wrong.err.startswith(f"{tmp_path}/port-listener.toml")
    assert wrong.err.count("\n") == 1
