"""Every odd body that Port, its agent or other people's automations send: tests/payloads, one file each."""

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from app.demo.run import Shape, change_body
from app.errors import UnreadableChange
from app.model.change import CatalogChange
from app.model.diff import diff
from app.receive.payload import parse_event
from app.receive.signature import Signed
from tests.receive.mangling import PAYLOADS, mangled_bytes, mangled_values

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
AT = datetime(2026, 6, 9, 12, 28, 18, 477_000, UTC)
UPDATED_AT = datetime(2026, 6, 9, 12, 28, 17, 900_000, UTC)


def legacy(**facts: Any) -> dict[str, Any]:
    """Return the facts of the usual change as a changelog tells it, with `facts` in place of the usual."""
    usual = {
        "action": "UPDATE",
        "resource": "entity",
        "blueprint": "deploymentConfig",
        "entity": "notification-service-prod",
        "title": "Notification Service",
        "teams": ("Rocket",),
        "before": "Healthy",
        "after": "Degraded",
        "actor": "auth0|u1",
        "origin": "UI",
        "at": AT,
        "timer": None,
        "run_id": None,
        "found_at": None,
        "report_to": None,
    }
    return usual | facts


def automation(**facts: Any) -> dict[str, Any]:
    """Return the facts of the usual change as our automation tells it."""
    return legacy(**({"actor": "ada@example.com", "run_id": "r_1"} | facts))


UNTITLED = {"title": "notification-service-prod"}
BARE = UNTITLED | {"teams": (), "before": None, "after": None}

BARE_RUN = legacy(resource="run", **BARE)
RUN = BARE_RUN | {
    "action": "CREATE",
    "blueprint": "Service",
    "entity": "r_jE5FhDURh4Uen2Qr",
    "title": "Create",
    "actor": "test_user",
    "at": datetime(2022, 11, 16, 16, 31, 32, 447_000, UTC),
    "run_id": "r_jE5FhDURh4Uen2Qr",
}
SERVICE = legacy(
    blueprint="service",
    entity="example-service-identifier",
    title="Example service renamed",
    before=None,
    after=None,
    actor="auth0|62ceaea697ca00f09d7c4f45",
    at=datetime(2024, 6, 9, 12, 28, 18, 477_000, UTC),
)
TIMER = BARE | {
    "action": "TIMER_EXPIRED",
    "blueprint": "timerExample",
    "entity": "entityIdentifier",
    "title": "entityIdentifier",
    "actor": "Port",
    "origin": "API",
    "at": datetime(2022, 12, 1, 14, 50, tzinfo=UTC),
}

