"""Doctor, between real loopback stand-ins: what is broken is named, and nothing else."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.doctor.finding import CheckStatus, Finding, render_finding
from app.doctor.steps import Setup, examine
from app.errors import SettingsError
from app.main import create_app
from app.port.client import PortClient
from app.port.setup import probe
from app.port.setup.bootstrap import Plan, bootstrap
from app.port.setup.resources import webhook_address
from app.port.setup.tunnel import run_tunnel
from app.receive.intake import Intake
from app.receive.receiver import Receiver
from app.rules.rule import RuleSet
from app.rules.rulebook import Rulebook
from app.runtime.configured import load_usable
from app.settings import Settings
from app.store import queries
from app.store.opening import open_store
from tests.conftest import NO_TLS, Service, rules_with_rate
from tests.port.description import description, hold
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in
from tests.port.stand_in_smee import StandInSmee
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENTITY = ("deploymentConfig", "notification-service-prod")
AUTOMATION = "deploymentConfig_change_listener"
STEPS = [
    "settings",
    "store",
    "rules",
    "destination default",
    "silences",
    "Port",
    "blueprint",
    "entity",
    "automation",
    "rules in Port",
    "webhook",
    "reconciliation",
]


async def no_pause(_: float) -> None:
    """Do not wait between the tries of a call."""


def client_of(url: str, dry_run: bool, *, client_id: str = CLIENT_ID) -> PortClient:
    """Return a client that never pauses."""
    return PortClient(
        url, client_id, CLIENT_SECRET, clock=lambda: datetime.now(UTC), sleep=no_pause, dry_run=dry_run
    )


@dataclass
class World:
    """Everything around the doctor, and what it is to check."""

    port: StandInPort
    service: Service
    slack: StandInSlack
    setup: Setup
    folder: Path

    async def set_up(self) -> None:
        """Make in Port what bootstrap makes, pointing to the configured address."""
        async with client_of(self.port.url, dry_run=False) as client:
            plan = Plan(self.setup.webhook_url or "")
            assert [step async for step in bootstrap(client, plan)]

    async def point_to(self, webhook_url: str) -> None:
        """Move the listener's address, in the settings and in Port."""
        self.setup = replace(self.setup, webhook_url=webhook_url)
        await self.set_up()

    async def examine(self, **options: bool) -> dict[str, Finding]:
        """Return the doctor's findings by step; nothing secret is in them."""
        found = [finding async for finding in examine(self.setup, **options)]
        shown = "\n".join(line for finding in found for line in render_finding(finding))
        for hidden in (CLIENT_SECRET, self.port.token, "very-secret-token"):
            assert hidden not in shown
        steps = ["destination default" if one.step == "destinations" else one.step for one in found]
        assert [*dict.fromkeys(steps)] == STEPS + (["change"] if options.get("change") else [])
        # Of the rules in Port there may be several findings: what is wrong counts.
        found.sort(key=lambda one: one.status is CheckStatus.WRONG)
        return {finding.step: finding for finding in found}


def wrong(found: dict[str, Finding]) -> list[str]:
    """Return the names of the steps that are wrong."""
    return [name for name, finding in found.items() if finding.status is CheckStatus.WRONG]


def skipped(found: dict[str, Finding]) -> list[str]:
    """Return the names of the steps that were skipped."""
    return [name for name, finding in found.items() if finding.status is CheckStatus.NOT_LOOKED_AT]


