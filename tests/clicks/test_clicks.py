"""Clicks in Slack, from the button to the store and back to the message."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import structlog
from starlette.responses import JSONResponse

from app.model.incident import Step
from app.model.silence import Silence
from app.notifier.slack.buttons import About
from app.store import queries
from app.store.views import AuditEntry, IncidentRow
from tests.clicks.conftest import CHANNEL, Run
from tests.clicks.workspace import Workspace, blocks_of
from tests.conftest import Service
from tests.waiting import until

ENDLESS = {
    "name": "lag",
    "when": {"property": "healthStatus", "to": "Degraded"},
    "again_after": "1h",
}
"""A rule without `resolve`."""


async def opened(
    service: Service, workspace: Workspace, entity: str = "checkout", *, by_http: bool = False
) -> dict[str, Any]:
    """Open an incident, and give its message once it stands in the channel and can be clicked on."""
    await until(lambda: by_http or bool(workspace.sockets))
    assert (await service.change("Healthy", "Degraded", entity=entity)).status_code == 202
    await until(lambda: any(entity in json.dumps(one) for one in workspace.messages(CHANNEL)))
    (message,) = [one for one in workspace.messages(CHANNEL) if entity in json.dumps(one)]

    await until(lambda: recorded(service))
    return message


async def recorded(service: Service) -> bool:
    """Tell whether what was sent is recorded, so that the message is known by its incidents."""
    rows = [row for row in await service.deliveries() if row.notification.step is not Step.REMINDED]
    return all(row.ended_at is not None for row in rows)


async def click(
    workspace: Workspace,
    message: Mapping[str, Any],
    action: str,
    value: str = "",
    by: str = "U7",
    **more: Any,
) -> dict[str, Any] | None:
    """Click, and give Slack's acknowledgement."""
    channel = workspace.channel(CHANNEL).id
    payload = workspace.payload(dict(message), action, channel=channel, value=value, by=by, **more)
    return await workspace.send(payload)


async def told(workspace: Workspace, number: int = 1) -> str:
    """Wait for so many answers to one person alone, and give the last."""
    await until(lambda: len(workspace.told) == number)
    answer = workspace.told[-1]
    assert (answer["response_type"], answer["replace_original"]) == ("ephemeral", False)
    return str(answer["text"])


def labels(message: Mapping[str, Any]) -> list[str]:
    """List the buttons that do something."""
    actions = [block for block in blocks_of(message) if block["type"] == "actions" and "block_id" in block]
    return [element["action_id"] for block in actions for element in block["elements"]]


async def trail(service: Service) -> list[AuditEntry]:
    """Give the audit trail, oldest first."""
    return list((await service.store.read(queries.audit.entries, limit=1000)).rows)[::-1]


async def incident(service: Service) -> IncidentRow:
    """Give the incident."""
    (row,) = (await service.store.read(queries.incidents.page, limit=10)).rows
    return row


async def silences(service: Service) -> list[Silence]:
    """Give the silences."""
    return await service.store.read(queries.silences.silences, active_at=None)


async def test_the_story_of_a_click(run: Run, workspace: Workspace) -> None:
    """Acknowledged, seen by all in the message, said once to who comes second, taken back, over."""
    async with run() as service:
        message = await opened(service, workspace)
        assert labels(message) == ["acknowledge", "silence", "more"]
        assert await click(workspace, message, "acknowledge") is not None
        assert (await incident(service)).incident.acknowledged is not None  # before Slack was answered
        await until(lambda: "Acknowledged by user-u7" in json.dumps(message))
        assert labels(message) == ["unacknowledge", "silence", "more"]
        stale = message | {"attachments": [{"blocks": [_buttons("acknowledge", message)]}]}
        assert await click(workspace, stale, "acknowledge", by="U8") is not None
        assert "is already acknowledged by user-u7" in await told(workspace)
        await click(workspace, message, "unacknowledge", by="U8")
        await until(lambda: "Acknowledged by" not in json.dumps(message))
        await service.change("Degraded", "Healthy", entity="checkout")
        await until(lambda: "#2eb67d" in json.dumps(message))
        assert labels(message) == []
        await click(workspace, stale, "acknowledge")
        assert "is over since" in await told(workspace, 2)
        entries = await trail(service)
        assert [(entry.who, entry.what) for entry in entries] == [
            ("user-u7 (Slack U7)", "acknowledge incident"),
            ("user-u8 (Slack U8)", "unacknowledge incident"),
        ]


