"""jq where users may write it: a rule's conditions and message, and what is sent to an action."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from app.errors import DeliveryFailed, Scope
from app.jq.runner import Jq, JqError
from app.model.notification import Notification, Part
from app.rules.rule import RuleSet
from app.rules.template import expressions, fill, parts

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
        values, errors = await self._run(programs, event)
        for error in errors.values():
            # Not the error's text: it may hold values from the catalog.
            log.warning("jq_failed", program=error.program)
        return values

    async def render(self, value: Any, event: Mapping[str, Any]) -> Any:
        """Fill in the expressions of a template, text or nested JSON.

        Raises:
            DeliveryFailed: One of them failed: this message can never be sent.
        """
        values, errors = await self._run(expressions(value), event)
        for error in errors.values():
            raise DeliveryFailed(f"template {{{{ {error.program} }}}}: {error.text}", Scope.MESSAGE)
        return fill(value, values)

    async def with_message(
        self, notification: Notification, rules: RuleSet, event: Mapping[str, Any]
    ) -> Notification:
        """Add its rule's title and message to a notification; an expression that fails shows its error."""
        notification = with_mention(notification, rules)
        rule = rules.by_name.get(notification.rule)
        templates = {"own_title": rule and rule.title, "message": rule and rule.message}
        templates = {name: template for name, template in templates.items() if template}
        if not templates:
            return notification
        values, errors = await self._run(expressions(list(templates.values())), event)
        # An alert with an error in it is better than none.
        values |= {program: f"[{error.text}]" for program, error in errors.items()}
        words = {name: _parts(template or "", values) for name, template in templates.items()}
        return notification.model_copy(update=words)

    async def _run(
        self, programs: Sequence[str], event: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, JqError]]:
        results = await self._jq.evaluate(programs, event) if programs else []
        values: dict[str, Any] = {}
        errors: dict[str, JqError] = {}
        for program, result in zip(programs, results, strict=True):
            if isinstance(result, JqError):
                errors[program] = result
            else:
                values[program] = result.value
        return values, errors


def with_mention(notification: Notification, rules: RuleSet) -> Notification:
    """Add the mention of its rule to a notification, if it is one at which a rule calls somebody."""
    rule = rules.by_name.get(notification.rule)
    if rule is None or not rule.mention or not notification.calls:
        return notification
    return notification.model_copy(update={"mention": rule.mention})


def _parts(template: str, values: Mapping[str, Any]) -> tuple[Part, ...]:
    return tuple(Part(text=part.text, literal=part.literal) for part in parts(template, values))
