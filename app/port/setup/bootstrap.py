"""Makes in Port what the listener needs, and changes only what is missing, or keeps changes from arriving.

What somebody has added or set otherwise (a title, a colour, a paused automation) stays, and is said.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.errors import ListenerError, PortError
from app.port.client import PortClient
from app.port.setup import resources
from app.port.setup.resources import BLUEPRINT, TUTORIAL_ENTITY
from app.port.setup.steps import FieldDifference, Result, SetupStep, completed, differences, left_as_is
from app.receive.event import Json

ACTION_FIELDS = (
    "identifier",
    "title",
    "icon",
    "description",
    "trigger",
    "invocationMethod",
    "requiredApproval",
    "approvalNotification",
    "publish",
    "allowAnyoneToViewRuns",
)
"""The fields that Port accepts of an action; its answers have more: https://docs.port.io/api-reference/change-an-action-automation"""
USERS_PARTS = ("relations", "calculationProperties", "mirrorProperties", "aggregationProperties")
DELETION_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make, or to remove.

    Attributes:
        webhook_url: The address that Port is to call, as `resources.webhook_address` gives it.
        blueprints: Blueprints that exist: make only their automations.
        actions: Self-service actions that exist: make only the automations of their runs. If there are
            neither blueprints nor actions, `deploymentConfig`, its entity and its automation are made.
        timers: Properties of these blueprints, of the format `timer`, of which Port sends the end.
        changelog_destination: Also set the blueprints' `changelogDestination`.
        report: Whether the automations' runs get a report of what became of the change; None: existing
            automations stay as they are, and new ones get none.
        agent: Whether Port's agent makes the calls; None: as `report`.
        remove: Remove what earlier runs made, with any options; `blueprints` and `actions` then limit it
            to their automations, `timers` and `changelog_destination` mean nothing.
    """

    webhook_url: str
    blueprints: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()
    changelog_destination: bool = False
    report: bool | None = None
    agent: bool | None = None
    remove: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """The blueprints whose automations it is about."""
        return self.blueprints if self.blueprints or self.actions else (BLUEPRINT,)

    @property
    def tutorial(self) -> bool:
        """Whether it is about the tutorial's blueprint and entity too."""
        return self.named == (BLUEPRINT,) and not self.blueprints


def bootstrap(client: PortClient, plan: Plan) -> AsyncIterator[SetupStep]:
    """Carry out a plan, and yield each step when it is done.

    With a client that only plans (`dry_run`), the steps are those that would be taken, and the requests stand
    in `client.planned`.

    Raises:
        ListenerError: The plan does not fit what is in Port; then nothing was changed.
        PortError: Port refused a call; the steps that were yielded before are done.
    """
    return _remove(client, plan) if plan.remove else _make(client, plan)


async def _make(client: PortClient, plan: Plan) -> AsyncIterator[SetupStep]:
    blueprints = await _look(client, plan)
    extra = resources.changelog_destination(plan.webhook_url) if plan.changelog_destination else {}
    for name, theirs in blueprints.items():
        ours = resources.blueprint() | extra if plan.tutorial else extra
        if ours:
            yield await _make_blueprint(client, name, theirs, ours)
    # The automations come last: an entity that is made before them alerts nobody.
    if plan.tutorial:
        yield await _make_entity(client)
    automations = [resources.run_automation(action, plan.webhook_url) for action in plan.actions]
    for name in blueprints:
        automations.append(resources.automation(name, plan.webhook_url))
        automations += (resources.timer_automation(name, timer, plan.webhook_url) for timer in plan.timers)
    for automation in automations:
        yield await _make_automation(client, automation, plan)


async def _look(client: PortClient, plan: Plan) -> dict[str, Json | None]:
    """Read the plan's blueprints, and refuse what cannot be carried out before anything is changed."""
    for name in plan.actions:
        action = await client.get_action(name)
        if action is None or (action.get("trigger") or {}).get("type") == "automation":
            raise ListenerError(f"There is no self-service action {name} in this organization")
    blueprints = {name: await client.get_blueprint(name) for name in plan.named}
    for name in plan.blueprints:
        if blueprints[name] is None:
            raise ListenerError(
                f"There is no blueprint {name} in this organization ({client.base_url}): check the region and"
                " the identifier, which is not the title"
            )
    ours = resources.blueprint()["schema"]["properties"] if plan.tutorial else {}
    for name, theirs in blueprints.items():
        properties = _properties(theirs)
        for key, value in ours.items():
            existing = properties.get(key, value)
            if (existing.get("type"), existing.get("format")) != (value["type"], value.get("format")):
                raise ListenerError(
                    f"The property {key} of your blueprint {name} is of another type than the listener's, and"
                    " a change of type would lose its values: rename it, or leave the blueprint as it is with"
                    f" --blueprint {name}"
                )
        for timer in plan.timers:
            if properties.get(timer, {}).get("format") != "timer":
                raise ListenerError(
                    f"The blueprint {name} has no property {timer} of the format timer: add it first"
                )
    return blueprints


