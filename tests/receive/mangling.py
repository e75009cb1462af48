"""The bodies of tests/payloads, and what may become of them on the way."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

PAYLOADS = {
    path.stem: path.read_bytes() for path in Path(__file__).parents[1].joinpath("payloads").glob("*.json")
}
WELL_FORMED = sorted(body for name, body in PAYLOADS.items() if name not in {"cut_off", "infinite_number"})

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e308, 10**30, 1781008098477, [], {}, [None], [[]], {"": None}),
    *("", "x", "\x00", "2026-13-45", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "é🚀" * 500),
    json.loads("[" * 150 + "]" * 150),
)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in a JSON value, as its container and the key or index in it."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in places:
        yield value, key
        yield from nodes(inner)


@st.composite
def mangled_values(draw: st.DrawFn) -> bytes:
    """Bodies in which values are deleted, replaced, or of another type."""
    body = json.loads(draw(st.sampled_from(WELL_FORMED)))
    for _ in range(draw(st.integers(1, 4))):
        if places := list(nodes(body)):
            container, key = places[draw(st.integers(0, len(places) - 1))]
            if draw(st.booleans()):
                del container[key]
            else:
                container[key] = deepcopy(draw(st.sampled_from(ODD)))
    return json.dumps(body).encode()


@st.composite
def mangled_bytes(draw: st.DrawFn) -> bytes:
    """Bodies that are cut off, or in which bytes are flipped."""
    body = bytearray(draw(st.sampled_from(sorted(PAYLOADS.values()))))
    places = st.integers(0, len(body) - 1)
    for place in draw(st.lists(places, max_size=5)):
        body[place] ^= draw(st.integers(1, 255))
    return bytes(body[: draw(places | st.just(len(body)))])
