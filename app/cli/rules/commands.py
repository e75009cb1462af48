"""The commands about rules: check them, and try them on bodies and on stored changes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.json_schema import JsonSchemaMode

from app.cli.base import OUT, Noun, json_or_text, run, run_with_store, say
from app.cli.port import AtRegion, open_client, webhook_url
from app.cli.rules.backtest import backtest
from app.cli.rules.listing import AnyVariable, list_rules, show_rule
from app.deliver.message import with_own_words
from app.doctor.compare import compare
from app.doctor.finding import CheckStatus, exit_status
from app.environment import environment
from app.errors import DeliveryFailed, ListenerError, SettingsError, UnreadableChange
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.incident import CATALOG_QUEUES, Step
from app.model.notification import one_line
from app.notifier.alert_body import AlertBody
from app.notifier.base import Item, duration
from app.notifier.console import draw
from app.notifier.kind import NotifierContext
from app.notifier.registry import SETTINGS_MODELS, default_settings, kind_of
from app.observe.logs import Hider
from app.port.region import Region
from app.receive.payload import bare_event, parse_event, with_properties
from app.receive.routing import match_and_route
from app.receive.rules_source import make_rulebook, read_rules, secrets_of
from app.receive.signature import Signed
from app.rules.decide import EntityState, decide
from app.rules.file import Rules, file_model
from app.rules.match import why_not
from app.rules.rulebook import Rulebook
from app.rules.targets import PortLookup
from app.runtime.configured import load_usable, with_rules
from app.settings import Settings, load_settings
from app.store import queries
from app.store.opening import now
from app.store.store import Store
from app.suite.model import SuiteFile

APP_URL = "https://app.port.io"

HELP = (
    "The rules: which changes alert, and where. They are read from a file of this machine: a listener"
    " elsewhere does not show its own, since values of its environment may stand in them."
)
rules = typer.Typer(cls=Noun, help=HELP)

File = Annotated[Path, typer.Argument(help="The rules file.")]
NoEnv = Annotated[
    bool, typer.Option("--no-env", help="Without the variables that ${NAME} stands for, as in CI.")
]


@rules.command()
def check(
    file: File,
    no_env: NoEnv = False,
    port: Annotated[
        bool,
        typer.Option("--port", help="Also compare with Port: what the rules name must be there."),
    ] = False,
    region: AtRegion = None,
) -> None:
    """Print every mistake in a rules file, as a start with it would; status 1 if there is any.

    Hints, about what is hardly meant so, are no mistakes. With --port, 3: something was not looked at.
    """
    if no_env and port:
        raise typer.BadParameter("--port needs the variables: leave --no-env out")
    if no_env:
        loaded = read_rules(file, AnyVariable(), SETTINGS_MODELS)
    else:
        loaded, _ = load_usable(_settings(file))
    for hint in loaded.hints:
        say(hint.at(loaded.name, "hint: "))
    counted = run(_compare(loaded, _settings(file), region)) if port else Counter[CheckStatus]()
    if not counted[CheckStatus.WRONG]:
        parts = f"{len(loaded.file.rules)} rules, {len(loaded.file.destinations)} destinations"
        say(f"{file}: {parts}, no mistakes")
    raise typer.Exit(exit_status(counted))


def _settings(file: Path) -> Settings:
    """Read the settings that a start with this file would have; the secret of changes is not needed here."""
    try:
        return load_settings(rules_file=file)
    except SettingsError:
        try:
            return load_settings(rules_file=file, accept_unsigned=True)
        except SettingsError as error:
            raise with_rules(error, rules_file=file, accept_unsigned=True) from None


async def _compare(loaded: Rules, settings: Settings, region: Region | None) -> Counter[CheckStatus]:
    address = webhook_url(settings) if settings.webhook_url or settings.smee_url else None
    async with open_client(settings, region) as client:
        remarks = await compare(loaded, client, address)
    for status, text in remarks:
        say(f"{text}" if status is CheckStatus.WRONG else f"{status}: {text}")
    return Counter(status for status, _ in remarks)


@rules.command()
def schema(
    suite: Annotated[bool, typer.Option("--suite", help="That of suites.")] = False,
    alert: Annotated[bool, typer.Option("--alert", help="That of an alert as jobs get it.")] = False,
) -> None:
    """Print the JSON Schema of the format, for editors."""
    model = SuiteFile if suite else AlertBody if alert else file_model(SETTINGS_MODELS)
    mode: JsonSchemaMode = "serialization" if alert else "validation"
    print(json.dumps(model.model_json_schema(mode=mode), indent=2, ensure_ascii=False))


@rules.command("test")
def try_out(
    file: Annotated[Path, typer.Argument(help="The rules file; with --suite, a suite.")],
    payload: Annotated[
        list[Path] | None,
        typer.Argument(help="Files with one body each, as Port sends it; with --suite, more suites."),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option(help="The key of a stored change, in place of a file; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A property's value after the change: healthStatus=Crashed; of a run a field's; repeatable.",
        ),
    ] = None,
    no_env: NoEnv = False,
    suite: Annotated[bool, typer.Option("--suite", help="Run suites: tests of rules, as files.")] = False,
    junit: Annotated[
        Path | None, typer.Option(help="With --suite: also write the results here, as JUnit's XML.")
    ] = None,
) -> None:
    """Try rules on bodies: which match and why, and what they would send. Nothing is sent.

    With --suite: 0, all holds that the suites expect; 1, something does not; 2, a file is wrong.
    """
    if suite:
        if change or set_:
            raise typer.BadParameter("--change and --set are not for suites")
        from app.cli.rules.suite import run_files

        raise typer.Exit(run_files([file, *(payload or ())], junit))
    if junit is not None:
        raise typer.BadParameter("--junit needs --suite")
    if not payload and not change:
        raise typer.BadParameter(
            "give one body at least, or --change; a suite needs --suite", param_hint="PAYLOAD…"
        )
    loaded = read_rules(file, AnyVariable() if no_env else environment(), SETTINGS_MODELS)
    bodies = [(str(path), _read(path)) for path in payload or ()]
    if change:
        bodies += run_with_store(lambda store: _stored(store, change))
    bodies = [(name, with_values(body, set_ or ())) for name, body in bodies]

    async def work() -> None:
        jq = Jq()
        try:
            for name, body in bodies:
                await _try(loaded, name, body, jq)
        finally:
            await jq.close()

    run(work())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListenerError(f"cannot read {path}: {error.strerror}") from None


async def _stored(store: Store, keys: Sequence[str]) -> list[tuple[str, bytes]]:
    bodies = {key: await store.read(queries.changes.body, key) for key in keys}
    if missing := [key for key, body in bodies.items() if body is None]:
        raise ListenerError(f"no change is stored with the key {', '.join(missing)}: the page has the keys")
    return [(key, body or b"") for key, body in bodies.items()]


def with_values(body: bytes, assigned: Sequence[str]) -> bytes:
    """Change properties of a body's entity as it is after the change.

    Args:
        body: As Port sends it.
        assigned: ``NAME=VALUE``; the value as JSON, or else as it stands.

    Raises:
        ListenerError: The body has no entity after the change, or a text assigns nothing.
    """
    if not assigned:
        return body
    properties: dict[str, Any] = {}
    for text in assigned:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ListenerError(f"--set {one_line(text, 60)} must be NAME=VALUE")
        properties[name] = json_or_text(value)
    try:
        return with_properties(body, properties)
    except UnreadableChange as error:
        raise ListenerError(f"--set needs a body with an entity after the change: {error}") from None


async def _try(loaded: Rules, name: str, body: bytes, jq: Jq) -> None:
    say(f"{name}:")
    try:
        change = parse_event(Signed(body, now()))
    except UnreadableChange as error:
        say(f"  not a change: {error}")
        return
    book = make_rulebook(loaded.file)
    matched = await match_and_route(change, body, book, jq.evaluate, _no_lookup)
    matching = {hit.rule.name for hit in matched.hits if hit.matches}
    event = bare_event(body)
    results = await jq.evaluate(book.rules.programs(change.blueprint, change.resource), event)
    for rule in book.rules.about(change.blueprint, change.resource):
        outcome = "matches" if rule.name in matching else f"does not match: {why_not(rule, change, results)}"
        say(f"  rule {rule.name!r} {outcome}")
    for kin in (hit.kin for hit in matched.hits if hit.kin and hit.matches):
        for tie in kin.ties(None):
            where = f"{tie.blueprint} {one_line(tie.entity)}"
            counts = (
                f"counts in the group {where}"
                if tie.counts_from is not None
                else f"is quiet while {where} has an incident"
            )
            say(f"  rule {kin.rule.name!r} {counts} of rule {tie.rule!r}")
    if not matching:
        say(f"  {matched.reason}")
    # As of when it happened: for an old body, the time for which a rule waits would otherwise be over.
    for alert in decide(matched, EntityState(), change.at).alerts:
        if alert.notification.step is Step.ESCALATED and alert.repeat is not None:
            say(f"  → {alert.destination} after {duration(alert.repeat)}, unless it is acknowledged")
        elif alert.repeat is None:
            await _show(alert, loaded, book, jq, event)


async def _show(alert: Alert, loaded: Rules, book: Rulebook, jq: Jq, event: Mapping[str, Any]) -> None:
    later = f", if it still holds at {alert.due_at:%H:%M:%S} UTC" if alert.due_at else ""
    at = alert.due_at or alert.notification.at
    if held := book.held(alert.notification, alert.destination, at):
        later += f", held until {held[1]:%Y-%m-%d %H:%M} UTC, when hours {held[0]} begin"
    place = f", {one_line(alert.queue)}" if alert.queue.startswith(CATALOG_QUEUES) else ""
    say(f"  → {alert.destination}{place}{later}:")
    settings = loaded.file.destinations.get(alert.destination) or default_settings("")
    notification = await with_own_words(alert.notification, book.rules, event, jq)
    item = Item("dry-run", notification, incident_id=alert.incident_id)
    try:
        output = await kind_of(settings.type).dry_run(settings, item, event, _context(jq))
    except DeliveryFailed as error:
        output = str(error)
    output = Hider(secrets_of(loaded))(output)
    if isinstance(output, str):
        say(f"    {output}")
    else:
        OUT.print(draw(output))


def _context(jq: Jq) -> NotifierContext:
    """Make the context of a dry run: nothing is sent, so that it has no secrets and no client."""
    return NotifierContext(
        app_url=APP_URL,
        page_url=None,
        default_webhook="",
        bot_token="",
        slack_api_url="",
        port=None,
        fate=None,
        render=jq.render,
        clock=now,
    )


async def _no_lookup(_: CatalogChange, __: PortLookup) -> Sequence[object]:
    print("  (Port is not asked here: a look-up goes to the default destination)")
    return ()


rules.command()(backtest)
rules.command("list")(list_rules)
rules.command("show")(show_rule)