@asynccontextmanager
async def set_up(folder: Path) -> AsyncIterator[World]:
    """Run Port, the real service and Slack, all set up and well."""
    slack = StandInSlack()
    async with serving(slack.app) as slack_url, standing_in(call_webhooks=True) as port:
        slack.url = f"{slack_url}/services/T0/B0/very-secret-token"
        settings = Settings(
            _env_file=None,
            port_client_secret=CLIENT_SECRET,
            slack_webhook_url=slack.url,
            rules_file=rules_with_rate(folder, slack.url),
            database_url=f"sqlite:///{folder}/listener.db",
        )
        async with (
            serving(create_app(settings)) as url,
            open_store(*settings.database) as store,
            httpx.AsyncClient(base_url=url, verify=NO_TLS) as client,
        ):
            setup = Setup(
                open_store=lambda: open_store(*settings.database),
                load_rules=partial(load_usable, settings),
                open_client=partial(client_of, port.url),
                secret=CLIENT_SECRET,
                webhook_url=webhook_address(url),
                patience_seconds=10,
            )
            world = World(port, Service(url, client, store), slack, setup, folder)
            await world.set_up()
            yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Everything, as new."""
    async with set_up(tmp_path) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Everything, once: starting and ending it takes most of a test's time."""
    async with set_up(tmp_path_factory.mktemp("shared")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def shared(running: World, tmp_path: Path) -> World:
    """Everything, with Port as new, for tests after which no delivery is pending."""
    for kept in (running.port.blueprints, running.port.entities, running.port.actions):
        kept.clear()
    await running.port.automations.settled()
    running.slack.received.clear()
    await running.set_up()
    return replace(running, folder=tmp_path)


@asynccontextmanager
async def answering(*answers: Response) -> AsyncIterator[str]:
    """Serve a web address that gives these answers, the last one for ever."""
    given = list(answers)

    async def answer(_: Request) -> Response:
        return given.pop(0) if len(given) > 1 else given[0]

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    async with serving(app) as url:
        yield url


async def test_all_is_well(shared: World) -> None:
    """When all is well, each step is ok; nothing is changed, nothing is sent, nothing is skipped."""
    before = len(shared.port.writes)
    found = await shared.examine()
    assert {finding.status for finding in found.values()} == {CheckStatus.OK}
    assert found["rules"].text == "health"
    assert len(shared.port.writes) == before
    assert shared.slack.messages == []
    assert await shared.service.deliveries() == []
    assert await shared.service.store.read(queries.changes.last_at, probe.PROBE, probe.PROBE) is not None


async def test_requests_are_as_port_describes_them(world: World) -> None:
    """All that the doctor asks Port for is held against Port's own description."""
    description()
    world.port.requests.clear()
    await world.examine(change=True)
    assert ("PATCH", "/v1/blueprints/deploymentConfig/entities/notification-service-prod") in {
        (one.method, one.path) for one in world.port.requests
    }
    hold(world.port.requests)


Break = Callable[[World], Awaitable[None] | None]


def with_setup(**fields: Any) -> Break:
    """Return a function that replaces values of the setup."""

    def apply(world: World) -> None:
        world.setup = replace(world.setup, **fields)

    return apply


def no_rules() -> list[str]:
    """Fail as a rules file with a mistake does."""
    raise SettingsError("rules.yaml:3: rule 'crashed': when: unknown key")


def with_another_webhook(world: World) -> None:
    """Let the default destination be where nobody answers."""
    settings = Settings(
        _env_file=None,
        port_client_secret=CLIENT_SECRET,
        rules_file=rules_with_rate(world.folder, "http://127.0.0.1:1/very-secret-token"),
    )
    world.setup = replace(world.setup, load_rules=partial(load_usable, settings))


def without_a_store(world: World) -> None:
    """Let the store's file be a folder."""
    path = world.folder / "folder" / "listener.db"
    path.mkdir(parents=True)
    settings = Settings(_env_file=None, port_client_secret="x", database_url=f"sqlite:///{path}")
    world.setup = replace(world.setup, open_store=lambda: open_store(*settings.database))


def in_port(change: Callable[[StandInPort], object]) -> Break:
    """Return what changes something in Port."""

    def apply(world: World) -> None:
        change(world.port)

    return apply


def take_away_the_blueprint(port: StandInPort) -> None:
    """Delete the blueprint with its entity."""
    del port.blueprints["deploymentConfig"], port.entities[ENTITY]


def change_a_type(port: StandInPort) -> None:
    """Make a property that is of another type than ours."""
    port.blueprints["deploymentConfig"]["schema"]["properties"]["cpuUtil"] = {"type": "string"}


def wrong_credentials(world: World) -> None:
    """Use a client id that Port does not know."""
    world.setup = replace(world.setup, open_client=partial(client_of, world.port.url, client_id="another"))


def other_address(path: str) -> Break:
    """Return what moves the listener's address, in the settings and in Port, to where it is not."""

    async def apply(world: World) -> None:
        await world.point_to(f"{world.service.url}{path}")

    return apply


def slack_answers(status: int, text: str) -> Break:
    """Return what makes Slack answer so."""
    return lambda world: world.slack.answers.append(PlainTextResponse(text, status))


BREAKS: list[tuple[str, str, list[str], Break]] = [
    ("settings", "PORT_CLIENT_ID is not set", [], with_setup(problems=["PORT_CLIENT_ID is not set"])),
    ("store", "listener.db.*Check DATABASE_URL", ["silences", "reconciliation"], without_a_store),
    (
        "rules",
        "rules.yaml:3: rule 'crashed'",
        ["destinations", "silences", "rules in Port", "reconciliation"],
        with_setup(load_rules=no_rules),
    ),
    ("Port", "401.*PORT_CLIENT_ID and PORT_CLIENT_SECRET", STEPS[6:10], wrong_credentials),
    (
        "Port",
        "cannot reach http://127.0.0.1:1",
        STEPS[6:10],
        with_setup(open_client=partial(client_of, "http://127.0.0.1:1")),
    ),
    ("Port", "403", STEPS[6:10], in_port(lambda one: one.script("POST", LOGIN, refusal(403)))),
    ("blueprint", "not there.*app bootstrap", ["entity"], in_port(take_away_the_blueprint)),
    (
        "blueprint",
        "it differs from what bootstrap makes.*healthStatus.enum",
        [],
        in_port(
            lambda one: one.blueprints["deploymentConfig"]["schema"]["properties"]["healthStatus"].pop("enum")
        ),
    ),
    ("blueprint", "cpuUtil.*another type", ["entity", "automation"], in_port(change_a_type)),
    ("entity", "not there.*app bootstrap", [], in_port(lambda one: one.entities.pop(ENTITY))),
    (
        "entity",
        "properties.cpuUtil: nothing → 25",
        [],
        in_port(lambda one: one.entities[ENTITY]["properties"].update(cpuUtil=None)),
    ),
    ("automation", "not there.*app bootstrap", [], in_port(lambda one: one.actions.pop(AUTOMATION))),
    (
        "automation",
        "is paused.*publish it in Port",
        [],
        in_port(lambda one: one.actions[AUTOMATION].update(publish=False)),
    ),
    (
        "automation",
        "calls another address.*https://old.example.com",
        [],
        in_port(
            lambda one: one.actions[AUTOMATION]["invocationMethod"].update(url="https://old.example.com")
        ),
    ),
    (
        "automation",
        "403",
        [],
        in_port(lambda one: one.script("GET", f"/v1/actions/{AUTOMATION}", refusal(403))),
    ),
    ("webhook", "401: the listener has another PORT_CLIENT_SECRET", [], with_setup(secret="another-secret")),
    ("webhook", "404: there is no listener at this address", [], other_address("/wrong/api/slack")),
    ("destination default", "404 no_service.*make a new one", [], slack_answers(404, "no_service")),
    ("destination default", "403 invalid_token.*make a new one", [], slack_answers(403, "invalid_token")),
    ("destination default", "503", [], slack_answers(503, "")),
    ("destination default", "400", [], slack_answers(400, "<html>Bad Request</html>")),
    ("destination default", "message without text", [], slack_answers(200, "ok")),
    (
        "destination default",
        "no connection",
        [],
        with_another_webhook,
    ),
]


@pytest.mark.parametrize(
    ("step", "said", "left_out", "break_it"), BREAKS, ids=[f"{one[0]}: {one[1][:30]}" for one in BREAKS]
)
async def test_a_broken_step_is_named(
    shared: World, step: str, said: str, left_out: list[str], break_it: Break
) -> None:
    """Of a single broken step exactly that one is wrong; what needs it is skipped, all else is ok."""
    if awaitable := break_it(shared):
        await awaitable
    found = await shared.examine()
    # Where something is not there, what the rules need of it is not there either.
    assert set(wrong(found)) - {"rules in Port"} == {step}
    assert skipped(found) == left_out
    text = " ".join(render_finding(found[step]))
    assert re.search(said, text), text


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            [RedirectResponse("https://elsewhere.example.com/", 301)],
            "redirects to https://elsewhere.example.com/",
        ),
        ([PlainTextResponse("<html>", 502)], "502: <html>. Check WEBHOOK_URL"),
        ([JSONResponse({"ok": True}, 202)], "not as this listener does"),
        ([PlainTextResponse("thanks", 202)], "not as this listener does"),
    ],
)
async def test_a_stranger_at_the_webhook_address(shared: World, answers: list[Response], said: str) -> None:
    """Whatever answers at the address, it is not taken for this listener."""
    async with answering(*answers) as url:
        await shared.point_to(f"{url}/api/slack")
        found = await shared.examine()
    assert wrong(found) == ["webhook"]
    assert said in found["webhook"].text


