"""Is a request from Port?"""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SignatureRejected
from app.receive.event import encode
from app.receive.signature import (
    MAX_REENCODED_BYTES,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Signed,
    parse_headers,
    sign,
    verify,
    verify_encoded,
)

SECRET = "test"
TIMESTAMP = "1713277889"
NOW = datetime.fromtimestamp(1713277889, UTC)
WINDOW = timedelta(seconds=300)
BODY = (
    '{"action":"UPDATE","resourceType":"entity","context":'
    '{"blueprintIdentifier":"deploymentConfig","entityIdentifier":"café-prod"}}'
).encode()
VECTORS = [
    (TIMESTAMP, "v1,2oVK/bOcDoaekpkFjrTd3st+lvsyFWVK6VxP0Iar0K4="),
    (f"{TIMESTAMP}000", "v1,XPNAd14eGjRdgOUkC1EzMsBTuAMg8qDXn+EM6xvpAfg="),
]
LATIN_1 = st.text(st.characters(max_codepoint=255))


def headers(signature: str, timestamp: str = TIMESTAMP) -> dict[str, str]:
    """Return a request's headers."""
    return {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp}


def check(
    arrived: bytes, signature: str, *secrets: str, timestamp: str = TIMESTAMP, now: datetime = NOW
) -> Signed:
    """Verify a request; the secret is the usual one unless others are given."""
    claim = parse_headers(headers(signature, timestamp), now, WINDOW)
    return verify(arrived, claim, secrets or (SECRET,)) or verify_encoded(
        arrived, claim, secrets or (SECRET,)
    )


def compact(body: bytes, *, ascii_only: bool) -> bytes:
    """Return JSON as JavaScript writes it, or as Python does without spaces."""
    return json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=ascii_only).encode()


@pytest.mark.parametrize(("timestamp", "signature"), VECTORS, ids=["seconds", "milliseconds"])
def test_known_signatures(timestamp: str, signature: str) -> None:
    """The vectors hold in both directions, in seconds and in milliseconds."""
    assert sign(BODY, timestamp, SECRET) == signature
    assert check(BODY, signature, timestamp=timestamp) == Signed(BODY, NOW)


def test_milliseconds_are_kept() -> None:
    """The time of signing is as exact as the header."""
    timestamp = f"{TIMESTAMP}477"
    signed = check(BODY, sign(BODY, timestamp, SECRET), timestamp=timestamp)
    assert signed.at == NOW + timedelta(milliseconds=477)


@pytest.mark.parametrize("template", ["{} v1,AAAA", "v1,AAAA {}", "v2,AAAA  v1,é\t{}", "{0} {0}"])
def test_one_good_signature_in_a_header_is_enough(template: str) -> None:
    """Several stand in one header, apart by spaces."""
    assert check(BODY, template.format(VECTORS[0][1])).body == BODY


def test_a_second_secret() -> None:
    """While secrets are exchanged, both hold; afterwards the old one no longer does."""
    assert check(BODY, VECTORS[0][1], "new", SECRET).body == BODY
    with pytest.raises(SignatureRejected):
        check(BODY, VECTORS[0][1], "new")


@pytest.mark.parametrize("direction", [-1, 1], ids=["past", "future"])
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_the_window_has_edges(direction: int, unit: int) -> None:
    """Exactly five minutes off is taken, the next second or millisecond is not."""
    seconds = int(TIMESTAMP)
    for beyond in (False, True):
        timestamp = str((seconds + direction * 300) * unit + direction * beyond)
        signature = sign(BODY, timestamp, SECRET)
        if beyond:
            with pytest.raises(SignatureRejected, match="s off"):
                check(BODY, signature, timestamp=timestamp)
        else:
            assert check(BODY, signature, timestamp=timestamp).body == BODY


ORIGINAL = '{"title":"Café 🚀","n":[1,2.5,null,true],"o":{"ü":"\\n"}}'.encode()
SPACED = json.dumps(json.loads(ORIGINAL), indent=2).encode()


@pytest.mark.parametrize(
    ("arrived", "signed"),
    [
        pytest.param(SPACED, SPACED, id="as it came"),
        pytest.param(b"\xff not JSON", b"\xff not JSON", id="not JSON, as it came"),
        pytest.param(b"", b"", id="empty, as it came"),
        pytest.param(SPACED, ORIGINAL, id="compact UTF-8"),
        pytest.param(ORIGINAL, compact(ORIGINAL, ascii_only=True), id="compact and ASCII-escaped"),
        pytest.param(SPACED, compact(ORIGINAL, ascii_only=True), id="as the agent sends it"),
        pytest.param(
            compact(ORIGINAL.decode("latin-1").encode(), ascii_only=True), ORIGINAL, id="as pysmee sends it"
        ),
        pytest.param(ORIGINAL.decode("latin-1").encode(), ORIGINAL, id="mojibake without escapes"),
    ],
)
def test_what_a_proxy_makes_of_a_body_is_undone(arrived: bytes, signed: bytes) -> None:
    """The body that counts is the one that was signed, not the one that arrived."""
    assert check(arrived, sign(signed, TIMESTAMP, SECRET)).body == signed


