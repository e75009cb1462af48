"""Port's own API description, and what of a request does not keep to it."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest

from tests.port.stand_in_port import Recorded

DESCRIPTION = Path(__file__).parents[3] / "shared" / "port-openapi.json"


@functools.cache
def description() -> Any:
    """Return Port's description, or skip the test where it is not."""
    if not DESCRIPTION.exists():
        pytest.skip(f"Port's API description is not at {DESCRIPTION.parent.name}/{DESCRIPTION.name}")
    # JavaScript's class of all letters: \\w has them, and Port's patterns allow its digits and _ anyway.
    return json.loads(DESCRIPTION.read_text().replace(r"\\p{L}", r"\\w"))


def route_of(request: Recorded) -> tuple[str, str]:
    """Return the method and the described path that a request belongs to; literal paths win."""
    known = [(path, method.upper()) for path, one in description()["paths"].items() for method in one]
    for path, method in sorted(known, key=lambda one: one[0].count("{")):
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/"))
        if method == request.method and re.fullmatch(pattern, request.path):
            return method, path
    raise AssertionError(f"Port has no {request.method} {request.path}")


def faults(request: Recorded) -> Iterator[str]:
    """Yield what is wrong with a request by Port's description."""
    method, path = route_of(request)
    operation = description()["paths"][path][method.lower()]
    parameters = operation.get("parameters", [])
    given = dict(zip(re.findall(r"{(\w+)}", path), _values(path, request.path), strict=True))
    for place, values in (("query", request.query), ("path", given)):
        known = {one["name"]: one for one in parameters if one["in"] == place}
        yield from (f"unknown {place} parameter {name}" for name in values.keys() - known.keys())
        for name, one in known.items():
            if name in values:
                yield from violations(_typed(values[name], one["schema"]), one["schema"])
            elif one.get("required"):
                yield f"{place} parameter {name} is missing"
    described = operation.get("requestBody")
    if described is None:
        if request.body is not None:
            yield "a body where none belongs"
        return
    yield from violations(request.body, described["content"]["application/json"]["schema"])


def violations(value: Any, schema: Any) -> Iterator[str]:
    """Yield how a value breaks a schema of the description."""
    whole = {"allOf": [schema], "components": description()["components"]}
    validator = jsonschema.Draft202012Validator(whole)
    yield from (f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value))


def _values(path: str, sent: str) -> list[str]:
    pairs = zip(path.split("/"), sent.split("/"), strict=True)
    return [unquote(value) for name, value in pairs if name.startswith("{")]


def _typed(text: str, schema: Any) -> Any:
    return json.loads(text) if schema.get("type") in {"boolean", "number", "integer"} else text


def hold(requests: list[Recorded]) -> None:
    """Hold that all requests are as described."""
    assert requests
    wrong = [f"{one.method} {one.path}: {fault}" for one in requests for fault in faults(one)]
    assert not wrong, "\n".join(wrong)