async def test_nobody_at_the_webhook_address(shared: World) -> None:
    """A listener that does not run is said to be unreachable."""
    await shared.point_to("http://127.0.0.1:1/api/slack")
    found = await shared.examine()
    assert wrong(found) == ["webhook"]
    assert "cannot reach http://127.0.0.1:1/api/slack" in found["webhook"].text
    assert "python -m app serve" in found["webhook"].text


@asynccontextmanager
async def tunnel(source: str, target: str, smee: StandInSmee) -> AsyncIterator[None]:
    """Run the real tunnel."""
    stop = threading.Event()
    streams = len(smee.opened)
    running = asyncio.create_task(asyncio.to_thread(run_tunnel, source, target, lambda _: None, stop=stop))
    try:
        await until(lambda: len(smee.opened) > streams)
        yield
    finally:
        stop.set()
        await running


async def test_through_smee(world: World) -> None:
    """Through a channel the change is looked for in the store, for smee's own answer proves nothing."""
    smee = StandInSmee()
    async with smee.serving() as url:
        await world.point_to(f"{url}/own-channel")
        world.setup = replace(world.setup, patience_seconds=0.2)
        found = await world.examine(change=True)
        assert (wrong(found), skipped(found)) == (["webhook"], ["change"])
        assert "Is the tunnel running (python -m app tunnel)" in found["webhook"].text
        assert found["change"].text == "it needs webhook"
        world.setup = replace(world.setup, patience_seconds=10)
        async with tunnel(f"{url}/own-channel", f"{world.service.url}/api/slack", smee):
            found = await world.examine()
    assert wrong(found) == []
    assert "came through" in found["webhook"].text