def _buttons(action: str, message: Mapping[str, Any]) -> dict[str, Any]:
    (block,) = [block for block in blocks_of(message) if "block_id" in block and block["type"] == "actions"]
    return block | {"elements": [{"type": "button", "action_id": action}]}


async def test_the_same_click_twice_is_done_once(run: Run, workspace: Workspace) -> None:
    """Slack repeats an envelope, or the connection ends before the answer: the retry finds it done."""
    async with run() as service:
        message = await opened(service, workspace)
        payload = workspace.payload(message, "acknowledge", channel=workspace.channel(CHANNEL).id)
        workspace.copies = 3
        assert await workspace.send(payload) is not None
        workspace.copies = 1
        await workspace.send(payload)  # in another envelope, as over another connection
        (socket,) = workspace.sockets
        action = payload["actions"][0] | {"action_id": "unacknowledge"}
        again = payload | {"trigger_id": "another", "actions": [action]}
        await socket.send_str(json.dumps({"type": "interactive", "envelope_id": "e", "payload": again}))
        await socket.close()
        await until(lambda: bool(workspace.sockets) and workspace.sockets != [socket])
        assert await workspace.send(again) is not None
        done = ["acknowledge incident", "unacknowledge incident"]
        assert [entry.what for entry in await trail(service)] == done
        assert (await incident(service)).incident.version == 3


@pytest.mark.parametrize("team", ["T9STRANGER", ""])
async def test_strangers_are_refused(run: Run, workspace: Workspace, team: str) -> None:
    """A person of another workspace, in a channel of Slack Connect, does nothing by a click."""
    async with run() as service:
        message = await opened(service, workspace)
        user = {"id": "U9", "name": "mallory", "team_id": team}
        for action, value in (("acknowledge", ""), ("silence", "1h"), ("more", "why")):
            assert await click(workspace, message, action, value, user=user) is not None
        assert "Only people of this workspace" in await told(workspace, 3)
        assert await trail(service) == []
        assert await silences(service) == []


async def test_while_slack_does_not_say_who_is_who_nothing_is_done(run: Run, workspace: Workspace) -> None:
    """It is asked again at the next click."""
    async with run() as service:
        message = await opened(service, workspace)
        workspace.refuse("auth.test", "internal_error")
        await click(workspace, message, "acknowledge")
        assert "Slack does not say" in await told(workspace)
        assert await trail(service) == []
        await click(workspace, message, "acknowledge")
        assert len(await trail(service)) == 1


HOUR = timedelta(hours=1)
POLICY = {"slack": {"may_silence": ["@sre"], "longest_silence": "12h"}}


@pytest.mark.parametrize(
    ("rules", "by", "value", "lasts", "answer"),
    [
        ({}, "U7", "1h", HOUR, "is silenced by user-u7, until"),
        ({}, "U7", "4h", 4 * HOUR, "is silenced by user-u7, until"),
        ({}, "U1", "until_over", 4 * HOUR, "until it is over, at the latest until"),
        (POLICY, "U7", "until_over", 4 * HOUR, "until it is over, at the latest until"),
        (POLICY, "U1", "until_over", 12 * HOUR, "until it is over, at the latest until"),
        ({"slack": {"longest_silence": "2h"}}, "U1", "4h", None, "You may silence for 2 h at the most."),
        ({}, "U7", "9h", None, "menu"),
    ],
)
async def test_silences(
    run: Run,
    workspace: Workspace,
    rules: dict[str, Any],
    by: str,
    value: str,
    lasts: timedelta | None,
    answer: str,
) -> None:
    """From the menu: as long as it says, and never longer than the person may."""
    async with run(rules) as service:
        message = await opened(service, workspace)
        if answer == "menu":  # not one of ours: a made-up choice counts no more than any other
            payload = workspace.payload(
                message, "silence", channel=workspace.channel(CHANNEL).id, by=by, value="1h"
            )
            payload["actions"][0]["selected_option"]["value"] = value
            await workspace.send(payload)
            assert "You may silence for 4 h at the most" in await told(workspace)
        else:
            await click(workspace, message, "silence", value, by=by)
            assert answer in await told(workspace)
            if lasts:
                await until(
                    lambda: f"Silenced by user-{by.lower()} (Slack {by}) until" in json.dumps(message)
                )
        made = await silences(service)
        assert [silence.ends_at - silence.starts_at for silence in made] == ([lasts] if lasts else [])
        row = await incident(service)
        assert all(row.last and silence.covers(row.last) for silence in made)
        assert [silence.incident_id is not None for silence in made] == (
            [value == "until_over"] if lasts else []
        )


