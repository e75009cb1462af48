"""Traces, to a real OTLP receiver on loopback: one trace from the POST to Slack's answer."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.util.re import parse_env_headers
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.errors import SettingsError
from app.observe.logs import configure_logging
from app.observe.metrics import MULTIPROCESS_VARIABLE, prepare_metrics
from app.observe.otel import ENDPOINTS, asked, make_provider
from app.observe.otel import hidden as hidden_values
from tests.acceptance.process import free_port, listening, post_change
from tests.conftest import NO_TLS, SECRET, Service, Start
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes spans as a collector does.

    Attributes:
        spans: What it got.
        services: The names of those who sent it.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.bodies = b""
        self.app = Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        self.bodies += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(named["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return Response(media_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [one for one in self.spans if one.name == name]


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector on loopback, to which the environment points."""
    found = Collector()
    async with serving(found.app) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield found


async def post(
    service: Service, entity: str, traceparent: str | None = None, after: str = "Degraded"
) -> None:
    """Post a change, in a trace."""
    now = datetime.now(UTC)
    body = change_body(before="Healthy", after=after, at=now, entity=entity)
    headers = signed_headers(body, SECRET, now) | ({"traceparent": traceparent} if traceparent else {})
    assert (await service.post(body, headers)).status_code == 202


def attributes(span: Span) -> dict[str, object]:
    """Return a span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


async def test_one_trace_from_the_post_to_slack(
    start: Start, slack: StandInSlack, collector: Collector
) -> None:
    """The spans of a change are one tree under the sender's own span, and tell no payload and no secret."""
    async with start() as service:
        await post(service, "checkout-prod", TRACEPARENT)
        await until(lambda: len(slack.messages) == 1)
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    parents = {span.span_id: span for span in collector.spans}
    tree = {
        span.name: parents[span.parent_span_id].name if span.parent_span_id in parents else "the sender"
        for span in collector.spans
    }
    assert tree == {
        "POST /api/slack": "the sender",
        "verify": "POST /api/slack",
        "parse": "POST /api/slack",
        "decide and store": "POST /api/slack",
        "deliver": "decide and store",
        "send": "deliver",
    }
    (stored,), (delivered,) = collector.named("decide and store"), collector.named("deliver")
    assert attributes(stored).items() >= {"port.alerts": 1, "port.duplicate": False}.items()
    assert (
        attributes(delivered).items() >= {"port.outcome": "delivered", "port.destination": "default"}.items()
    )
    assert collector.services == {"port-listener"}
    for hidden in (SECRET, slack.url, "very-secret-token", "checkout-prod", "Degraded", "Rocket", "v1,"):
        assert hidden.encode() not in collector.bodies


async def test_a_trace_goes_on_after_a_restart(
    start: Start, slack: StandInSlack, collector: Collector
) -> None:
    """What is delivered after a restart is in the trace of the POST before it; what failed says so."""
    slack.answers.extend(PlainTextResponse("unavailable", 503) for _ in range(50))
    async with start() as service:
        await post(service, "checkout-prod", TRACEPARENT)
        await until(lambda: len(slack.answers) < 50)
    slack.answers.clear()
    async with start():
        await until(lambda: len(slack.messages) == 1)
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    failed, *_, sent = collector.named("send")
    assert (failed.status.code, attributes(failed)["error.type"]) == (2, "DeliveryFailed")
    assert sent.status.code == 0
    outcomes = [attributes(one)["port.outcome"] for one in collector.named("deliver")]
    assert outcomes[0] == "retry"
    assert outcomes[-1] == "delivered"


async def test_a_digest_is_in_each_trace(start: Start, slack: StandInSlack, collector: Collector) -> None:
    """One message of several changes goes on in the first's trace, and is linked to and from the others'."""
    slack.answers.append(PlainTextResponse("unavailable", 503))
    async with start() as service:
        await post(service, "one", TRACEPARENT)
        await until(lambda: not slack.answers)
        await post(service, "two", f"00-{OTHER}-b7ad6b7169203331-01")
        await until(lambda: len(slack.messages) == 1)
    (sent,) = [one for one in collector.named("send") if one.status.code == 0]
    delivered = [one for one in collector.named("deliver") if attributes(one)["port.outcome"] == "delivered"]
    main, shadow = sorted(delivered, key=lambda one: one.trace_id.hex())
    assert [main.trace_id.hex(), shadow.trace_id.hex()] == [TRACE, OTHER]
    assert sent.parent_span_id == main.span_id
    assert [link.trace_id.hex() for link in main.links] == [OTHER]
    assert [link.span_id for link in shadow.links] == [main.span_id]


