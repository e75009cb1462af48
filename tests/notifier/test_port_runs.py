"""Runs in Port that wait to be told: what they hear, and what each refusal of Port's means."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.responses import JSONResponse, Response

from app.errors import DeliveryFailed, Scope, StoreUnavailable
from app.model.notification import Message
from app.model.report import Fate, ReportedAlert
from app.notifier.base import Item, Keeper, Parcel, Reporter
from app.notifier.port_runs import PortRuns
from app.port.client import PortClient
from tests.notifier.helpers import notification
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WAITS = Fate(NOW, "rule 'health' matches", (ReportedAlert("rocket", "pending"),))
MESSAGE = Message("C0123456789", "1780000000.000100")
LINK = "https://example.slack.com/archives/C0123456789/p1780000000000100"
ENDED = Fate(NOW, "rule 'health' matches", (ReportedAlert("rocket", "delivered", "ok", MESSAGE),))


class Known:
    """What is known of a run, and of the time."""

    def __init__(self) -> None:
        self.fate: Fate | None = ENDED
        self.away = False
        self.now = NOW
        self.link: str | None = LINK

    async def ask(self, run: str) -> Fate | None:
        """Say what became of a run's change."""
        assert run.startswith("r_")
        if self.away:
            raise StoreUnavailable("the database is locked")
        return self.fate

    async def permalink(self, destination: str, message: Message) -> str | None:
        """Say where a message is."""
        assert (destination, message) == ("rocket", MESSAGE)
        return self.link


@pytest.fixture
def known() -> Known:
    """What the reports are made of."""
    return Known()


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port with two runs that wait, `r_0` and `r_1`."""
    async with standing_in() as stand_in:
        stand_in.automations.start()
        stand_in.automations.start()
        yield stand_in


@asynccontextmanager
async def telling(port: StandInPort, known: Known, secret: str = CLIENT_SECRET) -> AsyncIterator[PortRuns]:
    """Yield a notifier whose client has no patience, as the listener's has none."""
    async with PortClient(port.url, CLIENT_ID, secret, clock=lambda: known.now, patient=False) as client:
        yield PortRuns(client, known.ask, known.permalink, lambda: known.now)


async def refused(runs: PortRuns, run: str = "r_0") -> DeliveryFailed:
    """Report to a run, and return the failure that comes of it."""
    with pytest.raises(DeliveryFailed) as failed:
        await runs.report(run, 1)
    assert CLIENT_SECRET not in str(failed.value)
    return failed.value


def patches(port: StandInPort) -> int:
    """Return how often a run's end was sent."""
    return sum(one.method == "PATCH" for one in port.requests)


async def test_a_line_then_the_end(port: StandInPort, known: Known) -> None:
    """While an alert waits, or the report of its end, the run gets a line; then its end, with the address."""
    run = port.automations.runs["r_0"]
    known.fate = WAITS
    async with telling(port, known) as runs:
        assert isinstance(runs, Reporter)
        assert not isinstance(runs, Keeper)
        assert await runs.report("r_0", 1) == "a line in its log"
        assert (run["status"], run["logs"]) == ("IN_PROGRESS", [WAITS.line])
        known.fate = replace(ENDED, reports=2)
        assert await runs.report("r_0", 1) == "a line in its log"
        assert (run["status"], run["logs"]) == ("IN_PROGRESS", [WAITS.line] * 2)
        assert await runs.report("r_0", 2) == "ended: Delivered"
    assert run["status"] == "SUCCESS"
    assert (run["statusLabel"], run["summary"], run["link"]) == ("Delivered", ENDED.summary, [LINK])
    assert len(run["logs"]) == 2
    assert port.automations.runs["r_1"]["status"] == "IN_PROGRESS"


async def test_without_an_address(port: StandInPort, known: Known) -> None:
    """A message that has none is told of without."""
    known.link = None
    async with telling(port, known) as runs:
        await runs.report("r_0", 1)
    assert "link" not in port.automations.runs["r_0"]


async def test_a_change_that_is_forgotten(port: StandInPort, known: Known) -> None:
    """There is nothing to say of it, and Port is not asked."""
    known.fate = None
    async with telling(port, known) as runs:
        assert "not kept" in await runs.report("r_0", 1)
    assert port.requests == []