async def test_a_silence_that_ends_leaves_the_message(run: Run, workspace: Workspace) -> None:
    """Somebody ends it on the page, say: the message says so no more."""
    async with run() as service:
        message = await opened(service, workspace, "odd [name]*")
        await click(workspace, message, "silence", "1h")
        await until(lambda: "Silenced by" in json.dumps(message))
        (silence,) = await silences(service)
        assert await service.store.write(queries.silences.end, silence.id, service.store.clock())
        await until(lambda: "Silenced by" not in json.dumps(message))


@pytest.mark.parametrize(
    ("by", "length", "mistake"),
    [
        ("U1", "8h", ""),
        ("U7", "90m", ""),
        ("U7", "8h", "You may silence for 4 h at the most, members of @sre for up to 12 h."),
        ("U1", "13h", "You may silence for 12 h at the most"),
        ("U1", "eternally", "must be a time such as"),
        ("U1", "0s", "must be between"),
    ],
)
async def test_the_form(run: Run, workspace: Workspace, by: str, length: str, mistake: str) -> None:
    """It asks for how long and why; a mistake shows in the form, which stays open."""
    async with run(POLICY) as service:
        message = await opened(service, workspace)
        await click(workspace, message, "silence", "other", by=by)
        (form,) = workspace.forms
        values = {
            "length": {"length": {"value": length}},
            "comment": {"comment": {"value": "we know <!here>"}},
        }
        user = {"id": by, "name": f"user-{by}", "team_id": "T1"}
        view = {"id": "V1", "state": {"values": values}} | {
            key: form[key] for key in ("callback_id", "private_metadata")
        }
        payload = {"type": "view_submission", "user": user, "trigger_id": "f.1", "view": view}
        answer = await workspace.send(payload)
        assert answer is not None
        if mistake:
            assert mistake in answer["payload"]["errors"]["length"]
            assert await silences(service) == []
        else:
            assert "payload" not in answer
            (silence,) = await silences(service)
            assert (silence.comment, silence.author) == ("we know <!here>", f"user-{by} (Slack {by})")
            assert "&lt;!here&gt;" in await told(workspace)


async def test_a_group_that_cannot_be_looked_up(run: Run, workspace: Workspace) -> None:
    """The person is told why; nobody gets a longer silence because Slack does not answer."""
    workspace.scopes -= {"usergroups:read"}
    async with run(POLICY) as service:
        message = await opened(service, workspace)
        await click(workspace, message, "silence", "other", by="U1")
        (form,) = workspace.forms
        view = {"id": "V1", "state": {"values": {"b": {"length": {"value": "8h"}}}}, **form}
        user = {"id": "U1", "name": "u1", "team_id": "T1"}
        answer = await workspace.send(
            {"type": "view_submission", "user": user, "trigger_id": "f.1", "view": view}
        )
        assert answer is not None
        assert "usergroups:read" in answer["payload"]["errors"]["length"]
        assert await silences(service) == []


async def test_why(run: Run, workspace: Workspace) -> None:
    """The rule, its condition with the values, and the way: to this person alone."""
    async with run() as service:
        message = await opened(service, workspace)
        await click(workspace, message, "more", "why")
        text = await told(workspace)
        for part in (
            "*Rule* health, warning",
            "*When* property: healthStatus",
            "healthStatus Healthy → Degraded",
            "*Alerted* default",
        ):
            assert part in text
        assert await trail(service) == []


async def test_only_what_no_change_resolves_can_be_resolved(run: Run, workspace: Workspace) -> None:
    """The button is there for a rule without `resolve`; a click that is made up does nothing to another's."""
    async with run({"rules": [ENDLESS]}) as service:
        message = await opened(service, workspace)
        assert labels(message) == ["acknowledge", "silence", "resolve", "more"]
        await click(workspace, message, "resolve")
        await until(lambda: labels(message) == [])
        assert (await incident(service)).incident.resolved_at is not None
        assert [entry.what for entry in await trail(service)] == ["close incident"]


async def test_a_click_decides_nothing(run: Run, workspace: Workspace) -> None:
    """A made-up click on a button that the message does not have does nothing to it."""
    async with run() as service:
        message = await opened(service, workspace)
        payload = workspace.payload(message, "acknowledge", channel=workspace.channel(CHANNEL).id)
        payload["actions"][0]["action_id"] = "resolve"
        await workspace.send(payload)
        assert "Its rule says what resolves it" in await told(workspace)
        assert (await incident(service)).incident.resolved_at is None


