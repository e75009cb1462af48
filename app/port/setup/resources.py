"""What bootstrap makes in Port, as data: the blueprint, its entity, and the automations.

The blueprint and the entity are those of Port's tutorial of a changelog listener. The automation takes the
place of the tutorial's `changelogDestination`:
https://docs.port.io/actions-and-automations/define-automations/
"""

from urllib.parse import urlsplit, urlunsplit

from app.errors import SettingsError
from app.receive.event import WEBHOOK_PATH, Json

BLUEPRINT = "deploymentConfig"
TUTORIAL_ENTITY = "notification-service-prod"
SMEE_HOST = "smee.io"
ENFORCED = frozenset(
    {
        "changelogDestination.type",
        "changelogDestination.url",
        "trigger.type",
        "trigger.event.blueprintIdentifier",
        "trigger.event.propertyIdentifier",
        "trigger.event.actionIdentifier",
        "invocationMethod.url",
        "invocationMethod.method",
    }
)
"""Set otherwise, these would keep changes from the listener; whatever else is set otherwise stays."""
NARROWER = {
    "ANY_ENTITY_CHANGE": frozenset({"ENTITY_CREATED", "ENTITY_UPDATED", "ENTITY_DELETED"}),
    "ANY_RUN_CHANGE": frozenset({"RUN_CREATED", "RUN_UPDATED"}),
}
"""Events that somebody may have chosen in place of all changes, by the one that has them all."""


def webhook_address(url: str, smee_channel: str | None = None) -> str:
    """Work out the address that Port is to call, from the user's WEBHOOK_URL.

    That is either the listener's public base address, with or without a path before it, or the channel of a
    webhook proxy. So: a channel stays as it is, whether on smee.io or, on a smee server of one's own, because
    it is `smee_channel`; everything else gets ``/api/slack``, unless it ends in it already.

    Args:
        url: WEBHOOK_URL.
        smee_channel: SMEE_URL, if it is set.

    Raises:
        SettingsError: It is not a URL.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(
            "WEBHOOK_URL must be the listener's public address (https://listener.example.com) or a channel of"
            " https://smee.io"
        )
    # A slash at the end, copied along, would be another address.
    path = parts.path.rstrip("/")
    is_channel = parts.hostname == SMEE_HOST and path
    if is_channel or (smee_channel and url.strip().rstrip("/") == smee_channel.strip().rstrip("/")):
        return urlunsplit(parts._replace(path=path))
    if not path.endswith(WEBHOOK_PATH):
        path += WEBHOOK_PATH
    return urlunsplit(parts._replace(path=path))


def blueprint() -> Json:
    """Return the blueprint `deploymentConfig`.

    Its form: https://docs.port.io/build-your-software-catalog/customize-integrations/configure-data-model/setup-blueprint/
    """
    return {
        "identifier": BLUEPRINT,
        "title": "Deployment Config",
        "icon": "Microservice",
        "schema": {
            "properties": {
                "healthStatus": {
                    "type": "string",
                    "title": "Health Status",
                    "enum": ["Healthy", "Degraded", "Crashed", "Restarting"],
                    "enumColors": {
                        "Healthy": "green",
                        "Degraded": "orange",
                        "Crashed": "red",
                        "Restarting": "yellow",
                    },
                    "default": "Healthy",
                },
                "cpuUtil": {"type": "number", "title": "CPU Utilization"},
                "memoryUtil": {"type": "number", "title": "Memory Utilization"},
                "newRelicUrl": {
                    "type": "string",
                    "format": "url",
                    "title": "New Relic",
                    "description": "Link to the service's dashboard in New Relic",
                    "default": "https://newrelic.com",
                },
                "sentryUrl": {
                    "type": "string",
                    "format": "url",
                    "title": "Sentry URL",
                    "description": "Link to the service's dashboard in Sentry",
                    "default": "https://sentry.io/",
                },
                "prometheusUrl": {
                    "type": "string",
                    "format": "url",
                    "title": "Prometheus URL",
                    "default": "https://prometheus.io",
                },
                "locked": {
                    "type": "boolean",
                    "title": "Locked",
                    "icon": "Lock",
                    "description": "Whether deployments are locked for this configuration",
                    "default": False,
                },
            },
            "required": [],
        },
    }


def changelog_destination(webhook_url: str) -> Json:
    """Return the field of a blueprint that sends its changes to `webhook_url`: the way before automations.

    It cannot be cleared again with null or {}.
    """
    return {"changelogDestination": {"type": "WEBHOOK", "url": webhook_url}}


def entity() -> Json:
    """Return the entity `notification-service-prod` of the blueprint."""
    return {
        "identifier": TUTORIAL_ENTITY,
        "title": "Notification Service Production",
        "properties": {
            "healthStatus": "Healthy",
            "cpuUtil": 25,
            "memoryUtil": 30,
            "newRelicUrl": "https://newrelic.com",
            "sentryUrl": "https://sentry.io/",
            "prometheusUrl": "https://prometheus.io",
            "locked": False,
        },
    }


def automation(blueprint: str, webhook_url: str) -> Json:
    """Return the automation that forwards every change of a blueprint's entities.

    Its form: https://docs.port.io/actions-and-automations/define-automations/setup-action
    """
    return _forward(
        f"{_for_action(blueprint)}_change_listener",
        f"Forward {blueprint} changes",
        {"type": "ANY_ENTITY_CHANGE", "blueprintIdentifier": blueprint},
        webhook_url,
    )


def timer_automation(blueprint: str, property_: str, webhook_url: str) -> Json:
    """Return the automation that forwards the end of an entity's timer, a property of the format ``timer``.

    Timers are no changes: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
    """
    # A dot can stand in a blueprint's identifier but not in a property's, so no two pairs give one name.
    return _forward(
        f"{_for_action(blueprint)}.{_for_action(property_)}_timer_listener",
        f"Forward the timer {property_} of {blueprint}",
        {"type": "TIMER_PROPERTY_EXPIRED", "blueprintIdentifier": blueprint, "propertyIdentifier": property_},
        webhook_url,
    )


def run_automation(action: str, webhook_url: str) -> Json:
    """Return the automation that forwards every change of a self-service action's runs."""
    return _forward(
        f"{_for_action(action)}_run_listener",
        f"Forward the runs of {action}",
        {"type": "ANY_RUN_CHANGE", "actionIdentifier": action},
        webhook_url,
    )


