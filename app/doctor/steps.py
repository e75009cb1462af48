"""Checks each step from Port to Slack: it is ok, or the finding says how to fix it.

It changes nothing in Port without `--change`, and posts nothing to Slack without `--slack`. In the listener's
store it leaves a change that alerts nobody.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest

from app.doctor.clicks import ClickSetup, check_clicks
from app.doctor.compare import compare
from app.doctor.finding import CheckStatus, Finding, Remark, present, try_destination
from app.doctor.round_trip import RoundTrip, wait_for
from app.errors import ListenerError, NoDatabase, SourceRefused, StoreUnavailable
from app.network import DIRECT, Network
from app.notifier.base import Notifier
from app.port.client import PortClient
from app.port.setup import probe
from app.port.setup.bootstrap import Plan, bootstrap
from app.port.setup.resources import BLUEPRINT
from app.port.setup.steps import Result, SetupStep, render
from app.receive.event import WEBHOOK_PATH
from app.receive.rules_source import secrets_of
from app.reconcile.health import MAX_RUNS, judge
from app.rules.file import Rules
from app.rules.hints import used_destinations, why_idle
from app.rules.rule import BUILT_IN
from app.store import queries
from app.store.store import Store

ARRIVAL_SECONDS = 30.0
TEST_MESSAGE = "🩺 A test message of the Port changelog listener's doctor: alerts will arrive here."
WORDS = {"invocationMethod.url": "it calls another address than this listener's"}
SETTINGS, CREDENTIALS = "settings that can be read", "PORT_CLIENT_ID and PORT_CLIENT_SECRET"
SECRET, WEBHOOK, DESTINATIONS = "PORT_CLIENT_SECRET", "WEBHOOK_URL or SMEE_URL", "destinations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What there is to check; None: not configured.

    Attributes:
        problems: What is wrong with the settings.
        open_store: Opens the listener's store.
        load_rules: Reads the rules and makes the notifiers, as the start does.
        why_not_reconciled: Returns why nothing is reconciled with Port; None: it is.
        open_client: Makes a client of Port's API, given `dry_run`.
        secret: The client secret that Port signs with.
        webhook_url: The address that Port is to call, as `resources.webhook_address` gives it.
        blueprints: Check only the automations of these, as `bootstrap.Plan.blueprints`.
        clicks: How clicks in Slack are to come.
        patience_seconds: How long to wait for a change, and for its alert.
        network: The way to other hosts.
    """

    problems: Sequence[str] = ()
    open_store: Callable[[], AbstractAsyncContextManager[Store]] | None = None
    load_rules: Callable[[], tuple[Rules, Mapping[str, Notifier]]] | None = None
    why_not_reconciled: Callable[[], str | None] = lambda: None
    open_client: Callable[..., PortClient] | None = None
    secret: str | None = field(default=None, repr=False)
    webhook_url: str | None = None
    blueprints: tuple[str, ...] = ()
    clicks: ClickSetup | None = None
    patience_seconds: float = ARRIVAL_SECONDS
    network: Network = DIRECT


async def examine(setup: Setup, *, slack: bool = False, change: bool = False) -> AsyncIterator[Finding]:
    """Check step by step and yield the findings; a step that needs a failed one is not looked at.

    Args:
        setup: What there is to check.
        slack: Post a marked test message to each Slack channel that the rules use.
        change: Make Port send two changes: `healthStatus` of bootstrap's entity, changed and changed back.
    """
    async with AsyncExitStack() as stack:
        checks = _Checks(setup, stack)
        async for finding in checks.findings(slack=slack, change=change):
            text = finding.text
            clicks = setup.clicks.secrets if setup.clicks else ()
            for hidden in filter(None, (setup.secret, *clicks, *checks.secrets)):
                text = text.replace(hidden, "[hidden]")
            yield Finding(finding.step, finding.status, text)


