"""The description of the API, /openapi.json: tools read it, and the listener keeps to it."""

import json
import re
from typing import Any

import httpx2
import pytest
from aiopenapi3 import OpenAPI
from aiopenapi3.errors import HTTPClientError
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.conftest import NO_TLS, Start
from tests.web.visitor import BEARER, TOKEN


def keep_to(schema: dict[str, Any], value: Any, document: dict[str, Any]) -> None:
    """Hold that a value is of a schema of an OpenAPI document."""
    Draft202012Validator(schema | {"components": document["components"]}).validate(value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"admin_token": TOKEN}, {"metrics_public": True}, {"slack_signing_secret": "0" * 32}],
    ids=str,
)
async def test_the_description_is_one_that_tools_read(start: Start, settings: dict[str, Any]) -> None:
    """It is valid, every reference leads somewhere, and the bodies of Port that it shows keep to it."""
    async with start(**settings) as service:
        document = (await service.client.get("/openapi.json")).json()
    validate(document)
    for kind, name in re.findall(r'"\$ref": "#/components/(\w+)/([^"]+)"', json.dumps(document)):
        assert name in document["components"][kind]
    described = document["paths"]["/api/slack"]["post"]["requestBody"]["content"]["application/json"]
    for example in described["examples"].values():
        keep_to(described["schema"], example["value"], document)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert "security" in operation, (method, path)
            assert "405" in operation["responses"], (method, path)


NAMES = {"none": "{name}", "x": "{number}", "7": "{number}", "acknowledge": "{verb}", "silence": "{verb}"}
"""What stands in a path for the name in the description's path."""


async def test_refusals_have_the_described_shape(start: Start) -> None:
    """Each status is one that the route describes, and each body is of the described schema."""
    json_type = {"Content-Type": "application/json"}
    requests: list[tuple[str, str, int, dict[str, Any]]] = [
        ("GET", "/changes?limit=0", 422, {}),
        ("GET", "/changes?limit=none&state=none", 422, {}),
        ("GET", "/changes?before=nonsense", 422, {}),
        ("GET", "/changes?state=lost", 422, {}),
        ("GET", "/changes/x", 422, {}),
        ("GET", "/changes/7", 404, {}),
        ("GET", "/deliveries?state=lost", 422, {}),
        ("GET", "/incidents?severity=bad", 422, {}),
        ("DELETE", "/incidents", 405, {}),
        ("POST", "/silences", 422, {"json": {}}),
        ("POST", "/silences", 422, {"json": {"comment": "why", "seconds": 60}}),
        ("POST", "/silences", 422, {"content": b"{", "headers": json_type}),
        ("POST", "/silences", 422, {"content": b'{"comment": "\\ud83d"}', "headers": json_type}),
        ("POST", "/silences", 400, {"content": b'{"comment": "\xff"}', "headers": json_type}),
        ("POST", "/silences", 413, {"content": b" " * 101 * 1024, "headers": json_type}),
        ("POST", "/queues/none/release", 404, {}),
        ("POST", "/incidents/none/acknowledge", 404, {"json": {}}),
        ("POST", "/incidents/none/silence", 422, {"json": {"seconds": -1}}),
    ]
    async with start(admin_token=TOKEN, max_body_bytes=100 * 1024) as service:
        document = (await service.client.get("/openapi.json")).json()
        for method, path, status, more in requests:
            headers = BEARER | more.pop("headers", {})
            answer = await service.client.request(method, f"/api/v1{path}", headers=headers, **more)
            assert answer.status_code == status, (path, answer.text)
            template = re.sub(
                r"\?.*|(?<=/)none(?=/)|(?<=changes/).*|(?<=none/)(?:acknowledge|silence)",
                lambda one: NAMES.get(one[0], ""),
                path,
            )
            operations = document["paths"][f"/api/v1{template}"]
            operation = operations.get(method.lower()) or next(iter(operations.values()))
            described = operation["responses"][str(status)]
            if status != 413:  # where the size is announced, the framework answers in plain text
                keep_to(described["content"]["application/json"]["schema"], answer.json(), document)
                assert answer.json()["detail"]


def plain(**options: Any) -> httpx2.AsyncClient:
    """Make what the generated client sends by."""
    return httpx2.AsyncClient(verify=NO_TLS, **options)


async def test_a_client_is_generated(start: Start) -> None:
    """A generator makes models and one method for each operation; with them a program reads and acts."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        document = (await service.client.get("/openapi.json")).json()
        assert len(document["paths"]) == 24
        api = OpenAPI(service.url, document, plain, use_operation_tags=False)
        assert await api._.readyz()
        api.authenticate(HTTPBearer="another token")
        with pytest.raises(HTTPClientError, match="401") as refused:
            await api._.changes()
        assert refused.value.data.detail
        api.authenticate(HTTPBearer=TOKEN)
        page = await api._.changes(parameters={"limit": 1, "team": "Rocket"})
        assert (page.items[0].entity, page.next) == ("notification-service-prod", None)
        silence = {"rule": "health", "comment": "a deployment", "seconds": 60}
        made = await api._.add_silence(data=silence)
        (one,) = await api._.silences()
        assert (one.id, one.rule, one.entity) == (made.id, "health", "*")
        with pytest.raises(HTTPClientError, match="422"):
            await api._.add_silence(data=silence | {"rule": "*"})
        closed = await api._.end_silence(parameters={"number": one.id})
        assert closed.done
