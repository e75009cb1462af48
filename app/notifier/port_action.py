"""The kind "port_action": an alert starts a run of a self-service action in Port.

Rules: https://docs.port.io/api-reference/execute-a-self-service-action (the call),
https://docs.port.io/api-reference/port-api (answers)
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.errors import DeliveryFailed, PortError, Scope, SettingsError
from app.model.notification import Notification, one_line
from app.notifier.base import Notifier, Parcel, Sent
from app.notifier.kind import Kind, NotifierContext, Render
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


class PortActionNotifier:
    """Starts a run of one self-service action, and waits for nothing that the run does.

    Port has no idempotency key: an attempt that is repeated because its answer got lost starts a second run.

    Args:
        action: The action's identifier.
        inputs: The action's user inputs by name; values are templates.
        entity: The entity that the action is about, a template; None for an action that is about none.
        start_run: Starts a run of an action with inputs, on an entity or none, and returns its id; raises
            `PortError`. Its connections are for others to close.
        run_url: Gives the address of a run's page.
        render: Fills templates.
    """

    pause = timedelta(0)
    batch_limit = 1  # a run is about one alert

    def __init__(
        self,
        *,
        action: str,
        inputs: Mapping[str, Any],
        start_run: Callable[[str, Mapping[str, Any], str | None], Awaitable[str]],
        run_url: Callable[[str], str],
        render: Render,
        entity: str | None = None,
    ) -> None:
        self._action = action
        self._template = {"inputs": dict(inputs), "entity": entity}
        self._start_run = start_run
        self._run_url = run_url
        self._render = render

    async def send(self, parcel: Parcel) -> Sent:
        """Start the run; the detail is its id and its link, for a person.

        Args:
            parcel: One alert, of which only Port's bare event is used: the inputs are filled from it.

        Raises:
            DeliveryFailed: No run was started, or it is not known whether one was.
        """
        filled = await self._render(self._template, parcel.event)
        inputs, entity = filled["inputs"], filled["entity"]
        if entity is not None and not isinstance(entity, str):
            raise DeliveryFailed("the template of `entity` must give a text", Scope.MESSAGE)
        # Here, because in the middle of a request it would look like a fault of this program.
        try:
            json.dumps(inputs, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise DeliveryFailed("the inputs cannot be written as JSON", Scope.MESSAGE) from None
        try:
            run = await self._start_run(self._action, inputs, entity)
        except PortError as error:
            raise failure_of(error) from None
        return Sent(f"run {run}: {self._run_url(run)}")

    async def close(self) -> None:
        """Leave the connections open: they are the client's."""


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


def _make(name: str, settings: PortActionDestination, context: NotifierContext) -> Notifier:
    if context.port is None:
        raise SettingsError(f"destination {name!r} needs PORT_CLIENT_ID and PORT_CLIENT_SECRET")
    return PortActionNotifier(
        action=settings.action,
        inputs=settings.inputs,
        entity=settings.entity,
        start_run=context.port.start_run,
        run_url=lambda run: f"{context.app_url.rstrip('/')}/organization/run?runId={run}",
        render=context.render,
    )


async def _dry_run(
    settings: PortActionDestination, _: Notification, event: Mapping[str, Any], context: NotifierContext
) -> str:
    inputs = await context.render(dict(settings.inputs), event)
    return f"run of {settings.action} with {json.dumps(inputs, ensure_ascii=False)}"


PORT_ACTION_KIND = Kind(PortActionDestination, _make, _dry_run)
