"""The commands to try the listener out."""

from datetime import UTC, datetime
from typing import Annotated

import httpx
import typer

from app.cli.base import OUT, json_or_text, run, say
from app.demo.run import Shape, change_body, run_demo, signed_headers
from app.environment import environment
from app.errors import ListenerError
from app.main import create_app
from app.model.notification import one_line
from app.network import Network
from app.observe.logs import configure_logging
from app.observe.metrics import prepare_metrics
from app.port.refusal import UNREACHED, why_unreached
from app.port.setup.probe import MEANINGS
from app.receive.event import WEBHOOK_PATH
from app.settings import load_settings

SEND_SECONDS = 10.0


def demo(
    changes: Annotated[int, typer.Option(min=1, help="How many changes to send.")] = 5,
    exit_: Annotated[bool, typer.Option("--exit", help="End when the alerts have arrived.")] = False,
) -> None:
    """Show the main job without any account: the real listener between a fake Port and a fake Slack."""
    configure_logging("WARNING", "text")
    environment()  # refused now, and in one sentence, if it cannot be used
    prepare_metrics()
    complete = run(run_demo(create_app, count=changes, stay=not exit_, console=OUT))
    raise typer.Exit(0 if complete else 1)


def send(
    url: Annotated[
        str, typer.Option(help="The listener's address, or its webhook's if that is another.")
    ] = "http://127.0.0.1:8080/api/slack",
    entity: Annotated[str, typer.Option(help="The entity's identifier.")] = "notification-service-prod",
    blueprint: Annotated[str, typer.Option(help="The entity's blueprint.")] = "deploymentConfig",
    name: Annotated[str, typer.Option("--property", help="The property that changes.")] = "healthStatus",
    from_: Annotated[
        str, typer.Option("--from", help="Its value before; JSON where it is: 95, true, [1].")
    ] = "Healthy",
    to: Annotated[str, typer.Option(help="Its value after.")] = "Degraded",
    shape: Annotated[Shape, typer.Option(help="Which of Port's bodies to send.")] = Shape.AUTOMATION,
) -> None:
    """Sign one change as Port would, and post it to a running listener."""
    settings = load_settings(only=("port_client_secret", "port_previous_client_secret"))
    if not url.startswith(("http://", "https://")):
        raise ListenerError(
            f"--url {one_line(url, 100)} is not an address: it must begin with http:// or https://"
        )
    if "/" not in url.partition("://")[2].rstrip("/"):
        url = url.rstrip("/") + WEBHOOK_PATH
    now = datetime.now(UTC)
    body = change_body(
        before=json_or_text(from_),
        after=json_or_text(to),
        at=now,
        blueprint=blueprint,
        name=name,
        entity=entity,
        title=None,
        shape=shape,
    )
    headers = signed_headers(body, settings.secrets[0] if settings.secrets else "unsigned", now)
    say(f"{entity}: {from_} → {to}, as {shape}, {len(body)} bytes, to {url} …")
    try:
        answer = httpx.post(
            url, content=body, headers=headers, timeout=SEND_SECONDS, **Network(environment()).httpx(url)
        )
    except httpx.TimeoutException:
        raise ListenerError(f"no answer from {url} within {SEND_SECONDS:.0f} s") from None
    except UNREACHED as error:
        raise ListenerError(
            f"cannot reach {url}: {why_unreached(error)}. Is the listener running? (python -m app serve)"
        ) from None
    if answer.status_code != httpx.codes.ACCEPTED:
        meaning = MEANINGS.get(answer.status_code, "this is not an answer of the listener")
        answered = one_line(answer.text, 300)
        raise ListenerError(f"refused with {answer.status_code}: {meaning}. Its answer: {answered}")
    try:
        receipt = answer.json()
        alerts = receipt["alerts"]
        print(f"accepted: {alerts} alert{'' if alerts == 1 else 's'}, change {receipt['change']}")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ListenerError(f"{url} answers 202, but not as this listener does") from None
