"""What several test modules need."""

import gc
import json
import logging
import pkgutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pytest_cov.engine import CovController

import app
from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.main import create_app
from app.model.delivery import State
from app.settings import Settings
from app.store import queries
from app.store.opening import open_store
from app.store.store import Store
from app.store.views import Delivery
from tests.postgres import PostgresServer

# Of a shell's background job: processes would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# jsonschema, which only tests use, takes 1.5 s to import the grammars of a format that no schema here has.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
SECRET = "test-client-secret-4711"
KEPT = httpx.Limits(max_connections=32, keepalive_expiry=None)
"""For many requests at once: httpx looks through all of its connections, and may close one in use."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For a client that only speaks to loopback: it trusts nobody, and reads no certificates (25 ms)."""
NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)

UNMEASURED = (
    "acceptance",
    "browser",
    "clicks/test_clicks.py",
    "deliver/test_morning.py",
    "notifier/slack/test_digest_sizes.py",
    "notifier/slack/test_text.py",
    "notifier/test_failure.py",
    "notifier/test_pagerduty.py::test_a_bad_night",
    "power",
    "receive/test_mutations.py",
    "reconcile/test_difference_random.py",
    "reconcile/test_race.py",
    "reconcile/test_run.py",
)
"""Tests whose load is their point: measuring coverage makes them twice as slow on Python 3.11."""
EACH_CASE = (
    "cli/test_slack.py",
    "doctor",
    "model",
    "notifier/http",
    "notifier/test_probe.py",
    "receive",
    "rules",
    "store/test_database_url.py",
    "suite",
    "test_environment.py",
    "test_network.py",
    "test_settings.py",
    "web/test_protocol.py",
)
"""Tests of which each case goes its own way, and costs little."""
LONG = ("acceptance", "browser", "deploy", "power", "simulation", "test_bench.py")
"""Tests that take seconds each, and mostly wait."""
TESTS = Path(__file__).parent
FEW = {"browser": 2, "deploy/test_installing.py": 1}
"""Tests that share something which takes seconds to make, and how many of the workers make it."""
MEASURED = pytest.StashKey[bool]()


