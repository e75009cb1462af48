"""The kind "port_action": an alert starts a run of a self-service action in Port.

Rules: https://docs.port.io/api-reference/execute-a-self-service-action (the call),
https://docs.port.io/api-reference/port-api (answers)
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.errors import DeliveryFailed, PortError, Scope, SettingsError
from app.model.notification import Notification, one_line
from app.notifier.base import Notifier, Parcel, Sent
from app.notifier.kind import Kind, NotifierContext
from app.rules.destination import JOB_STEPS, DestinationSettings, Fallback, JobSteps, Routing

MAX_REASON_CHARS = 300

ACTION_UNUSABLE = frozenset({401, 403, 404, 410})  # whatever the inputs are
PORT_MAY_RECOVER = frozenset({408, 425, 429})


class PortActionDestination(DestinationSettings):
    """A run of a self-service action in Port. Texts in inputs may hold templates."""

    templates: ClassVar[tuple[str, ...]] = ("inputs", "entity")

    type: Literal["port_action"]
    fallback: Fallback | None = None
    action: Annotated[str, Field(min_length=1)]
    inputs: Annotated[dict[str, Any], Field(default_factory=dict)]
    entity: str | None = None
    steps: JobSteps = JOB_STEPS

    def routing(self) -> Routing:
        """Start runs in order, one at a time."""
        return Routing(steps=self.steps, fallback=self.fallback)


class PortActionNotifier(Notifier):
    """Starts a run of one self-service action, and waits for nothing that the run does.

    Port has no idempotency key: an attempt that is repeated because its answer got lost starts a second run.

    The connections are the client's, and stay open.

    Raises:
        SettingsError: Port's credentials are not configured.
    """

    def __init__(self, name: str, settings: PortActionDestination, context: NotifierContext) -> None:
        if context.port is None:
            raise SettingsError(f"destination {name!r} needs PORT_CLIENT_ID and PORT_CLIENT_SECRET")
        self._settings, self._context, self._port = settings, context, context.port

    async def send(self, parcel: Parcel) -> Sent:
        """Start the run; the detail is its id and its link, for a person.

        Raises:
            DeliveryFailed: No run was started, or it is not known whether one was.
        """
        template = {"inputs": self._settings.inputs, "entity": self._settings.entity}
        filled = await self._context.render(template, parcel.event)
        inputs, entity = filled["inputs"], filled["entity"]
        if entity is not None and not isinstance(entity, str):
            raise DeliveryFailed("the template of `entity` must give a text", Scope.MESSAGE)
        # Here, because in the middle of a request it would look like a fault of this program.
        try:
            json.dumps(inputs, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise DeliveryFailed("the inputs cannot be written as JSON", Scope.MESSAGE) from None
        try:
            run = await self._port.start_run(self._settings.action, inputs, entity)
        except PortError as error:
            raise failure_of(error) from None
        return Sent(f"run {run}: {self._context.app_url.rstrip('/')}/organization/run?runId={run}")


def failure_of(error: PortError) -> DeliveryFailed:
    """Turn a refusal of Port's into a failure, whose scope says what it means for the deliveries after it.

    - 401, 403, 404, 410, and each refusal to log in: the credentials or the action are not there or not
      allowed, which is so for every run. The destination is on hold.
    - Other 4xx, such as 422: Port refuses these inputs. This delivery is dead, the next may be good.
    - Everything else (408, 425, 429, 5xx, no answer, an answer that is not Port's) may pass. The queue waits,
      after a 429 for as long as Port asks; if the request was sent, the run may have started, and Port's
      client says so in its error.
    """
    refused = error.status is not None and 400 <= error.status < 500 and error.status not in PORT_MAY_RECOVER
    if error.status in ACTION_UNUSABLE or (refused and error.logging_in):
        scope = Scope.DESTINATION
    elif refused:
        scope = Scope.MESSAGE
    else:
        scope = Scope.TRANSIENT
    reason = f"{error.status} {error.said}" if error.status else error.said
    return DeliveryFailed(one_line(reason, MAX_REASON_CHARS), scope, error.retry_after)


async def _dry_run(
    settings: PortActionDestination, _: Notification, event: Mapping[str, Any], context: NotifierContext
) -> str:
    inputs = await context.render(settings.inputs, event)
    return f"run of {settings.action} with {json.dumps(inputs, ensure_ascii=False)}"


PORT_ACTION_KIND = Kind(PortActionDestination, PortActionNotifier, _dry_run)
