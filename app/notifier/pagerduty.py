"""The kind "pagerduty": an incident here is an alert there, opened, acknowledged and resolved by its id.

Rules: https://developer.pagerduty.com/docs/events-api-v2-overview (answers, 512 kB),
https://developer.pagerduty.com/docs/send-alert-event (fields, their lengths, what `dedup_key` does),
https://developer.pagerduty.com/docs/send-change-event
"""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field, SecretStr
from typing_extensions import override
from yarl import URL

from app.errors import DeliveryFailed, Scope, SettingsError
from app.model.digest import is_over
from app.model.incident import Step
from app.model.text import cut
from app.notifier.alert_body import alert_body
from app.notifier.base import Item, Parcel, Sent, Tried, name_of
from app.notifier.http.destination import HttpDestination
from app.notifier.http.notifier import HttpNotifier
from app.notifier.kind import Kind, NotifierContext
from app.rules.destination import Address, DestinationSettings, Fallback, Routing

Event = dict[str, Any]

EVENTS_URL = "https://events.pagerduty.com/v2/enqueue"
ENQUEUE, ENQUEUE_CHANGE = "/enqueue", "/change/enqueue"
ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")
WRONG_KEY = re.compile(r"routing[ _]key", re.IGNORECASE)
MAX_PAGE_SUMMARY_CHARS = 1_024
MAX_EVENT_BYTES = 500_000  # PagerDuty's limit is 512 kB, and what counts as a kB is not said
NO_PAGE = "resolves-nothing"
"""The dedup key of no alert: PagerDuty looks at the routing key, and drops the rest."""
PAGER_STEPS = tuple(step.value for step in Step if step not in (Step.NOTICED, Step.NOTICE))
"""All steps of an incident; a notice of the listener itself pages nobody."""


class PagerDutyDestination(DestinationSettings):
    """A service of PagerDuty, by an integration of the type Events API v2."""

    type: Literal["pagerduty"]
    """The kind of destination."""
    routing_key: SecretStr
    """The integration key: 32 letters and digits."""
    url: Address = Field(default=SecretStr(EVENTS_URL), json_schema_extra={"default": EVENTS_URL})
    """The address of the Events API; another one in another region."""
    allow_private: bool = False
    """Whether an address that is not public may be called."""
    change_events: bool = False
    """Whether an alert without an incident is a change event, which pages nobody."""
    fallback: Fallback | None = None

    def routing(self) -> Routing:
        """Send in order, and in one queue with every destination that has the same key."""
        channel = f"{self.url.get_secret_value()} {self.routing_key.get_secret_value()}"
        return Routing(channel=channel, steps=PAGER_STEPS, fallback=self.fallback)


class PagerDutyNotifier(HttpNotifier):
    """Sends an event for each alert.

    To send one twice does no harm: PagerDuty adds a trigger to the alert that is open, and drops a resolve
    of one that is not. But a trigger after the resolve would open a new page, so that what is over is
    never triggered.

    Raises:
        SettingsError: The routing key cannot be one, or `HttpNotifier` cannot be made.
    """

    def __init__(self, name: str, settings: PagerDutyDestination, context: NotifierContext) -> None:
        self._key = settings.routing_key.get_secret_value()
        address = settings.url.get_secret_value()
        if not ROUTING_KEY.fullmatch(self._key):
            raise SettingsError("routing_key: must be 32 letters and digits: the integration key")
        if "{{" in address:
            raise SettingsError("url: must be one address, without a template")
        if settings.change_events and not address.endswith(ENQUEUE):
            raise SettingsError(f"change_events: the url must end in {ENQUEUE}")
        job = HttpDestination(
            type="http",
            url=settings.url,
            allow_private=settings.allow_private,
            proxy="environment",
            headers={},
        )
        super().__init__(name, job, context)
        # The address is in no change's power, and behind a proxy its name may have no address here.
        self._private |= self._proxy(address) is not None
        self._settings = settings
        self._change_url = URL(address.removesuffix(ENQUEUE) + ENQUEUE_CHANGE, encoded=True)
        # With another key nothing that was opened can be resolved.
        self.address = sha256(f"{address} {self._key}".encode()).hexdigest()

    @override
    async def prepare(self, parcel: Parcel) -> Parcel:
        return parcel

    @override
    async def send(self, parcel: Parcel) -> Sent:
        """Send the event of one alert; one that PagerDuty refuses is tried without what is optional.

        Raises:
            DeliveryFailed: As an HTTP job's, but a routing key that PagerDuty refuses concerns all alerts.
        """
        (item,) = parcel.items
        if item.notification.step is Step.NOTICE:
            return Sent((await self.probe()).detail)
        event = event_of(item, self._settings, self._context)
        if event is None:
            return Sent("not sent: it is over, or says nothing of now")
        first, *simpler = _forms(event)
        try:
            return Sent(await self._enqueue(item.delivery_id, first))
        except DeliveryFailed as failed:
            if failed.scope is not Scope.MESSAGE or not simpler:
                raise
        return Sent(await self._enqueue(item.delivery_id, simpler[0]))

    @override
    async def probe(self, _: str = "") -> Tried:
        """Resolve what was never opened, which only shows whether the routing key is taken."""
        answer = await self._enqueue(NO_PAGE, self._about("resolve", NO_PAGE))
        return Tried(f"PagerDuty takes the routing key ({answer}); no page was opened")

    @override
    def takes(self, status: int, _: str) -> bool:
        return status == 202

    async def _enqueue(self, delivery_id: str, event: Event) -> str:
        is_change = "event_action" not in event
        filled = {"url": (), "headers": {}, "body": event}
        try:
            return await self.request(
                filled, delivery_id, url=self._change_url if is_change else None, hidden=self._key
            )
        except DeliveryFailed as failed:
            if failed.scope is Scope.MESSAGE and WRONG_KEY.search(failed.reason):
                raise DeliveryFailed(f"routing_key: {failed.reason}", Scope.DESTINATION) from None
            failed.known_again = not is_change  # to repeat an event that has a dedup key changes nothing
            raise

    def _about(self, action: str, key: str) -> Event:
        return {"routing_key": self._key, "event_action": action, "dedup_key": key}


