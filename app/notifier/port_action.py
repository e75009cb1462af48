"""Port's self-service actions: an alert starts a run.

Rules: https://docs.port.io/api-reference/execute-a-self-service-action (the call),
https://docs.port.io/api-reference/port-api (answers)
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from app.errors import DeliveryFailed, PortError, Scope
from app.model.notification import one_line
from app.notifier.base import Parcel, Sent
from app.notifier.http import Render

MAX_REASON = 300

OF_THE_DESTINATION = frozenset({401, 403, 404, 410})
MAY_PASS = frozenset({408, 425, 429})


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
    at_once = 1

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
        """Start the run, and return its id and its link, for a person.

        Args:
            parcel: One alert, of which only Port's bare event is used: the inputs are filled from it.

        Raises:
            DeliveryFailed: No run was started, or that is not known: see `failure`.
        """
        filled = await self._render(self._template, parcel.event)
        inputs, entity = filled["inputs"], filled["entity"]
        if entity is not None and not isinstance(entity, str):
            raise DeliveryFailed("the template of `entity` gives no text", Scope.MESSAGE)
        try:
            json.dumps(inputs, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise DeliveryFailed("the inputs cannot be written as JSON", Scope.MESSAGE) from None
        try:
            run = await self._start_run(self._action, inputs, entity)
        except PortError as error:
            raise failure(error) from None
        return Sent(f"run {run}: {self._run_url(run)}")

    async def close(self) -> None:
        """See `Notifier.close`."""


def failure(error: PortError) -> DeliveryFailed:
    """Return what a refusal of Port's means for the delivery and those after it.

    - 401, 403, 404, 410, and each refusal to log in: the credentials or the action are not there or not
      allowed, which is so for every run. The destination is on hold.
    - Other 4xx, such as 422: Port refuses these inputs. This delivery is dead, the next may be good.
    - Everything else (408, 425, 429, 5xx, no answer, an answer that is not Port's) may pass. The queue waits,
      after a 429 for as long as Port asks; if the request was sent, the run may have started, and Port's
      client says so in its error.
    """
    refused = error.status is not None and 400 <= error.status < 500 and error.status not in MAY_PASS
    if error.status in OF_THE_DESTINATION or (refused and error.logging_in):
        scope = Scope.DESTINATION
    elif refused:
        scope = Scope.MESSAGE
    else:
        scope = Scope.TRANSIENT
    said = f"{error.status} {error.said}" if error.status else error.said
    return DeliveryFailed(one_line(said, MAX_REASON), scope, error.retry_after)
