"""What a message says, and whether it is still wanted: by the rules at the moment of sending."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.jq.runner import Jq
from app.model.change import ENTITY
from app.model.incident import Step
from app.model.notification import Notification, one_line
from app.notifier.base import Item, Parcel
from app.notifier.words import MAX_SHOWN_NAME_CHARS
from app.receive.payload import bare_event
from app.rules.condition import JqError
from app.rules.kin.affected import MAX_NAMED, in_words
from app.rules.mention import catalog_mentions, fixed_mention
from app.rules.rule import RuleSet
from app.rules.template import expressions, parts
from app.store.rows import Claim, Waiting

AffectedBy = Callable[[str, Sequence[str], int], Awaitable[list[str]]]
"""Names what depends on an entity, given its identifier, the relations, and how many steps it goes."""
ENTITY_KEYS = ("entityIdentifier", "entity", "entityId")
"""What an event's context calls the entity, in Port's several forms."""


class Messages:
    """Puts the rules' own words into what the store has kept of an alert.

    Args:
        body_of: Gives the stored body of a change by its key; raises `StoreUnavailable`.
        jq: Runs users' jq.
        rules: The rules in force; may be replaced at any time.
        affected: Names what depends on an entity; raises `StoreUnavailable`.
    """

    def __init__(
        self,
        body_of: Callable[[str], Awaitable[bytes | None]],
        jq: Jq,
        rules: RuleSet,
        affected: AffectedBy | None = None,
    ) -> None:
        self._body_of = body_of
        self._affected = affected
        self._jq = jq
        self.rules = rules

    async def prepare(self, claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
        """Make the parcel of some deliveries of a claim, with Port's event of the first.

        Only the first gets its rule's own title and message: a digest has no room for the others'.

        Raises:
            StoreUnavailable: The event cannot be read.
        """
        first, *others = deliveries
        # The claim brings the body of its own first delivery, so that one alert costs no further query.
        is_head = first.id == claim.deliveries[0].id
        body = claim.body if is_head else await self._body_of(first.change_key)
        event = as_named_now(bare_event(body or b"{}"), first.notification)
        notifications = [
            await with_own_words(first.notification, self.rules, event, self._jq),
            *(with_mention(delivery.notification, self.rules) for delivery in others),
        ]
        if not others:  # a digest has no room for it, and each would be read again
            notifications[0] = await self.with_affected(notifications[0])
        pairs = zip(deliveries, notifications, strict=True)
        items = (
            Item(
                delivery.key,
                notification,
                delivery.parent,
                delivery.incident_id,
                over=delivery.over,
                reopened=delivery.reopened,
            )
            for delivery, notification in pairs
        )
        return Parcel(tuple(items), event)

    async def with_affected(self, notification: Notification) -> Notification:
        """Add what depends on the entity to a notification, if its rule asks for that and it is not over.

        Raises:
            StoreUnavailable: That cannot be read.
        """
        rule = self.rules.by_name.get(notification.rule)
        asked = rule.affected if rule and notification.step is not Step.NOTICE else None
        if asked is None or self._affected is None or notification.ended:
            return notification
        names = await self._affected(notification.entity, asked.relation, asked.depth)
        text = in_words([one_line(name, MAX_SHOWN_NAME_CHARS) for name in names[:MAX_NAMED]], len(names))
        return notification.but(affected=text)

    def why_not(self, notification: Notification) -> str | None:
        """Say why an alert must not be sent any more; None: it is still wanted."""
        # An incident whose rule is gone is ended by an alert of its own: nothing reminds of it after that.
        rule, step = self.rules.by_name.get(notification.rule), notification.step
        if rule is None:
            return "its rule is no longer there" if step in (Step.REMINDED, Step.ESCALATED) else None
        return "its rule no longer escalates" if step is Step.ESCALATED and not rule.escalate else None


def as_named_now(event: dict[str, Any], notification: Notification) -> dict[str, Any]:
    """Give a bare event with the entity's name as its alert has it, where it was renamed since.

    Templates lead to where the entity is now, and call it as the alert does.
    """
    context, diff = _object(event.get("context")), _object(event.get("diff"))
    sides = {side: _object(diff.get(side)) for side in ("after", "before") if diff.get(side)}
    names = [side.get("identifier") for side in sides.values()]
    names += [context.get(key) for key in ENTITY_KEYS]
    own = next((name for name in names if name and isinstance(name, str)), "")
    # A run's own name is no entity's. Of a change that renamed it, what it was before stays.
    if not own or notification.entity in ("", *names) or event.get("resourceType", ENTITY) != ENTITY:
        return event
    for name, side in sides.items():
        if side.get("identifier") == own:
            sides[name] = side | {"identifier": notification.entity}
            if side.get("title"):
                sides[name]["title"] = notification.title
    keys = {key: notification.entity for key in ENTITY_KEYS if context.get(key) == own}
    return event | {"context": context | keys} | ({"diff": diff | sides} if sides else {})


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


async def with_own_words(
    notification: Notification, rules: RuleSet, event: Mapping[str, Any], jq: Jq
) -> Notification:
    """Add the title, the message and the mention that its rule has, if it is in force, to a notification.

    The templates are filled from Port's bare event; what fails there shows in its place, in brackets.
    """
    if notification.step is Step.NOTICE:
        return notification
    notification = with_mention(notification, rules)
    rule = rules.by_name.get(notification.rule)
    templates = {"own_title": rule and rule.title, "message": rule and rule.message}
    present = {name: template for name, template in templates.items() if template}
    if not present:
        return notification
    results = await jq.run(expressions(list(present.values())), event)
    # An alert with a hole in it is better than none.
    values = {
        program: f"[{result.text}]" if isinstance(result, JqError) else result
        for program, result in results.items()
    }
    words = {name: parts(template, values) for name, template in present.items()}
    return notification.but(**words)


def with_mention(notification: Notification, rules: RuleSet) -> Notification:
    """Add the people whom its rule mentions to a notification, if it is one that calls them."""
    rule = rules.by_name.get(notification.rule)
    mention = rule.mention if rule and notification.calls else None
    people = notification.people if catalog_mentions(mention) else ()
    if mention is None and not notification.people:
        return notification
    fixed = fixed_mention(mention) if mention else ""
    return notification.but(mention=fixed, people=people)