async def _make_blueprint(client: PortClient, name: str, theirs: Json | None, ours: Json) -> SetupStep:
    if theirs is None:
        await client.create_blueprint(ours)
        return SetupStep("blueprint", name, Result.CREATED)
    target = completed(theirs, ours, resources.ENFORCED)
    difference, left = tuple(differences(theirs, target)), left_as_is(target, ours)
    if not difference:
        return SetupStep("blueprint", name, Result.UNCHANGED, left=left)
    # Each field whole, with what is theirs in it: it is not documented whether a PATCH merges inside of it.
    await client.patch_blueprint(name, {key: target[key] for key in ours if target[key] != theirs.get(key)})
    return SetupStep("blueprint", name, Result.CHANGED, difference, left=left)


async def _make_entity(client: PortClient) -> SetupStep:
    ours = resources.entity()
    theirs = await client.get_entity(BLUEPRINT, TUTORIAL_ENTITY)
    if theirs is None:
        await client.upsert_entity(BLUEPRINT, ours)
        return SetupStep("entity", TUTORIAL_ENTITY, Result.CREATED)
    # Its values are the catalog's life, not our configuration: to set healthStatus back would be a false
    # alert. So only what is empty is filled in.
    values = theirs.get("properties") or {}
    missing = {key: value for key, value in ours["properties"].items() if values.get(key) is None}
    if not missing:
        return SetupStep("entity", TUTORIAL_ENTITY, Result.UNCHANGED)
    await client.upsert_entity(BLUEPRINT, {"identifier": TUTORIAL_ENTITY, "properties": missing})
    difference = tuple(FieldDifference(f"properties.{key}", None, value) for key, value in missing.items())
    return SetupStep("entity", TUTORIAL_ENTITY, Result.CHANGED, difference)


async def _make_automation(client: PortClient, ours: Json, plan: Plan) -> SetupStep:
    identifier = ours["identifier"]
    found = await client.get_action(identifier)
    reported = resources.reports(found)
    if plan.report or (plan.report is None and reported):
        ours = resources.reporting(ours)
    ours["invocationMethod"]["agent"] = plan.agent is True
    if found is None:
        await client.create_action(ours)
        return SetupStep("automation", identifier, Result.CREATED)
    theirs = {key: found[key] for key in ACTION_FIELDS if found.get(key) is not None}
    target = completed(_of_our_kind(theirs), ours, _enforced(theirs, ours, plan, reported=reported))
    if plan.report is False and reported:
        del target["invocationMethod"]["body"]["report"]
    difference = tuple(differences(theirs, target))
    if plan.report is False and reported:
        difference += (FieldDifference("invocationMethod.body.report", True, None),)
    left = left_as_is(target, ours)
    if not difference:
        return SetupStep("automation", identifier, Result.UNCHANGED, left=left)
    await client.update_action(identifier, target)
    return SetupStep("automation", identifier, Result.CHANGED, difference, left=left)


def _of_our_kind(theirs: Json) -> Json:
    method = theirs.get("invocationMethod")
    # The fields of another kind of invocation do not go with ours.
    if not isinstance(method, dict) or method.get("type") != "WEBHOOK":
        return {key: value for key, value in theirs.items() if key != "invocationMethod"}
    has_body = isinstance(method.get("body"), dict)
    return theirs if has_body else theirs | {"invocationMethod": method | {"body": None}}


def _enforced(theirs: Json, ours: Json, plan: Plan, *, reported: bool) -> frozenset[str]:
    enforced = set(resources.ENFORCED)
    trigger = theirs.get("trigger")
    event = trigger.get("event") if isinstance(trigger, dict) else None
    narrower = resources.NARROWER.get(ours["trigger"]["event"]["type"], ())
    if not isinstance(event, dict) or event.get("type") not in narrower:
        enforced.add("trigger.event.type")
    if plan.agent is not None:
        enforced.add("invocationMethod.agent")
    # A run that waits for a report must not end with our answer, and one that gets none must.
    if plan.report is not None or reported:
        enforced |= {"invocationMethod.synchronized", "invocationMethod.body.report"}
    return frozenset(enforced)