def test_a_large_body_says_why_it_is_not_encoded_again() -> None:
    """Port's agent sends spaces around what it signed: only up to a size is that undone."""
    large = encode({"text": "x" * MAX_REENCODED_BYTES})
    assert check(large, sign(large, TIMESTAMP, SECRET)).body == large
    with pytest.raises(SignatureRejected, match=r"above 256 KiB .* Port's agent"):
        check(json.dumps(json.loads(large)).encode(), sign(large, TIMESTAMP, SECRET))


@pytest.mark.parametrize("between", [" ", ",", ", ", ",\t"])
def test_several_signatures(between: str) -> None:
    """In one header, or in several that a proxy joined: one that is right is enough."""
    right, other = sign(BODY, TIMESTAMP, SECRET), sign(BODY, TIMESTAMP, "other")
    for signatures in ((right, other), (other, right)):
        assert check(BODY, between.join(signatures)).body == BODY


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4))
def test_any_text_survives_pysmee(value: dict[str, int | str]) -> None:
    """Whatever the letters are, undoing the mojibake gives Port's bytes back."""
    original = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    arrived = compact(original.decode("latin-1").encode(), ascii_only=True)
    assert check(arrived, sign(original, TIMESTAMP, SECRET)).body == original


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        "v1",
        "v1,",
        VECTORS[0][1].removeprefix("v1,"),
        VECTORS[0][1].replace("v1", "v2"),
        VECTORS[0][1].replace("v1", "V1"),
        VECTORS[0][1].replace("v1,", "v1, "),
        VECTORS[0][1].rstrip("="),
        VECTORS[0][1].swapcase(),
        VECTORS[1][1],
        "sha256=da854afdb39c0e869e9299058eb4dddecb7e96fb3215654ae95c4fd086abd0ae",
    ],
)
def test_other_signatures_are_refused(signature: str) -> None:
    """Missing, cut, of another version, of another time, or of another kind."""
    with pytest.raises(SignatureRejected):
        check(BODY, signature)


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        " ",
        "-1713277889",
        "+1713277889",
        " 1713277889",
        "1713277889.0",
        "1_713_277_889",
        "171327788\u00b2",
        "\u0661\u0667\u0661\u0663\u0662\u0667\u0667\u0668\u0668\u0669",
        "1e400",
        "1e9",
        "nan",
        "0x661e8a81",
        "0",
        "100000000000",
        "9" * 16,
        "9" * 17,
        "9" * 5000,
    ],
)
def test_odd_timestamps_are_refused(timestamp: str) -> None:
    """What is no time near ours is refused, even if it is signed."""
    with pytest.raises(SignatureRejected):
        check(BODY, sign(BODY, timestamp, SECRET), timestamp=timestamp)


@pytest.mark.parametrize("missing", [SIGNATURE_HEADER, TIMESTAMP_HEADER])
def test_both_headers_are_needed(missing: str) -> None:
    """Without one of them nothing is proven."""
    rest = {name: text for name, text in headers(VECTORS[0][1]).items() if name != missing}
    with pytest.raises(SignatureRejected, match=missing):
        parse_headers(rest, NOW, WINDOW)


@pytest.mark.parametrize("tampered", [BODY.replace(b"UPDATE", b"CREATE"), BODY[:-1], BODY + b"}", b"", b"{}"])
def test_a_tampered_body_is_refused(tampered: bytes) -> None:
    """A signature holds for its own body only."""
    with pytest.raises(SignatureRejected, match="does not match"):
        check(tampered, VECTORS[0][1])


def test_another_time_is_refused() -> None:
    """A signature holds for its own time only, also within the window."""
    with pytest.raises(SignatureRejected, match="does not match"):
        check(BODY, VECTORS[0][1], timestamp=str(int(TIMESTAMP) + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"9" * 5000,
        b"[" + b"9" * 4300 + b"]",
        b"1e400",
        b'"\\ud83d"',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"\xff",
        b"\x00",
        b"",
        b"NaN",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_no_body_is_too_odd_to_be_refused(body: bytes) -> None:
    """Deep nesting, huge numbers, half letters and other encodings end in a plain refusal."""
    with pytest.raises(SignatureRejected, match="does not match"):
        check(body, VECTORS[0][1])


@given(st.binary(), LATIN_1, LATIN_1 | st.just(TIMESTAMP))
def test_nothing_unsigned_passes(body: bytes, signature: str, timestamp: str) -> None:
    """Whatever comes, it is refused, and by nothing but `SignatureRejected`."""
    with pytest.raises(SignatureRejected):
        check(body, f"v1,{signature}", timestamp=timestamp)


def test_a_refusal_keeps_the_secret() -> None:
    """What is logged says neither the secret nor the signature that would have been right."""
    with pytest.raises(SignatureRejected) as refused:
        check(b"{}", VECTORS[0][1], "very-secret")
    right = sign(b"{}", TIMESTAMP, "very-secret")
    assert "very-secret" not in str(refused.value)
    assert right.removeprefix("v1,") not in str(refused.value)
