"""Walks the whole way from Port to Slack, and says of each step that it is well, or how to mend it.

It changes nothing in Port unless it is to make a change (`--change`), and shows nothing in Slack unless it is
to (`--slack`). In the listener's store it leaves a change that alerts nobody.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

import httpx
from slack_sdk.webhook import WebhookResponse

from app.doctor.round_trip import RoundTrip, wait_for
from app.errors import DeliveryFailed, ListenerError, SourceRefused, StoreUnavailable
from app.model.notification import one_line
from app.notifier.slack.webhook import raise_for_answer
from app.port.client import PortClient
from app.port.setup import probe
from app.port.setup.bootstrap import Plan, bootstrap
from app.port.setup.resources import BLUEPRINT
from app.port.setup.steps import Result, SetupStep, render
from app.receive.event import WEBHOOK_PATH
from app.reconcile.health import MAX_RUNS, judge
from app.store.base import Store

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
SLACK_SECONDS = 10.0
LONGEST_LINE = 1_000
TEST_MESSAGE = "🩺 A test message of the Port changelog listener's doctor: alerts will arrive here."
ALIVE = frozenset({"no_text", "missing_text", "missing_text_or_fallback_or_attachments", "invalid_payload"})
"""What a webhook that lives answers to a message without text, which appears nowhere.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (its errors), and how
others tell live webhooks from dead ones: https://github.com/trufflesecurity/trufflehog (slackwebhook.go).
"""
WORDS = {
    "publish": "it is not published",
    "invocationMethod.url": "it calls another address than this listener's",
}
SETTINGS, CREDENTIALS = "settings that can be read", "PORT_CLIENT_ID and PORT_CLIENT_SECRET"
SECRET, WEBHOOK, SLACK = "PORT_CLIENT_SECRET", "WEBHOOK_URL or SMEE_URL", "SLACK_WEBHOOK_URL"


class Verdict(StrEnum):
    """How a step is."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at a step: `said` is what is wrong and how to mend it, or for what it was skipped."""

    step: str
    verdict: Verdict
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What there is to walk; None: not configured.

    Attributes:
        problems: What is wrong with the settings.
        open_store: Opens the listener's store.
        load_rules: Reads the rules, and returns their names.
        not_compared: Says why nothing is compared with Port; None: it is.
        open_client: Gives a client of Port's API, given whether it only plans.
        secret: The client secret that Port signs with.
        webhook_url: The address that Port is to call, as `resources.webhook_address` gives it.
        slack_webhook_url: The incoming webhook.
        blueprints: Look only at the automations of these, as `bootstrap.Plan.blueprints`.
        patience: For how many seconds to wait for what is on its way.
    """

    problems: Sequence[str] = ()
    open_store: Callable[[], AbstractAsyncContextManager[Store]] | None = None
    load_rules: Callable[[], Sequence[str]] | None = None
    not_compared: Callable[[], str | None] = lambda: None
    open_client: Callable[[bool], PortClient] | None = None
    secret: str | None = field(default=None, repr=False)
    webhook_url: str | None = None
    slack_webhook_url: str | None = field(default=None, repr=False)
    blueprints: tuple[str, ...] = ()
    patience: float = PATIENCE_SECONDS


async def examine(way: Way, *, slack: bool = False, change: bool = False) -> AsyncIterator[Finding]:
    """Walk the way, and yield what is found at each step; a step whose needs failed is skipped.

    Args:
        way: What there is to walk.
        slack: Post a marked test message to Slack.
        change: Make Port send two changes: `healthStatus` of bootstrap's entity, there and back.
    """
    async with AsyncExitStack() as stack:
        async for finding in _Visit(way, stack).findings(slack=slack, change=change):
            said = finding.said
            for hidden in filter(None, (way.secret, way.slack_webhook_url)):
                said = said.replace(hidden, "[hidden]")
            yield Finding(finding.step, finding.verdict, said)


def render_finding(finding: Finding) -> list[str]:
    """Return a finding as lines for a screen."""
    first, *more = finding.said.splitlines() or [""]
    line = one_line(f"{finding.step}{': ' if first else ''}{first}", LONGEST_LINE)
    return [f"{finding.verdict:<8} {line}", *(f"{'':<9}{one_line(one, LONGEST_LINE)}" for one in more)]


class _Visit:
    """One walk: what was well so far, and what is open."""

    def __init__(self, way: Way, stack: AsyncExitStack) -> None:
        self._way = way
        self._stack = stack
        self._store: Store | None = None
        self._client: PortClient | None = None
        given = {
            SETTINGS: way.open_store,
            CREDENTIALS: way.open_client,
            SECRET: way.secret,
            WEBHOOK: way.webhook_url,
            SLACK: way.slack_webhook_url,
        }
        self._well = {name for name, value in given.items() if value}
        self._smee = not (way.webhook_url or "").endswith(WEBHOOK_PATH)

    async def findings(self, *, slack: bool, change: bool) -> AsyncIterator[Finding]:
        """Yield all findings, in order."""
        yield await self._step("settings", self._look_at_settings)
        yield await self._step("store", self._look_at_store, SETTINGS)
        yield await self._step("rules", self._look_at_rules, SETTINGS)
        yield await self._step("Port", self._look_at_port, CREDENTIALS)
        async for finding in self._compare():
            yield finding
        through = ["store"] if self._smee else []
        yield await self._step("webhook", self._call_webhook, WEBHOOK, SECRET, *through)
        yield await self._step("comparison", self._look_at_comparison, "store", "rules", CREDENTIALS)
        yield await self._step("Slack", partial(self._ask_slack, say=slack), SLACK)
        if change:
            needs = ("store", "Port", "entity", "automation", "webhook", "Slack")
            yield await self._step("change", self._change, *needs)

    async def _step(self, name: str, work: Callable[[], Awaitable[str]], *needs: str) -> Finding:
        """Carry out a step; what it raises is what is wrong."""
        if missing := [need for need in needs if need not in self._well]:
            return Finding(name, Verdict.SKIPPED, f"it needs {', '.join(missing)}")
        try:
            said = await work()
        except ListenerError as error:
            return Finding(name, Verdict.WRONG, str(error))
        self._well.add(name)
        return Finding(name, Verdict.OK, said)

    async def _look_at_settings(self) -> str:
        if self._way.problems:
            raise ListenerError("\n".join(self._way.problems))
        return ""

    async def _look_at_store(self) -> str:
        try:
            store = await self._stack.enter_async_context(_given(self._way.open_store)())
            await store.check(datetime.now(UTC))  # as /readyz does, beside a service that is running
        except StoreUnavailable as error:
            advice = "Check DATABASE_URL, the rights of its file and folder, and the room on its disk"
            raise ListenerError(f"{error}. {advice}") from None
        self._store = store
        return ""

    async def _look_at_rules(self) -> str:
        return ", ".join(_given(self._way.load_rules)())

    async def _look_at_comparison(self) -> str:
        if reason := self._way.not_compared():
            return f"nothing is compared with Port, so that what never comes from it stays unknown: {reason}"
        return judge(await _given(self._store).reconciling.runs(limit=MAX_RUNS), datetime.now(UTC))

    async def _look_at_port(self) -> str:
        only_plans = True
        client = await self._stack.enter_async_context(_given(self._way.open_client)(only_plans))
        await client.get_blueprint((*self._way.blueprints, BLUEPRINT)[0])
        self._client = client
        return f"the credentials are good at {client.base_url}"

    async def _compare(self) -> AsyncIterator[Finding]:
        """Yield how what bootstrap makes is: its own comparison, by a client that only plans."""
        ours = self._way.blueprints
        kinds = ["automation"] * len(ours) if ours else ["blueprint", "entity", "automation"]
        found = await self._plan(self._client, ours) if self._client else []
        for number, kind in enumerate(kinds):
            one = found[number] if number < len(found) else None
            reason = "what stands above" if found else "Port"
            needs = [reason] if one is None else [WEBHOOK] if kind == "automation" else []
            if kind == "entity" and one and _is_missing(found[0]):
                needs = ["blueprint"]
            yield await self._step(kind, partial(self._judge, one), *needs)

    async def _plan(self, client: PortClient, blueprints: tuple[str, ...]) -> list[SetupStep | ListenerError]:
        """Return the steps that bootstrap would take; an error stands where it would stop."""
        found: list[SetupStep | ListenerError] = []
        plan = Plan(self._way.webhook_url or "", blueprints=blueprints)
        try:
            async for step in bootstrap(client, plan):
                found.append(step)  # noqa: PERF401 - what was found before an error counts
        except ListenerError as error:
            found.append(error)
        return found

    async def _judge(self, found: SetupStep | ListenerError | None) -> str:
        if isinstance(found, ListenerError):
            raise found
        step = _given(found)
        if step.result is Result.UNCHANGED:
            return step.identifier
        command = " --blueprint ".join(("python -m app bootstrap", *self._way.blueprints))
        if _is_missing(step):
            raise ListenerError(f"{step.identifier} is not there. To make it: {command}")
        said = [WORDS[one.path] for one in step.difference if one.path in WORDS] or ["not as it should be"]
        first = f"{step.identifier}: {' and '.join(said)}. To mend it: {command}"
        raise ListenerError("\n".join((first, *render(step)[1:])))

    async def _call_webhook(self) -> str:
        url, now, started = _given(self._way.webhook_url), datetime.now(UTC), time.monotonic()
        try:
            await probe.send(url, _given(self._way.secret), now, through_smee=self._smee)
        except SourceRefused as error:
            return f"this listener answers at {url}, but {error}; whether Port is let in shows --change"
        if not self._smee:
            return f"this listener answers at {url}, after {time.monotonic() - started:.1f} s"
        store = _given(self._store)

        async def arrived() -> bool | None:
            return await store.last_at(probe.PROBE, probe.PROBE) == now or None

        if not await wait_for(arrived, self._way.patience):
            raise ListenerError(
                f"{url} took a change, but after {self._way.patience:g} s it is not in this listener's store."
                " Is the tunnel running (python -m app tunnel), and what does it say? Is the listener running"
                " (python -m app serve), with this DATABASE_URL?"
            )
        return f"a change came through {url} into the store, after {time.monotonic() - started:.1f} s"

    async def _ask_slack(self, *, say: bool) -> str:
        url, message = _given(self._way.slack_webhook_url), {"text": TEST_MESSAGE if say else ""}
        try:
            async with httpx.AsyncClient(timeout=SLACK_SECONDS) as client:
                answer = await client.post(url, json=message)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The error's own text may hold the webhook's address, which is a secret.
            raise ListenerError(
                f"no answer from Slack ({type(error).__name__}): check the network, the proxy settings"
                " (HTTPS_PROXY) and SLACK_WEBHOOK_URL"
            ) from None
        if not say and answer.text.strip() in ALIVE:
            return "the webhook lives"
        try:
            raise_for_answer(
                WebhookResponse(
                    url="", status_code=answer.status_code, body=answer.text, headers=dict(answer.headers)
                )
            )
        except DeliveryFailed as error:
            raise ListenerError(
                f"the webhook answers {error}. Unless that passes by itself (429, 5xx), make a new one on"
                " your Slack app's page, Incoming Webhooks, and set SLACK_WEBHOOK_URL"
            ) from None
        if not say:
            raise ListenerError("it takes a message without text, as Slack does not: check SLACK_WEBHOOK_URL")
        return "it took the test message"

    async def _change(self) -> str:
        only_plans = False
        async with _given(self._way.open_client)(only_plans) as client:
            return await RoundTrip(client, _given(self._store), self._way.patience).run()


def _is_missing(found: SetupStep | ListenerError) -> bool:
    return isinstance(found, SetupStep) and found.result is Result.CREATED


def _given(value: T | None) -> T:
    assert value is not None  # noqa: S101 - tells mypy what a step's needs have made sure of
    return value