def event_of(item: Item, settings: PagerDutyDestination, context: NotifierContext) -> Event | None:
    """Make the event of an alert; None: PagerDuty is to hear nothing of it."""
    alert, action = item.notification, _action(item)
    key = {"routing_key": settings.routing_key.get_secret_value()}
    if item.incident_id is None and settings.change_events:
        return key | _what_happened(item, context, change=True)
    if not action:
        return None
    about = key | {"event_action": action, "dedup_key": item.incident_id or item.delivery_id}
    return about if action != "trigger" else about | _what_happened(item, context) | _client(alert.rule)


def _client(rule: str) -> Event:
    return {"client": f"Port changelog listener, rule {rule}"}


def _action(item: Item) -> str:
    """Choose what is to become of the page; empty: nothing."""
    alert = item.notification
    if item.incident_id is None:  # nothing would resolve what a late alert opens
        return "" if alert.late or alert.ended else "trigger"
    if item.over or is_over(alert):  # a late end is of before: it would close the page that is open now
        return "" if alert.late else "resolve"
    if item.reopened and alert.step is not Step.REMINDED:  # its page would be open for a moment, then anew
        return ""
    return "acknowledge" if alert.step is Step.ACKNOWLEDGED else "trigger"


def _what_happened(item: Item, context: NotifierContext, *, change: bool = False) -> Event:
    alert, body = item.notification, alert_body(item, context)
    payload: Event = {
        "summary": cut(body.text, MAX_PAGE_SUMMARY_CHARS),
        "source": alert.entity or alert.rule,
        "timestamp": alert.at.isoformat(),
        "custom_details": body.model_dump(mode="json", exclude={"links", "text"}),
    }
    if not change:
        payload |= {"severity": alert.severity, "component": alert.blueprint, "class": alert.rule}
        payload |= {"group": ", ".join(alert.teams)} if alert.teams else {}
    links = {"Open in Port": body.links.port, "History": body.links.page}
    links |= {name_of(name): url for name, url in body.links.properties.items()}
    return {
        "payload": payload,
        "links": [{"href": url, "text": text} for text, url in links.items() if url],
    }


def _forms(event: Event) -> Iterator[Event]:
    """Yield an event in forms that ask less and less of PagerDuty."""
    if len(json.dumps(event)) <= MAX_EVENT_BYTES:
        yield event
    if "payload" in event:
        needed = {
            name: event["payload"][name]
            for name in ("summary", "source", "severity")
            if name in event["payload"]
        }
        yield {name: value for name, value in event.items() if name != "links"} | {"payload": needed}


async def _dry_run(
    settings: PagerDutyDestination, item: Item, _: Mapping[str, Any], context: NotifierContext
) -> str:
    event = event_of(item, settings, context)
    if event is None:
        return "nothing"
    return json.dumps(
        {name: value for name, value in event.items() if name != "routing_key"}, ensure_ascii=False
    )


PAGERDUTY_KIND = Kind(PagerDutyDestination, PagerDutyNotifier, _dry_run)