def watched_if_ours(theirs: Json) -> tuple[str, str] | None:
    """Find the blueprint or the action that an automation watches; None: its name is not one of ours."""
    trigger = theirs.get("trigger")
    event = trigger.get("event") if isinstance(trigger, dict) else None
    event = event if isinstance(event, dict) else {}
    blueprint, action = event.get("blueprintIdentifier"), event.get("actionIdentifier")
    if isinstance(action, str):
        watched, ours = ("action", action), run_automation(action, "")
    elif isinstance(blueprint, str):
        watched, ours = ("blueprint", blueprint), automation(blueprint, "")
        if timer := event.get("propertyIdentifier"):
            ours = timer_automation(blueprint, timer, "")
    else:
        return None
    return watched if theirs.get("identifier") == ours["identifier"] else None


def reporting(automation: Json) -> Json:
    """Change an automation so that its runs get a report of what became of the change.

    A synchronized run ends with the HTTP status of our answer and takes no report; any other waits for one.
    The signed body asks for the report, so that no setting of the listener has to agree.
    """
    method = automation["invocationMethod"]
    changed = {"synchronized": False, "body": method["body"] | {"report": True}}
    return automation | {"invocationMethod": method | changed}


def reports(automation: Json | None) -> bool:
    """Tell whether an automation is one of `reporting`."""
    method = (automation or {}).get("invocationMethod")
    body = method.get("body") if isinstance(method, dict) else None
    return isinstance(body, dict) and body.get("report") is True


def _forward(identifier: str, title: str, event: Json, webhook_url: str) -> Json:
    return {
        "identifier": identifier,
        "title": title,
        "trigger": {"type": "automation", "event": event},
        "invocationMethod": {
            "type": "WEBHOOK",
            "url": webhook_url,
            "method": "POST",
            "agent": False,
            "synchronized": True,
            "headers": {"Content-Type": "application/json", "RUN_ID": "{{ .run.id }}"},
            "body": {"event": "{{ .event }}", "trigger": "{{ .trigger }}", "run": "{{ .run }}"},
        },
        "publish": True,
    }


def _for_action(identifier: str) -> str:
    # A blueprint's identifier may have slashes, an action's may not.
    return identifier.replace("/", "=2F").replace("\\", "=5C")