async def _remove(client: PortClient, plan: Plan) -> AsyncIterator[SetupStep]:
    # By the automations that are there, not by the plan: earlier runs may have had other options.
    missing = {resources.automation(name, "")["identifier"] for name in plan.named}
    missing |= {resources.run_automation(name, "")["identifier"] for name in plan.actions}
    wanted = {("blueprint", name) for name in plan.blueprints} | {("action", name) for name in plan.actions}
    # The automations go first, so that the removal of the entity alerts nobody.
    for action in await client.list_automations():
        identifier, watched = action.get("identifier", ""), resources.watched_if_ours(action)
        if watched is None or (wanted and watched not in wanted):
            continue
        missing.discard(identifier)
        url = (action.get("invocationMethod") or {}).get("url")
        if url == plan.webhook_url:
            await client.delete_action(identifier)
            yield SetupStep("automation", identifier, Result.REMOVED)
        else:
            reason = f"it calls {url}, not {plan.webhook_url}"
            yield SetupStep("automation", identifier, Result.KEPT, reason=reason)
    for identifier in sorted(missing):
        yield SetupStep("automation", identifier, Result.ABSENT)
    if plan.tutorial:
        entity = await _remove_entity(client)
        yield entity
        yield await _remove_blueprint(client, entity_stays=entity.result is Result.KEPT)


async def _remove_entity(client: PortClient) -> SetupStep:
    theirs = await client.get_entity(BLUEPRINT, TUTORIAL_ENTITY)
    if theirs is None:
        return SetupStep("entity", TUTORIAL_ENTITY, Result.ABSENT)
    own = {key for key, value in (theirs.get("properties") or {}).items() if value is not None}
    own -= set(resources.entity()["properties"])
    own |= {key for key, value in (theirs.get("relations") or {}).items() if value}
    if own:
        reason = f"bootstrap did not make: {', '.join(sorted(own))}"
        return SetupStep("entity", TUTORIAL_ENTITY, Result.KEPT, reason=reason)
    await client.delete_entity(BLUEPRINT, TUTORIAL_ENTITY)
    return SetupStep("entity", TUTORIAL_ENTITY, Result.REMOVED)


async def _remove_blueprint(client: PortClient, *, entity_stays: bool) -> SetupStep:
    theirs = await client.get_blueprint(BLUEPRINT)
    if theirs is None:
        return SetupStep("blueprint", BLUEPRINT, Result.ABSENT)
    ours = resources.blueprint()["schema"]["properties"]
    properties = _properties(theirs)
    own = {key for key in properties if any(differences(properties[key], ours.get(key)))}
    own |= {key for part in USERS_PARTS for key in theirs.get(part) or {}}
    if own:
        return _keep_blueprint(theirs, f"bootstrap did not make: {', '.join(sorted(own))}")
    # The demo's entity may still be there for a moment after it was deleted.
    rule = {"property": "$identifier", "operator": "!=", "value": TUTORIAL_ENTITY}
    others = await client.search_entities(BLUEPRINT, [] if entity_stays else [rule], limit=1)
    if others.entities:
        name = others.entities[0].get("identifier")
        return _keep_blueprint(theirs, f"it has entities{f': {name} …' if isinstance(name, str) else ''}")
    await _delete_blueprint(client)
    reason = "if the search finds no other entity" if client.dry_run else ""
    return SetupStep("blueprint", BLUEPRINT, Result.REMOVED, reason=reason)


def _keep_blueprint(theirs: Json, reason: str) -> SetupStep:
    if theirs.get("changelogDestination"):
        reason += "; its changelogDestination stays too, for Port's API cannot clear it"
    return SetupStep("blueprint", BLUEPRINT, Result.KEPT, reason=reason)


async def _delete_blueprint(client: PortClient) -> None:
    """Delete the blueprint; Port takes some seconds to see that its entities are gone.

    Source: https://docs.port.io/api-reference/delete-a-blueprint
    """
    for pause in DELETION_PAUSES_SECONDS:
        try:
            return await client.delete_blueprint(BLUEPRINT)
        except PortError as error:
            if error.status not in {409, 422}:
                raise
            client.progress(f"Port still sees entities of {BLUEPRINT}: waiting {pause:.0f} s")
            await client.sleep(pause)
    return await client.delete_blueprint(BLUEPRINT)


def _properties(blueprint: Json | None) -> dict[str, Json]:
    properties: dict[str, Json] = ((blueprint or {}).get("schema") or {}).get("properties") or {}
    return properties
