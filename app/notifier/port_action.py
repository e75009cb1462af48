"""The kind "port_action": an alert starts a run of a self-service action in Port.

Rules: https://docs.port.io/api-reference/execute-a-self-service-action (the call),
https://docs.port.io/api-reference/port-api (answers)
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.errors import DeliveryFailed, PortError, Scope, SettingsError
from app.model.notification import one_line
from app.notifier.alert_body import alert_event
from app.notifier.base import Item, Notifier, Parcel, Sent, Tried
from app.notifier.failure import failure_of_status
from app.notifier.kind import Kind, NotifierContext
from app.rules.destination import JOB_STEPS, DestinationSettings, Fallback, JobSteps, Routing

MAX_REASON_CHARS = 300
NOT_JSON = "the inputs cannot be written as JSON"


class PortActionDestination(DestinationSettings):
    """A run of a self-service action in Port. Texts in inputs may hold templates."""

    templates: ClassVar[tuple[str, ...]] = ("inputs", "entity")

    type: Literal["port_action"]
    """The kind of destination."""
    fallback: Fallback | None = None
    action: Annotated[str, Field(min_length=1)]
    """The action's identifier."""
    inputs: Annotated[dict[str, Any], Field(default_factory=dict)]
    """The action's user inputs by name; texts in them may be templates."""
    entity: str | None = None
    """A template: the entity that the run is about, for an action that needs one."""
    steps: JobSteps = JOB_STEPS

    def routing(self) -> Routing:
        """Start runs in order, one at a time."""
        return Routing(steps=self.steps, fallback=self.fallback)


class PortActionNotifier(Notifier):
    """Starts a run of one self-service action, and waits for nothing that the run does.

    Port has no idempotency key: an attempt that is repeated because its answer got lost starts a second run.

    The connections are the client's, and stay open.

    Raises:
        SettingsError: Port's credentials are not configured, or the inputs can never be sent.
    """

    def __init__(self, _: str, settings: PortActionDestination, context: NotifierContext) -> None:
        if context.port is None:
            raise SettingsError("action: needs PORT_CLIENT_ID and PORT_CLIENT_SECRET")
        if not _is_json(settings.inputs):  # what no template changes, as .inf
            raise SettingsError(f"inputs: {NOT_JSON}")
        self._settings, self._context, self._port = settings, context, context.port

    async def prepare(self, parcel: Parcel) -> Parcel:
        """Fill in the inputs and the entity; raises `DeliveryFailed` where a template fails."""
        template = {"inputs": self._settings.inputs, "entity": self._settings.entity}
        event = alert_event(parcel.event, parcel.items[0], self._context)
        return replace(parcel, filled=await self._context.render(template, event))

    async def send(self, parcel: Parcel) -> Sent:
        """Start the run; the detail is its id and its link, for a person.

        Raises:
            DeliveryFailed: No run was started, or it is not known whether one was.
        """
        inputs, entity = parcel.filled["inputs"], parcel.filled["entity"]
        if entity is not None and not isinstance(entity, str):
            raise DeliveryFailed("the template of `entity` must give a text", Scope.MESSAGE)
        # Here, because in the middle of a request it would look like a fault of this program.
        if not _is_json(inputs):
            raise DeliveryFailed(NOT_JSON, Scope.MESSAGE)
        try:
            run = await self._port.start_run(self._settings.action, inputs, entity)
        except PortError as error:
            raise failure_of(error) from None
        return Sent(f"run {run}: {self._context.app_url.rstrip('/')}/organization/run?runId={run}")

    async def probe(self, _: str = "") -> Tried:
        """Look the action up in Port, and what inputs it requires.

        Raises:
            SettingsError: Port has no such action, or one that cannot be started so.
            PortError: Port refused.
        """
        name = self._settings.action
        action = await self._port.get_action(name)
        trigger = (action or {}).get("trigger") or {}
        if action is None or trigger.get("type") == "automation":
            raise SettingsError(f"action: Port has no self-service action {name!r}")
        required = (trigger.get("userInputs") or {}).get("required")
        missing = sorted({*(required if isinstance(required, list) else ())} - self._settings.inputs.keys())
        if missing:
            raise SettingsError(f"inputs: the action requires {', '.join(missing)}")
        return Tried(f"Port has the action {name}")


def _is_json(inputs: Mapping[str, Any]) -> bool:
    try:
        json.dumps(inputs, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        return False
    return True


def failure_of(error: PortError, *, sends: bool = True) -> DeliveryFailed:
    """Turn a refusal of Port's into a failure, whose scope says what it means for the deliveries after it.

    The address is fixed, and the answer counts as `failure_of_status` says. Two things are particular: what
    Port refuses about the log-in concerns the credentials, and so every run; and without an answer only a
    certificate that is not valid is more than passing. If the run may have started, Port's client says so.

    Args:
        error: The refusal.
        sends: Whether the call starts something.
    """
    reason = one_line(f"{error.status} {error.said}" if error.status else error.said, MAX_REASON_CHARS)
    if error.status is None:
        scope = Scope.DESTINATION if error.lasting else Scope.TRANSIENT
        return DeliveryFailed(reason, scope, unsure=sends and error.unsure)
    failed = failure_of_status(error.status, reason, retry_after=error.retry_after, unsure=sends)
    if failed.scope is Scope.MESSAGE and error.logging_in:
        return DeliveryFailed(reason, Scope.DESTINATION)
    return failed


async def _dry_run(
    settings: PortActionDestination, item: Item, event: Mapping[str, Any], context: NotifierContext
) -> str:
    inputs = await context.render(settings.inputs, alert_event(event, item, context))
    return f"run of {settings.action} with {json.dumps(inputs, ensure_ascii=False)}"


PORT_ACTION_KIND = Kind(PortActionDestination, PortActionNotifier, _dry_run)