async def test_a_refused_request(start: Start, collector: Collector) -> None:
    """A request that is refused has a trace of its own; other requests have none."""
    async with start() as service:
        assert (
            await service.post(b"{}", signed_headers(b"{}", "wrong", datetime.now(UTC)))
        ).status_code == 401
        assert (await service.client.get("/healthz")).status_code == 200
    (verified,) = collector.named("verify")
    assert attributes(verified)["error.type"] == "SignatureRejected"
    assert {span.name for span in collector.spans} == {"verify", "POST /api/slack"}


async def test_without_asking_there_is_nothing(start: Start, slack: StandInSlack) -> None:
    """Without OpenTelemetry's variables nothing is kept with a change."""
    async with start() as service:
        await post(service, "checkout-prod", TRACEPARENT)
        await until(lambda: len(slack.messages) == 1)
        assert not await traceparents(service)


async def traceparents(service: Service) -> list[str]:
    """Return the trace of each delivery that waits."""
    now = datetime.now(UTC)
    claims = await service.store.claim(token="test", now=now, lease_until=now, limit=9, batch_limits={})
    return [one.traceparent for claim in claims for one in claim.deliveries if one.traceparent]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_when_it_is_asked_for(environment: dict[str, str], expected: bool) -> None:
    """Traces are asked for by an exporter or an endpoint, unless they are switched off."""
    assert asked(environment) is expected


@pytest.mark.parametrize(
    ("block", "exporter", "said"),
    [
        ("sys.modules['opentelemetry.sdk'] = None", "otlp", "install the extra otel"),
        ("", "nonsense", "exporter 'nonsense' is not installed"),
    ],
)
def test_what_cannot_be_had_is_said(block: str, exporter: str, said: str) -> None:
    """Asked for but not installed: a warning that names the extra, and no traces."""
    code = (
        f"import sys; {block or 'pass'}\n"
        "from app.observe.otel import make_provider\n"
        f"assert make_provider({{'OTEL_TRACES_EXPORTER': {exporter!r}}}) is None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said in done.stdout + done.stderr


@pytest.mark.acceptance
async def test_a_collector_that_is_away(tmp_path: Path, slack: StandInSlack) -> None:
    """The listener works and stops as ever; its log lines have the change's key and the trace's id."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    async with listening(tmp_path, slack.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            receipt = (await post_change(client, "checkout-prod")).json()
        await until(lambda: len(slack.messages) == 1)
        began = asyncio.get_running_loop().time()
        assert await listener.stop() in {0, -signal.SIGTERM}
        assert asyncio.get_running_loop().time() - began < 8
    lines = [json.loads(line) for line in listener.log.read_text().splitlines()]
    about = {line["event"]: line for line in lines if line.get("change") == receipt["change"]}
    assert {"change_accepted", "alert_delivered"} <= set(about)
    assert len({line["trace_id"] for line in about.values()}) == 1


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_headers_with_a_colon(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused in a sentence, and neither that nor OpenTelemetry shows the token."""
    environment = {name: "Authorization: Bearer hush-token-1", ENDPOINTS[0]: "http://127.0.0.1:9"}
    configure_logging("INFO", "json", hidden_values(environment))
    assert make_provider(environment) is None
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["reason"][: len(name)]) == ("traces_unavailable", name)
    parse_env_headers(environment[name])
    assert "hush" not in capsys.readouterr().err


def test_a_damaged_file_of_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is one sentence at the start, with its name; so is a folder that cannot be made."""
    monkeypatch.setenv(MULTIPROCESS_VARIABLE, str(tmp_path))
    (tmp_path / "counter_7.db").write_bytes(b"")
    prepare_metrics()
    (tmp_path / "counter_8.db").write_bytes(b"garbage")
    with pytest.raises(
        SettingsError, match=r"^PROMETHEUS_MULTIPROC_DIR: \S+counter_8\.db is damaged: delete it$"
    ):
        prepare_metrics()
    monkeypatch.setenv(MULTIPROCESS_VARIABLE, str(tmp_path / "counter_8.db"))
    with pytest.raises(SettingsError, match=r"^PROMETHEUS_MULTIPROC_DIR: cannot use the folder"):
        prepare_metrics()