async def test_a_digest_can_be_silenced(run: Run, workspace: Workspace) -> None:
    """*Silence these* silences each incident of the message, and there is no other button."""
    async with run() as service:
        await until(lambda: bool(workspace.sockets))
        busy = JSONResponse({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": "1"})
        workspace.answers["chat.postMessage"].append(busy)
        for entity in ("a-one", "b-two", "c-three"):
            await service.change("Healthy", "Degraded", entity=entity)
        await until(lambda: len(workspace.messages(CHANNEL)) > 0)
        await until(lambda: "c-three" in json.dumps(workspace.messages(CHANNEL)))
        message = next(one for one in workspace.messages(CHANNEL) if labels(one) == ["silence"])
        await until(lambda: recorded(service))
        await click(workspace, message, "silence", "1h")
        text = await told(workspace)
        made = await silences(service)
        assert f"{len(made)} of {len(made)} incidents: done." in text
        assert len(made) >= 2
        assert len(await trail(service)) == len(made)


async def test_links_and_nonsense_are_acknowledged_and_do_nothing(run: Run, workspace: Workspace) -> None:
    """Slack tells of a click on a link too; and what is not ours is nobody's."""
    async with run() as service:
        message = await opened(service, workspace)
        base = workspace.payload(message, "acknowledge", channel=workspace.channel(CHANNEL).id)
        action = base["actions"][0]
        with structlog.testing.capture_logs() as logs:
            for payload in (
                base | {"actions": [{"action_id": "link-0", "block_id": "x"}]},
                base | {"actions": [action | {"block_id": "incident:x:y"}]},
                base | {"actions": [action | {"block_id": 7}]},
                base | {"actions": []},
                base | {"actions": "all"},
                base | {"user": None},
                base | {"trigger_id": ""} | {"actions": [action | {"action_id": "fire"}]},
                {
                    "type": "view_submission",
                    "user": base["user"],
                    "view": {"id": "V", "callback_id": "silence"},
                },
                {"type": "message_action"},
                {},
            ):
                assert await workspace.send(payload) is not None
        assert await trail(service) == []
        assert [entry for entry in logs if entry["log_level"] == "error"] == []
        unknown = base | {"actions": [action | {"block_id": About("gone", 1).block_id}]}
        assert await workspace.send(unknown) is not None
        assert "There is no incident 'gone'" in await told(workspace)


async def test_nothing_but_slack_is_called(run: Run, workspace: Workspace) -> None:
    """An answer goes to no address that is not Slack's, whatever a payload says."""
    async with run() as service:
        message = await opened(service, workspace)
        calls = len(workspace.told)
        for url in (
            "",
            "http://127.0.0.1:9/respond",
            "http://[",
            "file:///etc/passwd",
            f"{service.url}/readyz",
        ):
            await click(workspace, message, "more", "why", response_url=url)
        await click(workspace, message, "more", "why")
        await told(workspace, calls + 1)


async def test_without_a_way_for_clicks_there_are_no_buttons(run: Run, workspace: Workspace) -> None:
    """A button that does nothing is worse than none."""
    async with run(slack_app_token=None) as service:
        await service.change("Healthy", "Degraded", entity="checkout")
        await until(lambda: bool(workspace.messages(CHANNEL)))
        (message,) = workspace.messages(CHANNEL)
        assert labels(message) == []
        assert (await service.client.post("/api/slack/interactive")).status_code == 404


async def test_what_is_wrong_shows(run: Run, workspace: Workspace) -> None:
    """A token that was revoked shows in /readyz and the metrics, until one process has a connection."""
    async with run(metrics_public=True) as service:

        async def warnings() -> str:
            return " ".join((await service.client.get("/readyz")).json()["warnings"])

        async def warned() -> bool:
            return "no clicks come from Slack: token_revoked" in await warnings()

        await until(lambda: bool(workspace.sockets))
        assert "Slack" not in await warnings()
        assert "port_listener_slack_socket_down 0.0" in (await service.client.get("/metrics")).text
        workspace.refusal = "token_revoked"
        await workspace.close()
        await until(warned)
        assert "port_listener_slack_socket_down 1.0" in (await service.client.get("/metrics")).text
        workspace.refusal = ""
        async with run():  # another replica
            await until(lambda: bool(workspace.sockets))

            async def well() -> bool:
                return not await warned()

            await until(well)
