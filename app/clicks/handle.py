"""What becomes of a click: it is done once, in one transaction, and the person alone is told of it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from slack_sdk.webhook.async_client import AsyncWebhookClient

from app.clicks.membership import Membership
from app.clicks.payload import Came, Click, form_metadata, read_click
from app.clicks.why import why_text
from app.errors import DeliveryFailed
from app.model.notification import Message, one_line
from app.network import DIRECT, Network
from app.notifier.base import duration
from app.notifier.slack.buttons import (
    ACKNOWLEDGE,
    COMMENT_FIELD,
    LENGTH_FIELD,
    MAX_COMMENT_CHARS,
    MORE,
    OTHER,
    RESOLVE,
    SILENCING,
    UNACKNOWLEDGE,
    UNTIL_OVER,
    silence_form,
)
from app.notifier.slack.markup import escape, message_of, section
from app.notifier.slack.session import SlackSession, asking_slack
from app.notifier.slack.web_api import ApiAnswer, SlackApi
from app.observe.watch import NOBODY, Watch
from app.rules.rulebook import Rulebook
from app.rules.values import parse_duration
from app.store import actions, queries
from app.store.actions import Action, ActionResult, Verb
from app.store.store import Store
from app.store.views import IncidentRow

log = structlog.get_logger(__name__)

OPEN_FORM = "views.open"
MAX_ALONE_CHARS = 900
OPEN_SECONDS = 2.0
VERBS: Mapping[str, Verb] = {ACKNOWLEDGE: "acknowledge", UNACKNOWLEDGE: "unacknowledge", RESOLVE: "close"}
Done = tuple[Came, Mapping[str, Any] | None]
"""What came of a click, and the answer to Slack; None: an empty one."""
STRANGER = "Only people of this workspace can do that: nothing was done."
NOT_KNOWN = "Slack does not say now whether you belong to this workspace: nothing was done. Click again."


class Clicks:
    """Does what clicks ask for.

    Args:
        store: Where it is done.
        token: The bot token: a secret.
        api_url: The address of Slack's Web API.
        book: Gives the rules in force.
        wake: Called when there is something to send.
        clock: Gives the time, UTC.
        network: The way to Slack.
        watch: Counts.

    Attributes:
        clock: Gives the time, UTC.
        watch: Counts.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        store: Store,
        token: str,
        api_url: str,
        *,
        book: Callable[[], Rulebook],
        wake: Callable[[], None],
        clock: Callable[[], datetime],
        network: Network = DIRECT,
        watch: Watch = NOBODY,
    ) -> None:
        self._store, self._book = store, book
        self._session = SlackSession("slack_sdk.web", api_url, clock, network, answer=ApiAnswer)
        self._api = SlackApi(token, api_url, self._session)
        self._slack = urlsplit(api_url)
        self._wake, self.clock = wake, clock
        self._network, self.watch = network, watch
        self._telling: set[asyncio.Task[None]] = set()
        self._membership = Membership(self._api, clock)

    async def take(self, payload: object, envelope_id: str = "") -> Mapping[str, Any] | None:
        """Do what a payload of Slack's asks for; what it gives is the answer to Slack, None: an empty one.

        Args:
            payload: The JSON value.
            envelope_id: The socket's name for it; empty: it came by HTTP.

        Raises:
            ValueError: It is no payload that can be read.
            StoreUnavailable: It could not be done; nothing was.
        """
        click = read_click(payload, envelope_id)
        if click is None:  # of a link, say: Slack only wants to know that it has arrived
            return None
        came, answer = await self._do(click)
        self.watch.clicked(click.action, came)
        log.info("click_taken", action=click.action, outcome=str(came), person=click.person.id)
        return answer

    async def close(self) -> None:
        """Wait until everybody is told, and close the connections."""
        await asyncio.gather(*self._telling, return_exceptions=True)
        await self._session.close()

    async def _do(self, click: Click) -> Done:
        try:
            if not await self._membership.is_ours(click.team):
                return self._refuse(click, STRANGER)
        except (DeliveryFailed, TimeoutError):
            return self._refuse(click, NOT_KNOWN, Came.FAILED)
        if click.action == SILENCING:
            return await self._silence(click)
        if click.action == MORE:
            return await self._why(click)
        if click.action == RESOLVE and (refusal := await self._why_not_resolve(click)):
            return self._refuse(click, refusal)
        return await self._act(click, VERBS[click.action], self.clock())

    async def _act(
        self,
        click: Click,
        verb: Verb,
        now: datetime,
        *,
        until: datetime | None = None,
        with_incident: bool = False,
    ) -> Done:
        action = Action(
            id=f"slack:{click.id}",
            verb=verb,
            incident_id=click.about.incident if click.about else "",
            by=click.person,
            comment=one_line((click.fields or {}).get(COMMENT_FIELD, ""), MAX_COMMENT_CHARS),
            until=until,
            with_incident=with_incident,
        )
        if click.about is not None:
            results = [await self._store.write(actions.act, action, now)]
        else:
            message = Message(click.channel, click.message_ts)
            results = await self._store.write(actions.act_on_message, message, action, now)
        self._wake()
        if not results:
            return self._refuse(click, "The incidents of this message are not kept any more.", Came.NOTHING)
        done = [result for result in results if result.came == "done"]
        # The message shows an acknowledgement; of a silence only the person is told.
        if text := " ".join(_shown(results, quiet=verb != "silence")):
            self._tell(click, text)
        return Came.DONE if done else Came.NOTHING, None

    async def _silence(self, click: Click) -> Done:
        policy, now = self._book().slack, self.clock()
        if click.choice == OTHER and click.fields is None:
            return await self._open_form(click)
        wanted: timedelta | None = None
        if click.choice != UNTIL_OVER:
            text = click.choice if click.fields is None else click.fields.get(LENGTH_FIELD, "")
            try:
                wanted = parse_duration(text)
            except ValueError as error:
                return self._refuse(click, f"The time {error}.")
        allowed, reason = policy.by_everybody, ""
        if policy.may_silence and (wanted is None or wanted > allowed):
            try:
                if await self._membership.is_in(click.person.id, policy.may_silence):
                    allowed = policy.longest_silence
            except (DeliveryFailed, TimeoutError) as error:
                reason = (
                    f" Slack does not say whether you are in a group that may: {str(error) or 'no answer'}."
                )
        if wanted is not None and wanted > allowed:
            more = f", members of {_groups(policy.may_silence)} for up to {duration(policy.longest_silence)}"
            text = f"You may silence for {duration(allowed)} at the most{more if policy.may_silence else ''}."
            return self._refuse(click, text + reason)
        until = now + (allowed if wanted is None else wanted)
        return await self._act(click, "silence", now, until=until, with_incident=wanted is None)

    async def _open_form(self, click: Click) -> Done:
        policy = self._book().slack
        longest = duration(policy.by_everybody)
        if policy.may_silence:
            longest += f", members of {_groups(policy.may_silence)} {duration(policy.longest_silence)}"
        view = silence_form(form_metadata(click), longest)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._api.call(OPEN_FORM, body={"trigger_id": click.trigger_id, "view": view})
        except (DeliveryFailed, TimeoutError) as error:
            text = f"Slack does not open the form: {str(error) or 'no answer'}."
            return self._refuse(click, text, Came.FAILED)
        return Came.DONE, None

    async def _why(self, click: Click) -> Done:
        if not (row := await self._incident(click)):
            return self._refuse(click, "This incident is not kept any more.", Came.NOTHING)
        rule = self._book().rules.by_name.get(row.incident.rule)
        self._tell(click, why_text(row.incident, row.last, rule), written=True)
        return Came.DONE, None

    async def _why_not_resolve(self, click: Click) -> str:
        row = await self._incident(click)
        rule = row and self._book().rules.by_name.get(row.incident.rule)
        return "Its rule says what resolves it: nothing was done." if rule and rule.resolve else ""

    async def _incident(self, click: Click) -> IncidentRow | None:
        if click.about is None:
            return None
        return await self._store.read(queries.incidents.incident, click.about.incident)

    def _refuse(self, click: Click, text: str, came: Came = Came.REFUSED) -> Done:
        """Say why nothing was done: in the form, if it is one, else to the person alone."""
        if click.fields is not None:
            return came, {"response_action": "errors", "errors": {LENGTH_FIELD: text}}
        self._tell(click, text)
        return came, None

    def _tell(self, click: Click, text: str, *, written: bool = False) -> None:
        """Answer the person who clicked; `written`: the text is in Slack's markup already."""
        text = text if written else escape(text, MAX_ALONE_CHARS)
        # In the background: Slack waits 3 s for the answer to the click, not for this.
        self._telling.add(task := asyncio.create_task(self._post(click.response_url, text)))
        task.add_done_callback(self._telling.discard)

    async def _post(self, url: str, text: str) -> None:
        body = {"response_type": "ephemeral", "replace_original": False, **message_of(text, [section(text)])}
        if not self._is_slack(url):
            log.warning("click_not_answered", reason="Slack gave no address of its own")
            return
        session = SlackSession("slack_sdk.webhook", url, self.clock, self._network)
        client = AsyncWebhookClient(url, session=session.open(), retry_handlers=[], logger=session.log)
        try:
            with asking_slack(urlsplit(url).hostname or "", sends=False):
                answer = await session.route(client).send_dict(body)
            if answer.status_code >= 300:
                log.warning("click_not_answered", reason=str(answer.status_code))
        except DeliveryFailed as failed:
            log.warning("click_not_answered", reason=failed.reason)
        finally:
            await session.close()

    def _is_slack(self, url: str) -> bool:
        """Tell whether an address is one of the Slack that is configured: nothing else is called."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        ours = self._slack.hostname or ""
        same_host = host == ours or host.endswith(f".{ours}")
        return parts.scheme == self._slack.scheme and same_host and port == self._slack.port


def _shown(results: list[ActionResult], *, quiet: bool) -> list[str]:
    """Choose what the person is told of several actions: what was done in a number, else why it was not."""
    if len(results) == 1:
        (result,) = results
        return [] if quiet and result.came == "done" else [result.text]
    done = [result for result in results if result.came == "done"]
    others = dict.fromkeys(result.text for result in results if result.came != "done")
    return [f"{len(done)} of {len(results)} incidents: done.", *list(others)[:3]]


def _groups(names: tuple[str, ...]) -> str:
    return " or ".join(f"@{name}" for name in names)