class _Checks:
    """One run of all checks: the steps that were ok so far, and what was opened."""

    def __init__(self, setup: Setup, stack: AsyncExitStack) -> None:
        self._setup = setup
        self._stack = stack
        self._store: Store | None = None
        self._client: PortClient | None = None
        self._rules: Rules | None = None
        self._notifiers: Mapping[str, Notifier] = {}
        self.secrets: tuple[str, ...] = ()
        needs = {
            SETTINGS: setup.open_store,
            CREDENTIALS: setup.open_client,
            SECRET: setup.secret,
            WEBHOOK: setup.webhook_url,
        }
        self._passed = {name for name, value in needs.items() if value}
        self._smee = not (setup.webhook_url or "").endswith(WEBHOOK_PATH)

    async def findings(self, *, slack: bool, change: bool) -> AsyncIterator[Finding]:
        """Yield all findings, in order."""
        yield await self._step("settings", self._check_settings)
        yield await self._step("store", self._check_store, SETTINGS)
        needed = () if self._setup.load_rules else (SETTINGS,)
        yield await self._step("rules", self._check_rules, *needed)
        async for finding in self._check_destinations(post=slack):
            yield finding
        if self._setup.clicks:
            yield await self._step("clicks", self._check_clicks, "rules")
        yield await self._step("silences", self._check_silences, "store", "rules")
        yield await self._step("Port", self._check_port, CREDENTIALS)
        if (
            change
            or self._setup.blueprints
            or self._rules is None
            or any(rule == BUILT_IN or BLUEPRINT in rule.blueprint for rule in self._rules.file.rules)
        ):
            async for finding in self._check_bootstrap():
                yield finding
        for finding in await self._compare():
            yield finding
        through = ["store"] if self._smee else []  # through smee only the store shows the arrival
        yield await self._step("webhook", self._call_webhook, WEBHOOK, SECRET, *through)
        yield await self._step("reconciliation", self._check_reconciliation, "store", "rules", CREDENTIALS)
        if change:
            needs = ("store", "Port", "entity", "automation", "webhook", DESTINATIONS)
            yield await self._step("change", self._change, *needs)

    async def _step(self, name: str, work: Callable[[], Awaitable[str | Remark]], *needs: str) -> Finding:
        """Carry out a step; the error that it raises is the finding."""
        if missing := [need for need in needs if need not in self._passed]:
            return Finding(name, CheckStatus.NOT_LOOKED_AT, f"it needs {', '.join(missing)}")
        try:
            remark = await work()
        except ListenerError as error:
            return Finding(name, CheckStatus.WRONG, str(error))
        status, text = (CheckStatus.OK, remark) if isinstance(remark, str) else remark
        if status is not CheckStatus.NOT_LOOKED_AT:
            self._passed.add(name)
        return Finding(name, status, text)

    async def _check_settings(self) -> str:
        if self._setup.problems:
            raise ListenerError("\n".join(self._setup.problems))
        return ""

    async def _check_store(self) -> str | Remark:
        try:
            store = await self._stack.enter_async_context(present(self._setup.open_store)())
            await store.check(datetime.now(UTC))  # as /readyz does, beside a service that is running
        except NoDatabase as error:
            return CheckStatus.NOT_LOOKED_AT, f"{error}. The listener makes it when it first starts"
        except StoreUnavailable as error:
            advice = "Check DATABASE_URL, the rights of its file and folder, and the room on its disk"
            raise ListenerError(f"{error}. {advice}") from None
        self._store = store
        return ""

    async def _check_rules(self) -> str | Remark:
        rules, self._notifiers = await asyncio.to_thread(present(self._setup.load_rules))
        self._rules, self.secrets = rules, secrets_of(rules)
        for notifier in self._notifiers.values():
            self._stack.push_async_callback(notifier.close)
        names = ", ".join(rule.name for rule in rules.file.rules)
        hints = [hint.at(rules.name, "hint: ") for hint in rules.hints]
        return (CheckStatus.NOTE, "\n".join((names, *hints))) if hints else names

    async def _check_destinations(self, *, post: bool) -> AsyncIterator[Finding]:
        """Try each destination that alerts may go to, by the client that delivers."""
        if self._rules is None:
            yield Finding(DESTINATIONS, CheckStatus.NOT_LOOKED_AT, "it needs rules")
            return
        wrong = False
        for name in sorted(used_destinations(self._rules.file) & self._notifiers.keys()):
            work = partial(try_destination, self._notifiers[name], TEST_MESSAGE if post else "")
            finding = await self._step(f"destination {name}", work)
            wrong |= finding.status is CheckStatus.WRONG
            yield finding
        if not wrong:
            self._passed.add(DESTINATIONS)

    async def _check_clicks(self) -> str | Remark:
        return await check_clicks(present(self._setup.clicks), present(self._rules).file.slack.may_silence)

    async def _check_silences(self) -> str | Remark:
        now = datetime.now(UTC)
        silences = await present(self._store).read(queries.silences.silences, active_at=now)
        reasons = {silence.id: why_idle(silence, present(self._rules).file.rules) for silence in silences}
        idle = [f"silence {number} matches nothing: {reason}" for number, reason in reasons.items() if reason]
        return (CheckStatus.NOTE, "\n".join(idle)) if idle else f"{len(silences)} not ended yet"

    async def _compare(self) -> list[Finding]:
        """Compare the rules with Port: a finding for each kind of remark."""
        name, remarks = "rules in Port", list[Remark]()

        async def work() -> str:
            # Not the dry run's client, which would not search.
            async with present(self._setup.open_client)(dry_run=False) as client:
                remarks.extend(await compare(present(self._rules), client, self._setup.webhook_url))
            return "Port has the blueprints, properties, values, teams and automations"

        finding = await self._step(name, work, "rules", "Port")
        by_status = {status: [text for kind, text in remarks if kind is status] for status in CheckStatus}
        parts = [Finding(name, status, "\n".join(texts)) for status, texts in by_status.items() if texts]
        return parts or [finding]

    async def _check_reconciliation(self) -> str | Remark:
        if reason := self._setup.why_not_reconciled():
            text = f"nothing is reconciled with Port, so a change that Port never sends is missed: {reason}"
            return CheckStatus.NOTE, text
        runs = await present(self._store).read(queries.reconcile.runs, limit=MAX_RUNS)
        return judge(runs, datetime.now(UTC))

    async def _check_port(self) -> str:
        open_client = present(self._setup.open_client)
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
        step = present(planned)
        if any(entry.path == "publish" for entry in step.left):
            raise ListenerError(f"{step.identifier} is paused, so no change arrives: publish it in Port")
        if step.result is Result.UNCHANGED:
            return "\n".join((step.identifier, *render(step)[1:]))
        command = " --blueprint ".join(("python -m app bootstrap", *self._setup.blueprints))
        if _is_missing(step):
            raise ListenerError(f"{step.identifier} is not there. To make it: {command}")
        reasons = [WORDS[entry.path] for entry in step.difference if entry.path in WORDS]
        problem = " and ".join(reasons) or "it differs from what bootstrap makes"
        raise ListenerError(
            "\n".join((f"{step.identifier}: {problem}. To fix it: {command}", *render(step)[1:]))
        )

    async def _call_webhook(self) -> str | Remark:
        url, now, started = present(self._setup.webhook_url), datetime.now(UTC), time.monotonic()
        secret, network = present(self._setup.secret), self._setup.network
        try:
            await probe.send(url, secret, now, through_smee=self._smee, network=network)
        except SourceRefused as error:
            text = f"this listener answers at {url}, but {error}; try whether Port gets through with --change"
            return CheckStatus.NOTE, text
        if not self._smee:
            return f"this listener answers at {url}, after {time.monotonic() - started:.1f} s"
        store = present(self._store)

        async def arrived() -> bool | None:
            return await store.read(queries.changes.last_at, probe.PROBE, probe.PROBE) == now or None

        if not await wait_for(arrived, self._setup.patience_seconds):
            raise ListenerError(
                f"{url} took a change, but after {self._setup.patience_seconds:g} s it is not in this"
                " listener's store. Is the tunnel running (python -m app tunnel), and what does it print? Is"
                " the listener running (python -m app serve), with this DATABASE_URL?"
            )
        return f"a change came through {url} into the store, after {time.monotonic() - started:.1f} s"

    async def _change(self) -> str:
        async with present(self._setup.open_client)(dry_run=False) as client:
            return await RoundTrip(client, present(self._store), self._setup.patience_seconds).run()


def _is_missing(step: SetupStep | ListenerError) -> bool:
    return isinstance(step, SetupStep) and step.result is Result.CREATED
