"""Checks each step from Port to Slack: it is ok, or the finding says how to fix it.

It changes nothing in Port without `--change`, and posts nothing to Slack without `--slack`. In the listener's
store it leaves a change that alerts nobody.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import zip_longest
from typing import TypeVar

import httpx
from slack_sdk.webhook import WebhookResponse

from app.doctor.round_trip import RoundTrip, wait_for
from app.errors import DeliveryFailed, ListenerError, SourceRefused, StoreUnavailable
from app.model.notification import one_line
from app.network import DIRECT, Network
from app.notifier.slack.webhook import raise_for_answer
from app.port.client import PortClient
from app.port.setup import probe
from app.port.setup.bootstrap import Plan, bootstrap
from app.port.setup.resources import BLUEPRINT
from app.port.setup.steps import Result, SetupStep, render
from app.receive.event import WEBHOOK_PATH
from app.reconcile.health import MAX_RUNS, judge
from app.store import queries
from app.store.store import Store

_T = TypeVar("_T")

ARRIVAL_SECONDS = 30.0
SLACK_SECONDS = 10.0
MAX_LINE_CHARACTERS = 1_000
TEST_MESSAGE = "🩺 A test message of the Port changelog listener's doctor: alerts will arrive here."
ALIVE = frozenset({"no_text", "missing_text", "missing_text_or_fallback_or_attachments", "invalid_payload"})
"""The answers of a working webhook to a message without text, which Slack does not show.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (its errors), and
https://github.com/trufflesecurity/trufflehog (slackwebhook.go), which checks webhooks the same way.
"""
WORDS = {"invocationMethod.url": "it calls another address than this listener's"}
SETTINGS, CREDENTIALS = "settings that can be read", "PORT_CLIENT_ID and PORT_CLIENT_SECRET"
SECRET, WEBHOOK, SLACK = "PORT_CLIENT_SECRET", "WEBHOOK_URL or SMEE_URL", "SLACK_WEBHOOK_URL"


class CheckStatus(StrEnum):
    """The outcome of a step's check."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a step: `text` has what is wrong and how to fix it, or why the step was skipped."""

    step: str
    status: CheckStatus
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What there is to check; None: not configured.

    Attributes:
        problems: What is wrong with the settings.
        open_store: Opens the listener's store.
        load_rules: Reads the rules, and returns their names.
        why_not_reconciled: Returns why nothing is reconciled with Port; None: it is.
        open_client: Makes a client of Port's API, given `dry_run`.
        secret: The client secret that Port signs with.
        webhook_url: The address that Port is to call, as `resources.webhook_address` gives it.
        slack_webhook_url: The incoming webhook.
        blueprints: Check only the automations of these, as `bootstrap.Plan.blueprints`.
        patience_seconds: How long to wait for a change, and for its alert.
        network: The way to other hosts.
    """

    problems: Sequence[str] = ()
    open_store: Callable[[], AbstractAsyncContextManager[Store]] | None = None
    load_rules: Callable[[], Sequence[str]] | None = None
    why_not_reconciled: Callable[[], str | None] = lambda: None
    open_client: Callable[..., PortClient] | None = None
    secret: str | None = field(default=None, repr=False)
    webhook_url: str | None = None
    slack_webhook_url: str | None = field(default=None, repr=False)
    blueprints: tuple[str, ...] = ()
    patience_seconds: float = ARRIVAL_SECONDS
    network: Network = DIRECT


async def examine(setup: Setup, *, slack: bool = False, change: bool = False) -> AsyncIterator[Finding]:
    """Check step by step and yield the findings; a step that needs a failed one is skipped.

    Args:
        setup: What there is to check.
        slack: Post a marked test message to Slack.
        change: Make Port send two changes: `healthStatus` of bootstrap's entity, changed and changed back.
    """
    async with AsyncExitStack() as stack:
        async for finding in _Checks(setup, stack).findings(slack=slack, change=change):
            text = finding.text
            for hidden in filter(None, (setup.secret, setup.slack_webhook_url)):
                text = text.replace(hidden, "[hidden]")
            yield Finding(finding.step, finding.status, text)


def render_finding(finding: Finding) -> list[str]:
    """Format a finding as lines for a terminal."""
    first, *more = finding.text.splitlines() or [""]
    head = one_line(f"{finding.step}{': ' if first else ''}{first}", MAX_LINE_CHARACTERS)
    return [
        f"{finding.status:<8} {head}",
        *(f"{'':<9}{one_line(line, MAX_LINE_CHARACTERS)}" for line in more),
    ]


class _Checks:
    """One run of all checks: the steps that were ok so far, and what was opened."""

    def __init__(self, setup: Setup, stack: AsyncExitStack) -> None:
        self._setup = setup
        self._stack = stack
        self._store: Store | None = None
        self._client: PortClient | None = None
        needs = {
            SETTINGS: setup.open_store,
            CREDENTIALS: setup.open_client,
            SECRET: setup.secret,
            WEBHOOK: setup.webhook_url,
            SLACK: setup.slack_webhook_url,
        }
        self._passed = {name for name, value in needs.items() if value}
        self._smee = not (setup.webhook_url or "").endswith(WEBHOOK_PATH)

    async def findings(self, *, slack: bool, change: bool) -> AsyncIterator[Finding]:
        """Yield all findings, in order."""
        yield await self._step("settings", self._check_settings)
        yield await self._step("store", self._check_store, SETTINGS)
        yield await self._step("rules", self._check_rules, SETTINGS)
        yield await self._step("Port", self._check_port, CREDENTIALS)
        async for finding in self._check_bootstrap():
            yield finding
        through = ["store"] if self._smee else []  # through smee only the store shows the arrival
        yield await self._step("webhook", self._call_webhook, WEBHOOK, SECRET, *through)
        yield await self._step("reconciliation", self._check_reconciliation, "store", "rules", CREDENTIALS)
        yield await self._step("Slack", partial(self._check_slack, post=slack), SLACK)
        if change:
            needs = ("store", "Port", "entity", "automation", "webhook", "Slack")
            yield await self._step("change", self._change, *needs)

    async def _step(self, name: str, work: Callable[[], Awaitable[str]], *needs: str) -> Finding:
        """Carry out a step; the error that it raises is the finding."""
        if missing := [need for need in needs if need not in self._passed]:
            return Finding(name, CheckStatus.SKIPPED, f"it needs {', '.join(missing)}")
        try:
            text = await work()
        except ListenerError as error:
            return Finding(name, CheckStatus.WRONG, str(error))
        self._passed.add(name)
        return Finding(name, CheckStatus.OK, text)

    async def _check_settings(self) -> str:
        if self._setup.problems:
            raise ListenerError("\n".join(self._setup.problems))
        return ""

    async def _check_store(self) -> str:
        try:
            store = await self._stack.enter_async_context(_given(self._setup.open_store)())
            await store.check(datetime.now(UTC))  # as /readyz does, beside a service that is running
        except StoreUnavailable as error:
            advice = "Check DATABASE_URL, the rights of its file and folder, and the room on its disk"
            raise ListenerError(f"{error}. {advice}") from None
        self._store = store
        return ""

    async def _check_rules(self) -> str:
        return ", ".join(_given(self._setup.load_rules)())

    async def _check_reconciliation(self) -> str:
        if reason := self._setup.why_not_reconciled():
            return f"nothing is reconciled with Port, so a change that Port never sends is missed: {reason}"
        runs = await _given(self._store).read(queries.reconcile.runs, limit=MAX_RUNS)
        return judge(runs, datetime.now(UTC))

    async def _check_port(self) -> str:
        open_client = _given(self._setup.open_client)
        client = await self._stack.enter_async_context(open_client(dry_run=True))
        await client.get_blueprint((*self._setup.blueprints, BLUEPRINT)[0])
        self._client = client
        return f"the credentials are good at {client.base_url}"

    async def _check_bootstrap(self) -> AsyncIterator[Finding]:
        """Check what bootstrap makes in Port, by bootstrap's own comparison as a dry run."""
        ours = self._setup.blueprints
        kinds = ["automation"] * len(ours) if ours else ["blueprint", "entity", "automation"]
        planned: list[SetupStep | ListenerError] = []
        if self._client:
            try:
                async for step in bootstrap(self._client, Plan(self._setup.webhook_url or "", ours)):
                    planned.append(step)  # noqa: PERF401 - the steps before an error count
            except ListenerError as error:
                planned.append(error)
        for kind, planned_step in zip_longest(kinds, planned[: len(kinds)]):
            reason = "the steps above" if planned else "Port"
            needs = [reason] if planned_step is None else [WEBHOOK] if kind == "automation" else []
            if kind == "entity" and planned_step and _is_missing(planned[0]):
                needs = ["blueprint"]
            yield await self._step(kind, partial(self._judge, planned_step), *needs)

    async def _judge(self, planned: SetupStep | ListenerError | None) -> str:
        if isinstance(planned, ListenerError):
            raise planned
        step = _given(planned)
        if any(entry.path == "publish" for entry in step.left):
            raise ListenerError(f"{step.identifier} is paused, so no change arrives: publish it in Port")
        if step.result is Result.UNCHANGED:
            return "\n".join((step.identifier, *render(step)[1:]))
        command = " --blueprint ".join(("python -m app bootstrap", *self._setup.blueprints))
        if _is_missing(step):
            raise ListenerError(f"{step.identifier} is not there. To make it: {command}")
        reasons = [WORDS[entry.path] for entry in step.difference if entry.path in WORDS]
        problem = " and ".join(reasons or ["it differs from what bootstrap makes"])
        first = f"{step.identifier}: {problem}. To fix it: {command}"
        raise ListenerError("\n".join((first, *render(step)[1:])))

    async def _call_webhook(self) -> str:
        url, now, started = _given(self._setup.webhook_url), datetime.now(UTC), time.monotonic()
        try:
            await probe.send(
                url, _given(self._setup.secret), now, through_smee=self._smee, network=self._setup.network
            )
        except SourceRefused as error:
            return f"this listener answers at {url}, but {error}; try whether Port gets through with --change"
        if not self._smee:
            return f"this listener answers at {url}, after {time.monotonic() - started:.1f} s"
        store = _given(self._store)

        async def arrived() -> bool | None:
            return await store.read(queries.changes.last_at, probe.PROBE, probe.PROBE) == now or None

        if not await wait_for(arrived, self._setup.patience_seconds):
            raise ListenerError(
                f"{url} took a change, but after {self._setup.patience_seconds:g} s it is not in this"
                " listener's store. Is the tunnel running (python -m app tunnel), and what does it print? Is"
                " the listener running (python -m app serve), with this DATABASE_URL?"
            )
        return f"a change came through {url} into the store, after {time.monotonic() - started:.1f} s"

    async def _check_slack(self, *, post: bool) -> str:
        url, message = _given(self._setup.slack_webhook_url), {"text": TEST_MESSAGE if post else ""}
        try:
            async with httpx.AsyncClient(timeout=SLACK_SECONDS, **self._setup.network.httpx(url)) as client:
                answer = await client.post(url, json=message)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's own text may hold the webhook's address, which is a secret.
            raise ListenerError(
                f"no answer from Slack ({type(error).__name__}): check the network, the proxy settings"
                " (HTTPS_PROXY) and SLACK_WEBHOOK_URL"
            ) from None
        if not post and answer.text.strip() in ALIVE:
            return "the webhook works"
        try:
            raise_for_answer(
                WebhookResponse(
                    url="", status_code=answer.status_code, body=answer.text, headers=dict(answer.headers)
                ),
                datetime.now(UTC),
            )
        except DeliveryFailed as error:
            raise ListenerError(
                f"the webhook answers {error}. Unless that passes by itself (429, 5xx), make a new one on"
                " your Slack app's page, Incoming Webhooks, and set SLACK_WEBHOOK_URL"
            ) from None
        if not post:
            raise ListenerError("it takes a message without text, unlike Slack: check SLACK_WEBHOOK_URL")
        return "it took the test message"

    async def _change(self) -> str:
        async with _given(self._setup.open_client)(dry_run=False) as client:
            return await RoundTrip(client, _given(self._store), self._setup.patience_seconds).run()


def _is_missing(step: SetupStep | ListenerError) -> bool:
    return isinstance(step, SetupStep) and step.result is Result.CREATED


def _given(value: _T | None) -> _T:
    assert value is not None  # noqa: S101 - tells mypy: the step's needs were checked
    return value
