"""The commands that set Port up."""

import sys
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from app.cli.base import run
from app.environment import environment
from app.errors import SettingsError
from app.network import Network
from app.port.client import PortClient
from app.port.region import Region
from app.port.setup.bootstrap import Plan
from app.port.setup.bootstrap import bootstrap as carry_out
from app.port.setup.recipe import RecipeNeeds, read_recipe
from app.port.setup.resources import webhook_address
from app.port.setup.steps import render, render_requests
from app.port.setup.tunnel import new_channel, run_tunnel
from app.settings import Settings, load_settings

FOR_PORT = (
    "port_client_id",
    "port_client_secret",
    "port_region",
    "port_api_url",
    "webhook_url",
    "smee_url",
)
"""The settings that setting Port up uses."""

AtRegion = Annotated[
    Region | None, typer.Option(help="Port's region; wins over PORT_REGION and PORT_API_URL.")
]


def open_client(settings: Settings, region: Region | None, *, dry_run: bool = False) -> PortClient:
    """Make a client for the configured organization.

    Raises:
        SettingsError: The credentials are not configured.
    """
    secret = settings.port_client_secret
    if settings.port_client_id is None or secret is None:
        missing = settings.missing_credential
        raise SettingsError(f"{missing} is not set: find it in Port, the menu at your picture, Credentials")
    return PortClient(
        region.api_url if region else str(settings.port_api_url),
        settings.port_client_id,
        secret.get_secret_value(),
        clock=lambda: datetime.now(UTC),
        dry_run=dry_run,
        progress=lambda line: print(line, file=sys.stderr),
        network=Network(environment()),
    )


def webhook_url(settings: Settings) -> str:
    """Return the listener's address for Port: WEBHOOK_URL, or the smee channel.

    Raises:
        SettingsError: None is configured.
    """
    url = settings.webhook_url or settings.smee_url
    if url is None:
        raise SettingsError(
            "WEBHOOK_URL is not set: set it to this listener's public address, or, on your own machine,"
            " SMEE_URL to a channel (python -m app tunnel --new makes one)"
        )
    return webhook_address(str(url), str(settings.smee_url or ""))


def bootstrap(
    region: AtRegion = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the requests, change nothing.")] = False,
    blueprint: Annotated[
        list[str] | None,
        typer.Option(help="Only the automation of this blueprint, which must exist; repeatable."),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="Only the automation of this self-service action's runs; repeatable."),
    ] = None,
    timer: Annotated[
        list[str] | None, typer.Option(help="Also the automation of this timer property; repeatable.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Only the automations of this recipe: its name in docs/recipes, or a folder."),
    ] = None,
    with_changelog_destination: Annotated[
        bool, typer.Option("--with-changelog-destination", help="For organizations that still have it.")
    ] = False,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report",
            help="Let runs in Port show the result of their change; neither option: leave it as it is.",
        ),
    ] = None,
    agent: Annotated[
        bool | None,
        typer.Option(
            "--agent/--no-agent",
            help="Let Port's agent call the listener, which Port need not reach then; neither: leave it.",
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what bootstrap made, and only that.")
    ] = False,
) -> None:
    """Make what the listener needs in Port; change only what is missing or keeps changes from arriving."""
    if recipe is not None and (blueprint or action or timer):
        raise typer.BadParameter("--recipe says itself which blueprints, actions and timers it needs")
    needs = RecipeNeeds(blueprint=blueprint or [], action=action or [], timer=timer or [])
    needs = needs if recipe is None else read_recipe(recipe)
    settings = load_settings(only=FOR_PORT)
    plan = Plan(
        webhook_url(settings),
        blueprints=tuple(needs.blueprint),
        actions=tuple(needs.action),
        timers=tuple(needs.timer),
        changelog_destination=with_changelog_destination,
        report=report,
        agent=agent,
        remove=remove,
    )

    async def work() -> None:
        async with open_client(settings, region, dry_run=dry_run) as client:
            async for step in carry_out(client, plan):
                print("\n".join(render(step, dry_run=dry_run)), flush=True)
            if dry_run:
                print("\n".join(render_requests(client.planned)))

    run(work())


def tunnel(
    new: Annotated[bool, typer.Option("--new", help="Ask smee.io for a new channel first.")] = False,
    to: Annotated[str, typer.Option(help="The listener's address.")] = "http://127.0.0.1:8080/api/slack",
) -> None:
    """Forward what Port sends to a smee channel to the listener on this machine. For development only."""
    network = Network(environment())
    source = new_channel(network=network) if new else load_settings(only=("smee_url",)).smee_url
    if source is None:
        raise SettingsError("SMEE_URL is not set: set it to your channel, or let --new make one")
    if new:
        print(f"Your channel, for SMEE_URL in .env: {source}", flush=True)
    try:
        run_tunnel(str(source), to, partial(print, flush=True), network=network)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
