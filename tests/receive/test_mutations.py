"""Whatever a signed body holds, the answer is 202 or 422, never a 500."""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.store import queries
from tests.conftest import Service
from tests.receive.mangling import mangled_bytes, mangled_values

AT_ONCE = 25
BODIES = int(os.environ.get("BODIES", "250"))


@given(st.lists(mangled_values() | mangled_bytes(), min_size=AT_ONCE, max_size=AT_ONCE))
@settings(
    max_examples=BODIES // AT_ONCE,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # one service for all of them is what is wanted
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
@pytest.mark.timeout(60 + BODIES // 10)
async def test_mangled_bodies(service: Service, bodies: list[bytes]) -> None:
    """Each is accepted as a change, or kept in quarantine with a reason."""
    answers = await asyncio.gather(*map(service.post, bodies))
    assert {answer.status_code for answer in answers} <= {202, 422}
    kept = {row.body for row in (await service.store.read(queries.quarantine.bodies, limit=50 * BODIES)).rows}
    refused = {
        body[: queries.quarantine.FIRST_BYTES]
        for body, answer in zip(bodies, answers, strict=True)
        if answer.status_code == 422
    }
    assert refused <= kept