async def test_smee_needs_the_store(shared: World) -> None:
    """Whether a change came through smee only the store can say; a channel that is none, smee itself."""
    async with answering(PlainTextResponse("no", 404)) as url:
        await shared.point_to(f"{url}/own-channel")
        found = await shared.examine()
        assert "404: is it your channel?" in found["webhook"].text
        without_a_store(shared)
        found = await shared.examine()
    assert (wrong(found), skipped(found)) == (["store"], ["silences", "webhook", "reconciliation"])


async def test_nothing_is_configured() -> None:
    """With settings that cannot be read the rest is skipped, and each step says for what."""
    found = [finding async for finding in examine(Setup(problems=["A is wrong", "B is wrong"]), change=True)]
    assert render_finding(found[0]) == [
        "wrong         settings: A is wrong",
        " " * 14 + "B is wrong",
    ]
    assert {finding.status for finding in found[1:]} == {CheckStatus.NOT_LOOKED_AT}
    needs = {finding.step: finding.text for finding in found}
    assert needs["store"] == "it needs settings that can be read"
    assert needs["Port"] == "it needs PORT_CLIENT_ID and PORT_CLIENT_SECRET"
    assert needs["destinations"] == "it needs rules"


async def test_without_an_address_port_is_still_compared(shared: World) -> None:
    """Without an address for Port to call, the blueprint and the entity are looked at all the same."""
    with_setup(webhook_url=None)(shared)
    found = await shared.examine()
    assert skipped(found) == ["automation", "rules in Port", "webhook"]
    assert found["automation"].text == "it needs WEBHOOK_URL or SMEE_URL"


async def test_own_blueprints(shared: World) -> None:
    """With --blueprint only the automations of these are looked at, and the advice names them."""
    shared.port.blueprints["service"] = {"identifier": "service", "schema": {"properties": {}}}
    setup = replace(shared.setup, blueprints=("service",))
    found = {one.step: one async for one in examine(setup)}
    assert "blueprint" not in found
    assert found["automation"].text.endswith("python -m app bootstrap --blueprint service")
    setup = replace(shared.setup, blueprints=("service", "nothing"))
    said = [one.text async for one in examine(setup) if one.step == "automation"]
    assert "There is no blueprint nothing" in said[0]
    assert said[1] == "it needs the steps above"


async def test_slack_message(shared: World) -> None:
    """--slack posts one message, which says what it is; a refusal is told."""
    found = await shared.examine(slack=True)
    assert found["destination default"].text == "it took the test message"
    (message,) = shared.slack.messages
    assert "test message" in message["text"]
    shared.slack.answers.append(PlainTextResponse("channel_is_archived", 410))
    found = await shared.examine(slack=True)
    assert "410 channel_is_archived" in found["destination default"].text


