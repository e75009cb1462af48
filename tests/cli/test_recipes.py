"""Each recipe of docs/recipes: its rules, what it needs in Port, the requests that its payloads lead to."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.deliver.message import Messages
from app.deliver.turn import Sender
from app.demo.run import serving
from app.jq.runner import Jq
from app.model.delivery import Outcome
from app.notifier.kind import NotifierContext
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.receive.intake import Intake
from app.receive.rules_source import make_rulebook
from app.receive.signature import Signed
from app.rules.file import load_rules
from app.store import queries
from app.store.sqlite.database import SQLiteDatabase
from app.store.sqlite.schema import prepare
from app.store.store import Store
from app.suite.clock import TEST_START, SuiteClock, SuiteStoreClock
from tests.cli.helpers import Run
from tests.port.stand_in_port import StandInPort

RECIPES = Path(__file__).parents[2] / "docs/recipes"
NAMES = sorted(path.parent.name for path in RECIPES.glob("*/rules.yaml"))
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
SLACK = "SLACK_WEBHOOK_URL"
JUST_LONG_ENOUGH = timedelta(seconds=5)
"""A channel of Slack takes a message a second: so long after a change all of its alerts were sent."""


class StandInVendors:
    """Takes every request for every address, and keeps it as a recipe's `expected.json` writes it."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST", "PUT", "GET"])])

    async def _take(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode()
        host, _, rest = path.removeprefix("/").partition("/")
        query = f"?{request.url.query}" if request.url.query else ""
        url = f"${{{host}}}{query}" if host.isupper() else f"https://{host}/{rest}{query}"
        body = await request.body()
        seen = {"method": request.method, "url": url, "body": json.loads(body) if body else None}
        self.requests.append((seen, dict(request.headers)))
        return PlainTextResponse("ok")


def rules_of(recipe: Path, vendors: str) -> str:
    """Read a recipe's rules, with all addresses at the stand-in's; what a variable has is its own name."""
    text = (recipe / "rules.yaml").read_text().replace("https://", f"{vendors}/")
    document = YAML(typ="safe", pure=True).load(text)
    for settings in document.get("destinations", {}).values():
        settings["allow_private"] = True
    return json.dumps(document)


class Variables(dict[str, str]):
    """Each variable is set: to an address of the stand-in's, or to what it is written as."""

    def __init__(self, vendors: str) -> None:
        super().__init__()
        self._vendors = vendors

    def get(self, name: str, _: Any = None) -> str:
        return f"{self._vendors}/{name}" if name.endswith("_URL") else f"its-{name}"


class Listener:
    """The listener's real parts, but for the time: that of the payloads."""

    def __init__(self, store: Store, clock: SuiteClock, intake: Intake, sender: Sender) -> None:
        self.store, self.clock, self.intake, self.sender = store, clock, intake, sender
        self.names: dict[str, str] = {}
        self.destinations: list[str] = []

    async def go_to(self, at: datetime) -> None:
        """Send what is due until then."""
        while self.clock.now() <= at:
            await self._take_turns()
            due = await self.store.read(queries.queues.next_due, self.clock.now())
            if due is None or due > at:
                break
            self.clock.since = due - TEST_START
        self.clock.since = at - TEST_START

    async def _take_turns(self) -> None:
        limits = {name: notifier.batch_limit for name, notifier in self.sender.notifiers.items()}
        now = self.clock.now()
        for claim in await self.store.claim(
            token="1", now=now, lease_until=now + timedelta(seconds=30), limit=8, batch_limits=limits
        ):
            for waiting in claim.deliveries:  # ids are random: name them in the order in which they come
                for kind, text in (("INCIDENT", waiting.incident_id), ("ALERT", waiting.key)):
                    if text and text not in self.names:
                        number = sum(name.startswith(kind) for name in self.names.values()) + 1
                        self.names[text] = f"{kind}-{number}"
            attempt = await self.sender.attempt(claim)
            assert attempt is not None
            assert attempt.outcome is Outcome.DELIVERED, attempt.detail
            assert await self.store.record(claim, attempt)
            self.destinations.append(claim.destination)


@asynccontextmanager
async def listening(rules: str, vendors: str, folder: Path) -> AsyncIterator[Listener]:
    """Put the parts together."""
    loaded = load_rules(rules, Variables(vendors), models=SETTINGS_MODELS)
    database, jq, clock, webhook = folder / "listener.db", Jq(), SuiteClock(), f"{vendors}/{SLACK}"
    prepare(database)
    store = Store(SQLiteDatabase(database), SuiteStoreClock(clock))
    context = NotifierContext(
        app_url="https://app.port.io",
        page_url=None,
        default_webhook=webhook,
        bot_token="",
        slack_api_url="",
        port=None,
        fate=None,
        render=jq.render,
        clock=clock.now,
    )

    async def nobody(*_: object) -> tuple[object, ...]:
        return ()

    book = make_rulebook(loaded.file, webhook)
    messages = Messages(store.body, jq, book.rules)
    notifiers = make_notifiers(loaded, context)
    sender = Sender(store, notifiers, prepare=messages.prepare, clock=clock.now, jitter=lambda: 0.0)
    intake = Intake(store, book, clock.now, jq.evaluate, nobody, wake=lambda _=(): None)
    try:
        yield Listener(store, clock, intake, sender)
    finally:
        await sender.close()
        await jq.close()
        await store.close()


async def requests_of(recipe: Path, folder: Path) -> list[dict[str, Any]]:
    """Let the listener have a recipe's payloads, and give the requests that each step leads to."""
    vendors, steps = StandInVendors(), json.loads((recipe / "expected.json").read_text())
    async with (
        serving(vendors.app) as url,
        listening(rules_of(recipe, url), url, folder) as listener,
    ):
        seen = []
        for step in steps:
            before = len(vendors.requests)
            if "payload" in step:
                body = (recipe / step["payload"]).read_bytes()
                at = datetime.fromisoformat(json.loads(body)["event"]["trigger"]["at"])
                await listener.go_to(at)
                await listener.intake.accept(Signed(body, at))
                await listener.go_to(at + JUST_LONG_ENOUGH)
            else:
                await listener.go_to(listener.clock.now() + timedelta(hours=step["hours"]))
            seen.append({**step, "requests": _named(listener, vendors, before)})
    return seen


def _named(listener: Listener, vendors: StandInVendors, since: int) -> list[dict[str, Any]]:
    """Give the requests with their destination and without random ids."""
    assert len(vendors.requests) == len(listener.destinations)
    named = []
    for (seen, headers), destination in zip(
        vendors.requests[since:], listener.destinations[since:], strict=True
    ):
        text = json.dumps({"destination": destination, **seen, "headers": headers})
        for random, name in listener.names.items():
            text = text.replace(random, name)
        named.append(json.loads(text))
    return named


def shown(request: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Give of a request what is expected of one: some headers; of Slack's body the text."""
    headers = {name: request["headers"].get(name.lower()) for name in expected.get("headers", {})}
    body = request["body"]
    if request["destination"] == "default" or "version" in body:  # the whole alert gets new keys at any time
        body = {key: body[key] for key in expected["body"]}
    kept = {key: request[key] for key in ("destination", "method", "url")}
    return kept | ({"headers": headers} if headers else {}) | {"body": body}


@pytest.mark.parametrize("name", NAMES)
async def test_recipe(
    name: str, tmp_path: Path, run: Run, port: StandInPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules have no mistakes, its payloads lead to what it expects, bootstrap makes what it needs."""
    recipe = RECIPES / name
    expected = json.loads((recipe / "expected.json").read_text())
    assert {step.get("payload") for step in expected} - {None} == {
        path.name for path in recipe.glob("[0-9]*.json")
    }
    seen = await requests_of(recipe, tmp_path)
    for one, step in zip(seen, expected, strict=True):
        assert len(one["requests"]) == len(step["requests"]), one
        wanted = step["requests"]
        assert [shown(*pair) for pair in zip(one["requests"], wanted, strict=True)] == wanted
    for variable in VARIABLE.findall((recipe / "rules.yaml").read_text()):
        assert f"`{variable}`" in (recipe / "README.md").read_text()
        monkeypatch.setenv(variable, "https://hooks.example.com/x" if variable.endswith("_URL") else "x" * 32)
    monkeypatch.setenv(SLACK, "https://hooks.slack.com/services/T0/B0/x")
    for options in ((), ("--no-env",)):
        checked = await run("rules", "check", *options, str(recipe / "rules.yaml"))
        assert (checked.status, "hint" in checked.out + checked.err) == (0, False), checked
    await _in_port(recipe, run, port)


async def _in_port(recipe: Path, run: Run, port: StandInPort) -> None:
    needs = json.loads((recipe / "automations.json").read_text())
    timers = {name: {"type": "string", "format": "timer"} for name in needs.get("timer", [])}
    for blueprint in needs.get("blueprint", []):
        port.blueprints[blueprint] = {"identifier": blueprint, "schema": {"properties": timers}}
    for action in needs.get("action", []):
        port.actions[action] = {"identifier": action, "trigger": {"type": "self-service"}}
    planned = await run("bootstrap", "--recipe", recipe.name, "--dry-run")
    assert planned.status == 0, planned.err
    number = sum(map(len, needs.values()))
    assert planned.out.count(": would be created") == planned.out.count("POST /v1/actions") == number
    assert port.writes == []


@pytest.mark.parametrize(
    ("options", "text", "status", "said"),
    [
        (
            ("nowhere",),
            "",
            1,
            "There is no recipe nowhere: it is neither a name in docs/recipes nor",
        ),
        (("own",), '{"blueprint": "service"}', 1, "automations.json cannot be used: blueprint: "),
        (("own",), '{"blueprints": ["service"]}', 1, "automations.json cannot be used: blueprints: "),
        (("own",), '{"timer": ["ttl"]}', 1, "names no blueprint and no action"),
        (("own",), '{"blueprint": ["service"]}', 1, "There is no blueprint service in this organization"),
        (("jsm", "--blueprint", "service"), "", 2, "--recipe says itself which blueprints"),
    ],
)
async def test_a_recipe_that_cannot_be_used(
    run: Run, port: StandInPort, tmp_path: Path, options: tuple[str, ...], text: str, status: int, said: str
) -> None:
    """It is a sentence, and nothing is made."""
    if text:
        own = tmp_path / "own"
        own.mkdir()
        (own / "automations.json").write_text(text)
    result = await run("bootstrap", "--recipe", *options)
    assert (result.status, said in " ".join(result.err.replace("│", "").split())) == (status, True), result
    assert port.writes == []