async def test_a_run_that_has_ended(port: StandInPort, known: Known) -> None:
    """Port refuses a second end: that is recorded, and is no failure that would hold up the next."""
    async with telling(port, known) as runs:
        await runs.report("r_0", 1)
        assert await runs.report("r_0", 1) == (
            "the run takes no report any more: 422 invalid_request: the run has ended"
        )
        assert await runs.report("r_1", 1) == "ended: Delivered"


async def test_a_run_that_follows_our_status(port: StandInPort, known: Known) -> None:
    """An automation that was made synchronized again takes no end of ours: as if it had ended."""
    run = port.automations.start(synchronized=True)
    async with telling(port, known) as runs:
        assert "422" in await runs.report(run, 1)


async def test_a_run_that_is_not_there(port: StandInPort, known: Known) -> None:
    """That concerns this run only."""
    async with telling(port, known) as runs:
        failed = await refused(runs, "r_9")
        assert (failed.scope, failed.reason[:3]) == (Scope.MESSAGE, "404")
        assert await runs.report("r_0", 1)


async def test_a_token_that_has_ended(port: StandInPort, known: Known) -> None:
    """401: one fresh token, one more try."""
    async with telling(port, known) as runs:
        await runs.report("r_0", 1)
        port.expire_token()
        assert await runs.report("r_1", 1) == "ended: Delivered"
    assert sum(one.path == LOGIN for one in port.requests) == 2


async def test_credentials_that_are_bad(port: StandInPort, known: Known) -> None:
    """Whoever is not let in tries again, and not for ever: a queue that is on hold would."""
    async with telling(port, known, secret="another") as runs:
        assert (await refused(runs)).scope is Scope.TRANSIENT
    port.script("PATCH", "/v1/actions/runs/r_0", refusal(401), refusal(401))
    async with telling(port, known) as runs:
        failed = await refused(runs)
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason.startswith("401")
        assert await runs.report("r_0", 1)


async def test_the_rate_is_limited(port: StandInPort, known: Known) -> None:
    """429: it is tried again when Port says, and until then no other queue asks either."""
    port.script("PATCH", "/v1/actions/runs/r_0", refusal(429, **{"x-ratelimit-reset": "17"}))
    async with telling(port, known) as runs:
        failed = await refused(runs)
        assert (failed.scope, failed.retry_after) == (Scope.TRANSIENT, timedelta(seconds=17))
        known.now += timedelta(seconds=5)
        other = await refused(runs, "r_1")
        assert (other.scope, other.retry_after) == (Scope.TRANSIENT, timedelta(seconds=12))
        assert patches(port) == 1
        known.now += timedelta(seconds=12)
        assert await runs.report("r_1", 1) == "ended: Delivered"
        assert await runs.report("r_0", 1) == "ended: Delivered"


@pytest.mark.parametrize(
    "answer",
    [refusal(500), refusal(503), refusal(408), JSONResponse([1]), Response("<html>", 200), Response("", 302)],
)
async def test_what_may_pass(port: StandInPort, known: Known, answer: Response) -> None:
    """It is tried again later."""
    port.script("PATCH", "/v1/actions/runs/r_0", answer)
    async with telling(port, known) as runs:
        assert (await refused(runs)).scope is Scope.TRANSIENT
        assert await runs.report("r_0", 1) == "ended: Delivered"


async def test_nobody_answers(port: StandInPort, known: Known) -> None:
    """A Port that is not there may be there later."""
    port.url = "http://127.0.0.1:9"
    async with telling(port, known) as runs:
        assert (await refused(runs)).scope is Scope.TRANSIENT


async def test_the_store_is_away(port: StandInPort, known: Known) -> None:
    """What is to be said is not known now: it is tried again later."""
    known.away = True
    async with telling(port, known) as runs:
        assert (await refused(runs)).scope is Scope.TRANSIENT
    assert port.requests == []


async def test_nothing_else_is_sent(port: StandInPort, known: Known) -> None:
    """An alert that is sent to it by mistake is refused."""
    async with telling(port, known) as runs:
        with pytest.raises(DeliveryFailed) as failed:
            await runs.send(Parcel((Item("d-1", notification()),)))
        await runs.close()
    assert failed.value.scope is Scope.MESSAGE