def coverage_of(config: pytest.Config) -> CovController | None:
    """Return what measures coverage in this process, or None without `--cov`."""
    plugin = config.pluginmanager.getplugin("_cov")
    return plugin and plugin.cov_controller


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Measure nothing yet: the tests' own imports would take twice as long."""
    coverage = coverage_of(session.config)
    if coverage is None:
        return
    if not hasattr(session.config, "workerinput"):
        # Here for all workers: what stands at the top of a module runs once in a process.
        for module in pkgutil.walk_packages(app.__path__, "app."):
            if module.name != "app.__main__":
                import_module(module.name)
    coverage.pause()
    # pytest writes each test module anew, for its asserts, which takes longer than to import it: each worker
    # begins with others, and finds the rest written.
    if worker := getattr(session.config, "workerinput", None):
        number = int(worker["workerid"].removeprefix("gw"))
        modules = sorted(TESTS.rglob("test_*.py"))[number :: worker["workercount"]]
        for file in modules:
            with suppress(Exception):  # it is seen when the module is collected
                import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what is measured: the first case of each test where the others go the same way."""
    # Each of xdist's workers begins with an equal part of the list, and so with its share of the long tests:
    # at the end there would be nothing left to do beside them.
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    seen: set[str] = set()
    long: list[list[pytest.Item]] = [[] for _ in range(workers)]
    turns = dict.fromkeys(["", *FEW], 0)
    short: list[pytest.Item] = []
    for item in items:
        test = item.nodeid.partition("[")[0].removeprefix("tests/")
        first = test not in seen or test.startswith(EACH_CASE)
        item.stash[MEASURED] = first and not test.startswith(UNMEASURED)
        seen.add(test)
        if not test.startswith(LONG):
            short.append(item)
            continue
        kind = next((one for one in FEW if test.startswith(one)), "")
        long[turns[kind] % min(FEW.get(kind, workers), workers)].append(item)
        turns[kind] += 1
    share, rest = len(items) // workers + 1, iter(short)
    items[:] = [item for mine in long for item in (*mine, *islice(rest, max(0, share - len(mine))))]
    gc.freeze()  # the modules and the tests stay: the collector need not look through them again and again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure the coverage of the chosen tests, with their fixtures."""
    coverage = coverage_of(item.config) if item.stash[MEASURED] else None
    if coverage is None:
        return (yield)
    coverage.resume()
    try:
        return (yield)
    finally:
        coverage.pause()


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    """A command that a test runs in this process configures logging: it is put back afterwards."""
    handlers, level = logging.root.handlers, logging.root.level
    structlog.reset_defaults()
    # By default structlog draws a traceback with rich and all local variables, which blocks the loop for a
    # second or more. The configuration of the program does not.
    *first, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*first, plain])
    yield
    logging.root.handlers, logging.root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    """A stand-in Slack on loopback; `url` is its webhook's address."""
    stand_in = StandInSlack()
    async with serving(stand_in.app) as address:
        stand_in.url = f"{address}/services/T0/B0/very-secret-token"
        yield stand_in


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for all tests of a process."""
    server = PostgresServer()
    try:
        server.make()
        yield server
    finally:
        server.remove()


@dataclass(frozen=True)
class Service:
    """The real service on loopback, and its store from a connection of its own."""

    url: str
    client: httpx.AsyncClient
    store: Store

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """Post a body, signed by Port unless other headers are given."""
        signed = signed_headers(body, SECRET, datetime.now(UTC)) if headers is None else headers
        return await self.client.post("/api/slack", content=body, headers=signed)

    async def change(self, before: str, after: str, **more: Any) -> httpx.Response:
        """Post a change of a health status that happens now."""
        return await self.post(change_body(before=before, after=after, at=datetime.now(UTC), **more))

    async def deliveries(self) -> list[Delivery]:
        """All deliveries, those of the newest change first."""
        page = await self.store.read(queries.page.deliveries, state=None, before=None, limit=1000)
        return list(page.rows)


async def count(store: Store, state: State) -> int:
    """Return how many alerts are in a state; of the dead, reports and updates count as on the page."""
    if state is State.DEAD:
        return len((await store.read(queries.page.deliveries, state=state, limit=100_000)).rows)
    return (await store.read(queries.counts.by_state))[state]


Start = Callable[..., AbstractAsyncContextManager[Service]]


def rules_with_rate(folder: Path, webhook_url: str, rate: float = 1000) -> Path:
    """Write the built-in rules into a folder, with a rate for the default destination, and return the file.

    Args:
        folder: Where `rate.json` is written.
        webhook_url: The default destination's webhook, the same as SLACK_WEBHOOK_URL.
        rate: Messages a second.
    """
    default = {"type": "slack", "webhook_url": webhook_url, "rate": rate}
    file = folder / "rate.json"
    file.write_text(json.dumps({"version": 1, "destinations": {"default": default}}))
    return file


@pytest.fixture
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an empty database: SQLite, or what a test's `DATABASES` asks for."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path}/listener.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with server.lent_database() as url:
        yield url


DATABASES = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
"""Marks what runs on every kind of database."""


@pytest.fixture
def start(database: str, slack: StandInSlack, tmp_path: Path) -> Start:
    """Give a function that runs the service against the stand-in Slack, with settings to change."""

    @asynccontextmanager
    async def run(*, root_path: str = "", **overrides: Any) -> AsyncIterator[Service]:
        values: dict[str, Any] = {
            "port_client_secret": SECRET,
            "slack_webhook_url": slack.url,
            "rules_file": rules_with_rate(tmp_path, slack.url),
            "database_url": database,
        }
        settings = Settings(_env_file=None, **(values | overrides))
        async with (
            serving(create_app(settings), root_path=root_path) as url,
            httpx.AsyncClient(base_url=url, limits=KEPT, verify=NO_TLS) as client,
            open_store(*settings.database) as store,
        ):
            yield Service(url, client, store)

    return run


@pytest.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    """The service with usual settings, and a Slack that takes a thousand messages a second."""
    async with start() as running:
        yield running