READABLE = {
    "changelog_update": legacy(),
    "automation_update": automation(),
    "automation_that_waits_for_a_report": automation(report_to="r_1"),
    "workflow_that_asks_for_a_report": legacy(run_id="wfnr_1"),
    "database_cpu_crosses_80": automation(
        blueprint="database", entity="orders-db", title="Orders database", before=None, after=None
    ),
    "workflow_update": legacy(run_id="wfnr_1"),
    "event_at_root_of_envelope": legacy(run_id="r_1"),
    "whole_envelope_inputs_trigger_event_entity_action_run": automation(actor="Ada Lovelace"),
    "agent_added_headers_and_payload": automation(),
    "agent_added_run_id_to_context": legacy(run_id="r_2"),
    "agent_node_config_body": legacy(),
    "agent_node_config_whole_envelope": automation(),
    "null_name_beside_another": legacy(),
    "event_identifier_and_changelog_destination_at_root": legacy(),
    "event_as_text": legacy(),
    "unknown_fields": automation(),
    "found_by_reconciling": legacy(actor="", origin="reconcile", found_at=NOW),
    # actions and resources
    "create_before_null": automation(action="CREATE", before=None),
    "delete_after_null": automation(action="DELETE", after=None),
    "null_diff": automation(**BARE),
    "timer_expired_without_diff": automation(
        action="TIMER_EXPIRED", actor="", origin="TIMER", timer="locked_until", **BARE
    ),
    "timer_expired_by_port": legacy(**TIMER),
    "timer_expired_with_additional_data": legacy(**TIMER, timer="timer"),
    "timer_expired_with_entity": SERVICE | {"action": "TIMER_EXPIRED", "timer": "ttl"},
    "service_updated": SERVICE,
    "vm_updated": legacy(
        blueprint="vm",
        entity="storage-example",
        title="Storage Example VM",
        teams=(),
        before=None,
        after=None,
        actor="h2Mf13aRSCYQCUPIcqufoP4XRLwAt8Od@clients",
        origin="API",
        at=datetime(2022, 7, 15, 16, 44, 56, 288_000, UTC),
    ),
    "unknown_action": automation(action="ARCHIVE"),
    "unknown_origin_and_resource": legacy(
        resource="scorecard",
        origin="MOON_BASE",
        entity="sc_1",
        title="sc_1",
        teams=(),
        before=None,
        after=None,
    ),
    "resource_type_absent": legacy(),
    "run_resource": RUN,
    "run_invoked": RUN | {"title": "r_jE5FhDURh4Uen2Qr"},
    "run_invoked_without_resource": BARE_RUN
    | {"action": "CREATE", "blueprint": "microservice", "entity": "run_123", "title": "run_123"}
    | {"actor": "user_123", "origin": "", "at": NOW, "run_id": "run_123"},
    "run_created_by_api": BARE_RUN
    | {"action": "CREATE", "blueprint": "vm", "entity": "run_q2mGf9ZYkFRnZJjB"}
    | {"title": "run_q2mGf9ZYkFRnZJjB"}
    | {"actor": "h2Mf13aRSCYQCUPIcqufoP4XRLwAt8Od@clients", "origin": "API"}
    | {"at": datetime(2022, 7, 14, 11, 38, 10, 629_000, UTC), "run_id": "run_q2mGf9ZYkFRnZJjB"},
    "run_updated": BARE_RUN
    | {"blueprint": "blueprintIdentifier", "entity": "r_Q0YotCZMKxDLdlaU"}
    | {"title": "entityTitle: Some action title"}
    | {"actor": "James Hetfield", "at": datetime(2024, 8, 15, 12, 30, 5, 505_000, UTC)}
    | {"run_id": "r_au3aJdlOHUO3d99n"},
    "blueprint_resource": legacy(
        resource="blueprint",
        entity="deploymentConfig",
        title="Deployment Configs",
        teams=(),
        before=None,
        after=None,
    ),
    # the entity
    "null_title": automation(**UNTITLED),
    "empty_title": automation(**UNTITLED),
    "half_an_emoji": automation(title="Rocket ?"),
    "team_absent": automation(teams=()),
    "team_null": automation(teams=()),
    "team_as_text": automation(),
    "odd_decoration": legacy(**UNTITLED),
    "missing_properties": legacy(before=None),
    "null_properties_and_relations": legacy(before=None),
    "context_blueprint_id_entity_id": legacy(),
    "context_without_names": legacy(),
    "odd_names_in_context": legacy(),
    # who
    "app_id_without_user_id": legacy(actor="app app_1", origin="API", run_id="r_5"),
    "by_port": legacy(actor="Port", origin="PORT"),
    "by_text": legacy(actor=""),
    "null_context_and_trigger": legacy(actor="", origin="", at=UPDATED_AT),
    # when
    "no_trigger_time": automation(at=UPDATED_AT),
    "unreadable_time": automation(at=UPDATED_AT),
    "time_out_of_range": automation(at=UPDATED_AT),
    "time_with_offset": automation(),
    "time_in_milliseconds": automation(),
    "no_time_at_all": automation(at=NOW),
    "future_time": automation(at=NOW),
}
"""What each body says; `before` and `after` stand for the health status there."""

UNREADABLE = {
    "cut_off": "",
    "infinite_number": "",
    "not_an_object": "",
    "empty_object": "action",
    "no_action": "event.action",
    "empty_action": "action",
    "entity_without_identifier": "event.diff.after.identifier",
    "properties_not_an_object": "diff.after.properties",
    "diff_as_text": "context.nodeConfig.body.event.diff",
    "context_as_list": "event.context",
    "no_blueprint": "event.context.blueprintIdentifier",
    "timer_without_entity": "context.entityIdentifier",
    "agent_node_config_body_without_action": "context.nodeConfig.body.action",
}
"""The path of the field at fault in each body."""


def parse(body: bytes) -> CatalogChange:
    """Read a body that was signed just now."""
    return parse_event(Signed(body, NOW))


def test_every_payload_has_an_expectation() -> None:
    """A file without an expectation, or an expectation without its file, is a mistake."""
    assert READABLE.keys().isdisjoint(UNREADABLE)
    assert READABLE.keys() | UNREADABLE.keys() == PAYLOADS.keys()


@pytest.mark.parametrize("name", READABLE)
def test_a_readable_body(name: str) -> None:
    """Each body becomes the change that it tells of."""
    change = parse(PAYLOADS[name])
    facts = asdict(change)
    for side in ("before", "after"):
        facts[side] = facts[side] and facts[side]["properties"].get("healthStatus")
    assert facts == READABLE[name] | {"key": change.key}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_body(name: str) -> None:
    """Each body is refused, with the path of the field at fault and a reason for a person."""
    with pytest.raises(UnreadableChange) as refused:
        parse(PAYLOADS[name])
    assert refused.value.path == UNREADABLE[name]
    assert refused.value.reason


@pytest.mark.parametrize(
    "event",
    [
        {"resourceType": "webhook", "diff": {"before": None, "after": {"id": "wh_1", "enabled": True}}},
        {"resourceType": "integration", "action": "UPDATE", "diff": {"after": {"installationId": "x"}}},
        {"resourceType": "team", "action": "UPDATE", "diff": {"before": {"name": "Rocket"}, "after": None}},
        {"resourceType": "user", "action": {"identifier": "CREATE"}, "context": None, "trigger": []},
        {"resourceType": "blueprint", "context": ["odd"], "diff": {"after": {"title": {"no": "text"}}}},
        {"resourceType": "page", "diff": "not an object"},
        {"resourceType": "run", "diff": {"before": [], "after": {"id": 7, "action": 7, "properties": None}}},
    ],
    ids=lambda event: event["resourceType"],
)
def test_another_resource_has_a_shape_of_its_own(event: dict[str, Any]) -> None:
    """Whatever it looks like, it is a change, bare or in an envelope: only an entity must look like one."""
    for body in (event, {"event": event | {"context": event.get("context")}}):
        assert parse(json.dumps(body).encode()).resource == event["resourceType"]


