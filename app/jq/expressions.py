"""jq where users may write it: a rule's conditions and message, and what is sent to an action."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from app.errors import DeliveryFailed, Scope
from app.jq.runner import Jq, JqError
from app.rules.template import expressions, fill

log = structlog.get_logger(__name__)


class Expressions:
    """Runs users' jq programs on Port's events.

    Args:
        jq: What runs them.
    """

    def __init__(self, jq: Jq) -> None:
        self._jq = jq

    async def evaluate(self, programs: Sequence[str], event: Mapping[str, Any]) -> dict[str, Any]:
        """Run programs on an event; return each one's result, without those that failed, which are logged."""
        values, errors = await self.run(programs, event)
        for error in errors.values():
            # Not the error's text: it may hold values from the catalog.
            log.warning("jq_failed", program=error.program)
        return values

    async def render(self, value: Any, event: Mapping[str, Any]) -> Any:
        """Fill in the expressions of a template, text or nested JSON.

        Raises:
            DeliveryFailed: One of them failed: this message can never be sent.
        """
        values, errors = await self.run(expressions(value), event)
        for error in errors.values():
            raise DeliveryFailed(f"template {{{{ {error.program} }}}}: {error.text}", Scope.MESSAGE)
        return fill(value, values)

    async def run(
        self, programs: Sequence[str], event: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, JqError]]:
        """Run jq programs on an event; the result is the values and the errors, each by program."""
        results = await self._jq.evaluate(programs, event) if programs else []
        values: dict[str, Any] = {}
        errors: dict[str, JqError] = {}
        for program, result in zip(programs, results, strict=True):
            if isinstance(result, JqError):
                errors[program] = result
            else:
                values[program] = result.value
        return values, errors
