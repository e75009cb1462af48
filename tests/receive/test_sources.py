"""From which addresses requests may come."""

import pytest

from app.receive.sources import PUBLISHED, parse_sources


@pytest.mark.parametrize(
    ("text", "address", "allowed"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7, 198.51.100.0/24", "198.51.100.200", True),
        ("198.51.100.0/255.255.255.0", "198.51.100.200", True),
        ("198.51.100.0/24", "198.51.101.1", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("198.51.100.0/24", "::ffff:c633:6401", True),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("::ffff:198.51.100.0/120", "198.51.100.9", True),
        ("::ffff:198.51.100.0/120", "198.51.101.9", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "2001:DB8:0:0::1%eth0", True),
        ("::/0", "203.0.113.7", False),
        ("0.0.0.0/0", "203.0.113.7", True),
        ("PORT-EU", "34.252.219.131", True),
        ("port-eu", "44.221.30.248", False),
        ("port-eu,port-us", "44.221.30.248", True),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "unix:", False),
        ("0.0.0.0/0", "203.0.113.7:80", False),
    ],
)
def test_allow(text: str, address: str, allowed: bool) -> None:
    """Addresses, networks and Port's words are understood, IPv4's addresses in IPv6's clothes too."""
    assert parse_sources(text).allow(address) is allowed


def test_every_published_address() -> None:
    """Each of Port's published addresses is allowed by its word."""
    sources = parse_sources(",".join(PUBLISHED))
    assert all(sources.allow(one) for addresses in PUBLISHED.values() for one in addresses)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "port-eu,hush",
            r"^value 2 is neither an address, .* port-eu nor port-us: separate them with commas",
        ),
        ("203.0.113.7,", r"^value 2 is neither"),
        ("203.0.113.7 198.51.100.1", r"^value 1 is neither"),
        ("198.51.100.0/33", r"^value 1 is neither"),
        (
            "port-eu,198.51.100.7/24",
            r"^value 2 is an address inside .* the network's first, 198.51.100.0/24$",
        ),
        ("", r"^value 1 is neither"),
    ],
)
def test_what_is_no_source(text: str, said: str) -> None:
    """What cannot be read is named by its place, and not shown."""
    with pytest.raises(ValueError, match=said) as refused:
        parse_sources(text)
    assert "hush" not in str(refused.value)