def test_the_fields_of_another_resource_are_its_properties() -> None:
    """So a rule can name a run's status, and what changed in it is shown."""
    body = json.loads(PAYLOADS["run_updated"])
    body["event"]["diff"]["after"]["status"] = "FAILURE"
    change = parse(json.dumps(body).encode())
    assert [(value.name, value.after) for value in diff(change.before, change.after)] == [
        ("status", "FAILURE")
    ]


def test_the_shape_makes_no_difference_to_the_key() -> None:
    """One change has one key in all three shapes, through the agent, and however often it arrives."""
    bodies = [
        change_body(before="Healthy", after="Crashed", at=NOW, shape=shape) for shape in (*Shape, *Shape)
    ]
    bodies += [
        json.dumps({"context": {"nodeConfig": {"body": json.loads(body)}}}).encode() for body in bodies
    ]
    later = Signed(bodies[0], NOW + timedelta(minutes=4))
    assert len({parse(body).key for body in bodies} | {parse_event(later).key}) == 1


def test_all_changes_have_keys_of_their_own() -> None:
    """Another time, status, entity or title is another change."""
    usual: dict[str, Any] = {"before": "Healthy", "after": "Crashed", "at": NOW}
    others: list[dict[str, Any]] = [
        {},
        {"at": NOW - timedelta(milliseconds=1)},
        {"before": "Degraded"},
        {"after": "Degraded"},
        {"entity": "other"},
        {"title": None},
        {"team": "Other"},
    ]
    assert len({parse(change_body(**(usual | other))).key for other in others}) == len(others)


def test_a_time_from_the_future_keeps_the_key() -> None:
    """Its place in the order is when it was signed; its key rests on what Port said."""
    body = PAYLOADS["future_time"]
    again = parse_event(Signed(body, NOW + timedelta(minutes=1)))
    assert (again.key, again.at) == (parse(body).key, NOW + timedelta(minutes=1))


def test_a_time_that_is_a_programs_zero() -> None:
    """Nobody's catalog is as old as year 1: it happened, as far as anybody knows, when it was signed."""
    body = json.loads(PAYLOADS["changelog_update"])
    body["trigger"]["at"] = "0001-01-01T00:00:00Z"
    assert parse(json.dumps(body).encode()).at == NOW


@pytest.mark.parametrize(("name", "longest"), [("blueprint", 400), ("entity", 2_048)])
def test_an_identifier_that_is_none_of_ports(name: str, longest: int) -> None:
    """One that no index holds is refused and named, in the same way by every store."""
    body = json.loads(PAYLOADS["changelog_update"])
    body["context"][name] = "é" * (longest // 2)
    assert getattr(parse(json.dumps(body).encode()), name) == "é" * (longest // 2)
    body["context"][name] += "e"
    with pytest.raises(UnreadableChange, match=f"longer than {longest} bytes") as refused:
        parse(json.dumps(body).encode())
    assert refused.value.path == f"context.{name}Identifier"


def test_clocks_may_differ_a_little() -> None:
    """An event of the next second keeps its own time: signatures have theirs in whole seconds."""
    ahead = NOW + timedelta(milliseconds=900)
    assert parse(change_body(before="Healthy", after="Crashed", at=ahead)).at == ahead


def test_bookkeeping_is_no_change() -> None:
    """When and by whom an entity was made and updated is not part of it."""
    body = json.loads(PAYLOADS["changelog_update"])
    body["diff"]["before"]["properties"] = body["diff"]["after"]["properties"]
    body["diff"]["after"] |= dict.fromkeys(("createdAt", "createdBy", "updatedAt", "updatedBy"), "other")
    change = parse(json.dumps(body).encode())
    assert diff(change.before, change.after) == ()


def test_a_null_property_is_a_missing_one() -> None:
    """Port does not tell them apart, so neither does a change: they have the same key."""
    with_null = json.loads(PAYLOADS["changelog_update"])
    with_null["diff"]["after"]["properties"]["owner"] = None
    assert parse(json.dumps(with_null).encode()) == parse(PAYLOADS["changelog_update"])


def read_or_refuse(body: bytes) -> None:
    """Parse a body; anything but a change or `UnreadableChange` fails the test."""
    with suppress(UnreadableChange):
        assert isinstance(parse(body), CatalogChange)


@given(mangled_values() | mangled_bytes())
@settings(max_examples=500, deadline=None)
def test_mangled_bodies_are_read_or_refused(body: bytes) -> None:
    """Whatever is deleted, replaced, of another type, cut off or flipped, there is a change or a reason."""
    read_or_refuse(body)
