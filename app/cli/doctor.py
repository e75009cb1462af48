"""The command that checks each step from Port to Slack."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from app.cli.base import run
from app.cli.port import AtRegion, open_client, webhook_url
from app.doctor.clicks import ClickSetup
from app.doctor.finding import CheckStatus, exit_status, render_finding, summary
from app.doctor.steps import Setup, examine
from app.environment import environment
from app.errors import RulesError, SettingsError
from app.network import Network
from app.port.region import Region, region_of
from app.port.setup.resources import SMEE_HOST
from app.receive.event import WEBHOOK_PATH
from app.receive.rules_source import make_rulebook
from app.reconcile.health import why_off
from app.runtime.configured import configured_rules, load_usable, with_rules
from app.settings import Settings, load_settings
from app.store.opening import open_store

WHERE_TO_FIND = {
    "PORT_CLIENT_ID": "find it in Port: the menu at your picture, Credentials",
    "PORT_CLIENT_SECRET": "find it in Port: the menu at your picture, Credentials",
    "SLACK_WEBHOOK_URL": "find it on your Slack app's page, Incoming Webhooks; without it alerts are printed",
}


def doctor(
    region: AtRegion = None,
    blueprint: Annotated[
        list[str] | None, typer.Option(help="Check only the automation of this blueprint; repeatable.")
    ] = None,
    slack: Annotated[
        bool, typer.Option("--slack", help="Post a marked test message to each Slack channel in use.")
    ] = False,
    change: Annotated[
        bool,
        typer.Option("--change", help="Let Port send two changes of bootstrap's entity, and time them."),
    ] = False,
) -> None:
    """Check each step from Port to Slack, and say how to fix what fails.

    Status 0: all is ok, or has a note; 1: something is wrong; 3: something was not looked at.
    """
    if blueprint and change:
        raise typer.BadParameter("--change is about bootstrap's own entity: leave --blueprint out")
    setup = make_setup(region, tuple(blueprint or ()))

    async def work() -> Counter[CheckStatus]:
        counted: Counter[CheckStatus] = Counter()
        async for finding in examine(setup, slack=slack, change=change):
            print("\n".join(render_finding(finding)), flush=True)
            counted[finding.status] += 1
        return counted

    counted = run(work())
    print(f"\n{summary(counted)}")
    options = {"posting to Slack (--slack)": slack, "a change in Port (--change)": change}
    if untried := [name for name, tried in options.items() if not tried]:
        print(f"Not tried without being asked: {', '.join(untried)}.")
    raise typer.Exit(exit_status(counted))


def make_setup(region: Region | None, blueprints: tuple[str, ...]) -> Setup:
    """Collect what the doctor checks from the settings; settings that cannot be read are its problems."""
    unusable: list[str] = []
    try:
        settings = load_settings()
    except SettingsError as error:
        unusable = str(error).splitlines()
        try:
            settings = load_settings(accept_unsigned=True)  # without a secret there is still much to check
        except SettingsError as error:
            refused = with_rules(error)
            if isinstance(refused, RulesError):
                return Setup(problems=unusable, load_rules=partial(_refuse, refused))
            return Setup(problems=unusable)
    named = {line.partition(" ")[0] for line in unusable}
    more = (line for line in what_is_wrong(settings, region) if line.partition(" ")[0] not in named)
    secret = settings.port_client_secret
    return Setup(
        problems=[*unusable, *more],
        open_store=lambda: open_store(*settings.database, must_exist=True),
        load_rules=partial(load_usable, settings),
        why_not_reconciled=lambda: why_off(
            settings.reconcile_minutes,
            settings.missing_credential,
            make_rulebook(configured_rules(settings).file),
        ),
        open_client=partial(open_client, settings, region) if settings.port_client_id and secret else None,
        secret=secret.get_secret_value() if secret else None,
        webhook_url=webhook_url(settings) if settings.webhook_url or settings.smee_url else None,
        blueprints=blueprints,
        clicks=_click_setup(settings),
        network=Network(environment()),
    )


def _click_setup(settings: Settings) -> ClickSetup | None:
    secrets = (settings.slack_bot_token, settings.slack_app_token, settings.slack_signing_secret)
    if not any(secrets):
        return None
    bot, app, signing = (secret.get_secret_value() if secret else "" for secret in secrets)
    url = str(settings.webhook_url or "").rstrip("/").removesuffix(WEBHOOK_PATH)
    return ClickSetup(bot, app, signing, str(settings.slack_api_url), url, Network(environment()))


def _refuse(refused: RulesError) -> NoReturn:
    raise RulesError(refused.name, refused.mistakes)  # without the settings, which are a step of their own


def what_is_wrong(settings: Settings, region: Region | None = None) -> Iterator[str]:
    """Yield what will not work although the settings can be read; a `region` wins over theirs."""
    for name, where in WHERE_TO_FIND.items():
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
            yield f"{name} begins with http: anyone on the network can read it. Make it begin with https:"
    asked, linked = region_of(_host(api)), region_of(_host(str(settings.port_app_url)))
    if asked and linked and asked is not linked:
        yield (
            f"The alerts link to the {linked.upper()} region, but Port is asked in the {asked.upper()}"
            f" region: the links do not work. Set PORT_REGION={asked} and no PORT_APP_URL"
        )


def _wrong_address(settings: Settings, api: str) -> Iterator[str]:
    """Yield what is wrong with the listener's address for Port."""
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