async def test_change(world: World) -> None:
    """--change makes Port send two changes; their alerts leave, timed, and the entity is as it was."""
    found = await world.examine(change=True)
    assert wrong(found) == []
    there, back = found["change"].text.splitlines()
    assert re.fullmatch(r"to Degraded: arrived after \d\.\d s, its alert was delivered after \d\.\d s", there)
    assert back.startswith("to Healthy: arrived after")
    assert world.port.entities[ENTITY]["properties"]["healthStatus"] == "Healthy"
    assert ["Degraded" in message["text"] for message in world.slack.messages] == [True, True]
    world.port.entities[ENTITY]["properties"]["healthStatus"] = "Degraded"
    found = await world.examine(change=True)
    assert [line[:11] for line in found["change"].text.splitlines()] == ["to Healthy:", "to Degraded"]


async def test_change_that_does_not_arrive(world: World) -> None:
    """A change that Port does not send is missed, and the status is set back."""
    world.port.call_webhooks = False
    world.setup = replace(world.setup, patience_seconds=0.2)
    found = await world.examine(change=True)
    assert wrong(found) == ["change"]
    assert "was set to Degraded, but no change arrived within 0.2 s" in found["change"].text
    assert world.port.entities[ENTITY]["properties"]["healthStatus"] == "Healthy"


async def test_change_whose_alert_is_held(world: World) -> None:
    """An alert that Slack does not take is told with Slack's own word."""
    world.slack.answers.extend([PlainTextResponse("no_text", 400), PlainTextResponse("no_service", 404)])
    found = await world.examine(change=True)
    assert wrong(found) == ["change"]
    assert re.search(
        r"arrived after .* its alert is on hold: 404 no_service.*app deliveries", found["change"].text
    )
    assert world.port.entities[ENTITY]["properties"]["healthStatus"] == "Healthy"


async def test_change_whose_alert_waits(world: World) -> None:
    """An alert that is still pending when patience ends is told so."""
    gate = asyncio.Event()

    async def wait() -> Response:
        await gate.wait()
        return PlainTextResponse("ok")

    world.slack.answers.extend([PlainTextResponse("no_text", 400), wait])
    world.setup = replace(world.setup, patience_seconds=0.5)
    found = await world.examine(change=True)
    gate.set()
    assert "its alert is pending: it was not tried yet" in found["change"].text


async def test_change_that_no_rule_alerts_on(world: World) -> None:
    """A change that arrives and leads to no alert is told from one that does not arrive."""

    async def nothing(*_: Any) -> Any:
        raise AssertionError("no rule asks for this")

    intake = Intake(
        store=world.service.store,
        book=Rulebook(RuleSet(()), {}),
        clock=lambda: datetime.now(UTC),
        evaluate=nothing,
        look_up=nothing,
        wake=lambda _=(): None,
    )
    receiver = Receiver(
        intake, secrets=[CLIENT_SECRET], accept_unsigned=False, tolerance=timedelta(minutes=5)
    )

    async def receive(request: Request) -> Response:
        accepted = await receiver.accept(
            await receiver.read(request.stream(), receiver.check_headers(request.headers))
        )
        return JSONResponse({"change": accepted.key, "alerts": accepted.alerts}, 202)

    async with serving(Starlette(routes=[Route("/api/slack", receive, methods=["POST"])])) as url:
        await world.point_to(f"{url}/api/slack")
        found = await world.examine(change=True)
        await world.port.automations.settled()
    assert wrong(found) == ["change"]
    assert "but no rule alerts on it" in found["change"].text


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([refusal(403)], r"^PATCH [^\n]* 403 [^\n]*$"),
        ([refusal(500)] * 6, r"could not be set back to Healthy, look at it in Port: PATCH .* 500"),
    ],
)
async def test_change_that_port_refuses(world: World, answers: list[Response], said: str) -> None:
    """What Port refuses was not changed; what may have been changed and cannot be set back is told."""
    if len(answers) > 1:
        world.port.call_webhooks = False
        world.setup = replace(world.setup, patience_seconds=0.1)
    world.port.script("PATCH", "/v1/blueprints/deploymentConfig/entities/notification-service-prod", *answers)
    found = await world.examine(change=True)
    assert wrong(found) == ["change"]
    assert re.search(said, found["change"].text, re.DOTALL), found["change"].text


async def test_ctrl_c_sets_the_status_back(world: World) -> None:
    """Whoever does not want to wait leaves the entity as it was."""
    world.port.call_webhooks = False
    walk = asyncio.create_task(world.examine(change=True))
    status = world.port.entities[ENTITY]["properties"]
    await until(lambda: world.port.entities[ENTITY]["properties"]["healthStatus"] == "Degraded")
    walk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walk
    assert world.port.entities[ENTITY]["properties"]["healthStatus"] == "Healthy"
    assert status["healthStatus"] == "Healthy"
