"""Whether automations in Port send the changes that rules are about to this listener.

Rules: https://docs.port.io/actions-and-automations/define-automations/setup-trigger (events, conditions)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.doctor.catalog import Catalog, find_property, names_of
from app.doctor.finding import CheckStatus, Remark
from app.model.change import ACTION_RUN, TIMER_EXPIRED
from app.receive.event import Json
from app.rules.condition import Condition
from app.rules.rule import Rule
from app.rules.values import Not

ACTION_OF_EVENT = {"ENTITY_CREATED": "CREATE", "ENTITY_UPDATED": "UPDATE", "ENTITY_DELETED": "DELETE"}
ANY_RUN = frozenset({"RUN_CREATED", "RUN_UPDATED"})
OF_ACTION = ("action", "action.identifier")
"""How a condition names the action of a run."""
ENTITY_ACTIONS = frozenset(ACTION_OF_EVENT.values())


def compare_automations(rule: Rule, about: Mapping[str, Json], catalog: Catalog) -> Iterator[Remark]:
    """Say which actions of which blueprints no published automation sends here."""
    if catalog.webhook_url is None:
        yield CheckStatus.NOT_LOOKED_AT, "its automations, since WEBHOOK_URL or SMEE_URL is not set"
        return
    if rule.resource == ACTION_RUN:
        yield from _of_runs(rule, catalog)
        return
    named = [name for name in rule.blueprint if name in about]
    properties = [leaf.property_ for leaf in rule.leaves if leaf.property_]
    others = [
        name
        for name, blueprint in about.items()
        if name not in named and all(find_property(blueprint, key) is not None for key in properties)
    ]
    lacking = {name: _lacking(rule, name, catalog) for name in (*named, *others)}
    # Of a pattern those that have no automation may be meant to have none, unless none has one.
    none_has = bool(others) and all(lacking[name] for name in others)
    for name in named:
        if lacking[name]:
            yield CheckStatus.WRONG, _unsent(name, lacking[name], properties, catalog)
    silent = [name for name in others if lacking[name]]
    if silent and none_has:
        yield CheckStatus.WRONG, f"no blueprint that matches has an automation: {_bootstrap(silent[:3])}"
    elif silent:
        yield CheckStatus.NOTE, f"without an automation, so Port sends no changes of: {names_of(silent)}"
    for name in (*named, *others):
        if conditional := [automation for automation in _automations(name, catalog) if _event(automation)[1]]:
            title = conditional[0].get("identifier")
            text = f"the automation {title} has a condition: not each change of {name} is sent"
            yield CheckStatus.NOTE, text


def _of_runs(rule: Rule, catalog: Catalog) -> Iterator[Remark]:
    """Say of which actions no published automation sends the runs here: of those named, or of all."""
    sent: dict[str, set[str]] = {}
    for automation in catalog.automations:
        event = _event(automation)[0]
        if _sends_here(automation, catalog) and (action := event.get("actionIdentifier")):
            type_ = str(event.get("type"))
            sent.setdefault(str(action), set()).update(ANY_RUN if type_ == "ANY_RUN_CHANGE" else {type_})
    named = [str(action) for leaf in rule.leaves if leaf.run in OF_ACTION for action in named_values(leaf)]
    for action in dict.fromkeys(named):
        if lacking := [event for event in rule.on if event not in sent.get(action, ())]:
            command = f"python -m app bootstrap --action {action}"
            text = f"no automation sends {', '.join(lacking)} of the action {action} to this listener"
            yield CheckStatus.WRONG, f"{text}: {command}"
    if not named and not any({*rule.on} <= events for events in sent.values()):
        text = f"no automation sends {', '.join(rule.on)} of any action to this listener"
        yield CheckStatus.WRONG, f"{text}: python -m app bootstrap --action …"
    elif not named:
        yield CheckStatus.NOTE, f"Port sends the runs of these actions alone: {names_of(sent)}"


def named_values(leaf: Condition) -> list[Any]:
    """List the values that a condition names, without null, which any value may be."""
    values: list[Any] = []
    for named in (leaf.from_, leaf.to):
        inner = named.not_ if isinstance(named, Not) else named
        values += inner if isinstance(inner, tuple) else [inner]
    return [value for value in values if value is not None]


def _lacking(rule: Rule, blueprint: str, catalog: Catalog) -> list[str]:
    events = [_event(automation)[0] for automation in _automations(blueprint, catalog)]
    types = {str(event.get("type")) for event in events}
    sent = {ACTION_OF_EVENT[event] for event in types if event in ACTION_OF_EVENT}
    old = catalog.blueprints[blueprint].get("changelogDestination") or {}
    if "ANY_ENTITY_CHANGE" in types or old.get("url") == catalog.webhook_url:
        sent |= ENTITY_ACTIONS
    timers = {
        event.get("propertyIdentifier") for event in events if event.get("type") == "TIMER_PROPERTY_EXPIRED"
    }
    wanted = {leaf.property_ for leaf in rule.leaves if leaf.property_}
    if timers and (not wanted or wanted & timers):
        sent.add(TIMER_EXPIRED)
    return [action for action in rule.on if action not in sent]


def _unsent(name: str, actions: list[str], properties: Sequence[str], catalog: Catalog) -> str:
    paused = [
        str(automation.get("identifier"))
        for automation in catalog.automations
        if automation.get("publish") is False and _event(automation)[0].get("blueprintIdentifier") == name
    ]
    timer = f" --timer {properties[0]}" if TIMER_EXPIRED in actions and properties else ""
    why = f" ({', '.join(paused)} is not published)" if paused else ""
    unsent = f"no automation sends {', '.join(actions)} of {name} to this listener{why}"
    return f"{unsent}: {_bootstrap([name])}{timer}"


def _bootstrap(names: Sequence[str]) -> str:
    return " ".join(("python -m app bootstrap", *(f"--blueprint {name}" for name in names)))


def _automations(blueprint: str, catalog: Catalog) -> list[Json]:
    """List the published automations that send changes of a blueprint to this listener."""
    return [
        automation
        for automation in catalog.automations
        if _sends_here(automation, catalog) and _event(automation)[0].get("blueprintIdentifier") == blueprint
    ]


def _sends_here(automation: Json, catalog: Catalog) -> bool:
    url = str((automation.get("invocationMethod") or {}).get("url")).rstrip("/")
    return automation.get("publish") is not False and url == catalog.webhook_url


def _event(automation: Json) -> tuple[Json, Any]:
    trigger = automation.get("trigger")
    trigger = trigger if isinstance(trigger, dict) else {}
    event = trigger.get("event")
    return event if isinstance(event, dict) else {}, trigger.get("condition")
