"""The command that looks at the whole way, from Port to Slack."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer

from app.cli.base import run
from app.cli.port import AtRegion, open_client, webhook_url
from app.doctor.steps import Verdict, Way, examine, render_finding
from app.errors import SettingsError
from app.notifier.registry import SETTINGS_MODELS
from app.port.client import PortClient
from app.port.region import Region, region_of
from app.port.setup.resources import SMEE_HOST
from app.receive.rulebook import make_rulebook, read_rules
from app.reconcile.configured import why_no_comparison
from app.rules.file import Rules
from app.settings import Settings, environment, load_settings
from app.store.opening import open_store

WHERE = {
    "PORT_CLIENT_ID": "in Port, the menu at your picture, Credentials, has it",
    "PORT_CLIENT_SECRET": "in Port, the menu at your picture, Credentials, has it",
    "SLACK_WEBHOOK_URL": "your Slack app's page, Incoming Webhooks, has it; without it alerts are printed",
}


def doctor(
    region: AtRegion = None,
    blueprint: Annotated[
        list[str] | None, typer.Option(help="Look only at the automation of this blueprint; repeatable.")
    ] = None,
    slack: Annotated[bool, typer.Option("--slack", help="Post a marked test message to Slack.")] = False,
    change: Annotated[
        bool, typer.Option("--change", help="Make Port send a change, there and back, and time its alert.")
    ] = False,
) -> None:
    """Walk the whole way from Port to Slack: for each step ok, or what is wrong and how to mend it."""
    if blueprint and change:
        raise typer.BadParameter("--change is about bootstrap's own entity: leave --blueprint out")
    way = _way(region, tuple(blueprint or ()))

    async def work() -> int:
        wrong = 0
        async for finding in examine(way, slack=slack, change=change):
            print("\n".join(render_finding(finding)), flush=True)
            wrong += finding.verdict is Verdict.WRONG
        return wrong

    wrong = run(work())
    print(f"\nSteps that are wrong: {wrong}." if wrong else "\nThe whole way is well.")
    raise typer.Exit(1 if wrong else 0)


def _way(region: Region | None, blueprints: tuple[str, ...]) -> Way:
    unusable: list[str] = []
    try:
        settings = load_settings()
    except SettingsError as error:
        unusable = str(error).splitlines()
        try:
            settings = load_settings(accept_unsigned=True)  # without a secret there is much to look at still
        except SettingsError:
            return Way(problems=unusable)
    named = {line.partition(" ")[0] for line in unusable}
    more = (line for line in what_is_wrong(settings, region) if line.partition(" ")[0] not in named)

    def load_rules() -> Rules:
        return read_rules(settings.rules_file, environment(), SETTINGS_MODELS)

    def open_port(dry_run: bool) -> PortClient:
        return open_client(settings, region, dry_run=dry_run)

    secret, slack = settings.port_client_secret, settings.slack_webhook_url
    return Way(
        problems=[*unusable, *more],
        open_store=lambda: open_store(*settings.database),
        load_rules=lambda: [
            rule.name for rule in read_rules(settings.rules_file, environment(), SETTINGS_MODELS).file.rules
        ],
        not_compared=lambda: why_no_comparison(
            settings.reconcile_minutes,
            settings.missing_credential,
            make_rulebook(load_rules().file),
        ),
        open_client=open_port if settings.port_client_id and secret else None,
        secret=secret.get_secret_value() if secret else None,
        webhook_url=webhook_url(settings) if settings.webhook_url or settings.smee_url else None,
        slack_webhook_url=slack.get_secret_value() if slack else None,
        blueprints=blueprints,
    )


def what_is_wrong(settings: Settings, region: Region | None = None) -> Iterator[str]:
    """Yield what will not work, of settings that can be read, and how to mend it.

    Args:
        settings: The configuration.
        region: The region that is given on the command line; it wins over the settings.
    """
    for name, where in WHERE.items():
        # A rules file may name all its destinations itself.
        optional = name == "SLACK_WEBHOOK_URL" and settings.rules_file
        if getattr(settings, name.lower()) is None and not optional:
            yield f"{name} is not set: {where}"
    api = region.api_url if region else str(settings.port_api_url)
    yield from _wrong_address(settings, api)
    slack = settings.slack_webhook_url
    urls = {
        "PORT_API_URL": api,
        "WEBHOOK_URL": str(settings.webhook_url or ""),
        "SMEE_URL": str(settings.smee_url or ""),
        "SLACK_WEBHOOK_URL": slack.get_secret_value() if slack else "",
    }
    for name, url in urls.items():
        if url.startswith("http:") and not _is_here(url):
            yield f"{name} begins with http: all on the way can read along. Make it begin with https:"
    asked, linked = region_of(_host(api)), region_of(_host(str(settings.port_app_url)))
    if asked and linked and asked is not linked:
        yield (
            f"The alerts link to the {linked.upper()} region, but Port is asked in the {asked.upper()}"
            f" region: the links lead nowhere. Set PORT_REGION={asked} and no PORT_APP_URL"
        )


def _wrong_address(settings: Settings, api: str) -> Iterator[str]:
    """Yield what is wrong with the address that Port is to call."""
    try:
        address = webhook_url(settings)
    except SettingsError as error:
        yield str(error)
        return
    if settings.webhook_url and _host(str(settings.webhook_url)) == SMEE_HOST and not settings.smee_url:
        yield "WEBHOOK_URL is a channel of smee: put it into SMEE_URL, where tunnel looks for it too"
    if _is_here(address) and not _is_here(api):
        name = "WEBHOOK_URL" if settings.webhook_url else "SMEE_URL"
        yield (
            f"{name} is an address of this machine or network, which Port cannot reach from outside. To try"
            " things out, SMEE_URL can be a channel of smee.io (python -m app tunnel --new)"
        )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_here(url: str) -> bool:
    host = _host(url)
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
