"""The kind "http": a job at an HTTP address, or a program that is to know."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from app.model.notification import Notification
from app.notifier.base import Notifier
from app.notifier.http.notifier import HttpNotifier
from app.notifier.kind import Kind, NotifierContext
from app.rules.destination import JOB_STEPS, Address, DestinationSettings, Fallback, JobSteps, Routing

HTTP_QUEUES = 8  # jobs take seconds; so many run at once unless the destination says otherwise


class HttpDestination(DestinationSettings):
    """A job at an HTTP address. Texts in url, headers and body may hold templates: jq in `{{ }}`."""

    templates: ClassVar[tuple[str, ...]] = ("url", "headers", "body")

    type: Literal["http"]
    fallback: Fallback | None = None
    url: Address
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    headers: Annotated[dict[str, SecretStr], Field(default_factory=dict)]
    body: Any = None
    secret: SecretStr | None = None
    allow_private: bool = False
    queues: Annotated[int, Field(ge=1, le=64)] = HTTP_QUEUES
    steps: JobSteps = JOB_STEPS

    def routing(self) -> Routing:
        """Spread over several queues: a job for one entity does not wait for another entity's."""
        return Routing(queues=self.queues, steps=self.steps, fallback=self.fallback)


def _make(_: str, settings: HttpDestination, context: NotifierContext) -> Notifier:
    return HttpNotifier(
        method=settings.method,
        url=settings.url.get_secret_value(),
        headers={name: value.get_secret_value() for name, value in settings.headers.items()},
        body=settings.body,
        secret=settings.secret.get_secret_value() if settings.secret else None,
        allow_private=settings.allow_private,
        render=context.render,
        clock=context.clock,
    )


async def _dry_run(
    settings: HttpDestination, _: Notification, event: Mapping[str, Any], context: NotifierContext
) -> str:
    body = await context.render(settings.body, event)
    return f"{settings.method} {json.dumps(body, ensure_ascii=False)}"


HTTP_KIND = Kind(HttpDestination, _make, _dry_run)
