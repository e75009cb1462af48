"""The addresses from which requests may come; a word such as `port-eu` stands for Port's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

PUBLISHED = {
    "port-eu": ("3.251.12.205", "34.252.219.131", "54.75.236.107"),
    "port-us": ("44.221.30.248", "44.193.148.179", "34.197.132.205"),
}
"""The addresses from which Port calls, by region: https://docs.port.io/actions-and-automations/setup-backend/security/"""
SOURCE_REFUSED = "this address may not send changes"
"""The listener's answer with 403: a proxy's refusal says something else."""
MAPPED_BITS = 96  # ::ffff:0:0/96 holds IPv4's addresses, as a socket for both kinds shows them


@dataclass(frozen=True, slots=True)
class Sources:
    """Addresses and networks."""

    networks: tuple[IPv4Network | IPv6Network, ...]

    def allow(self, address: str) -> bool:
        """Tell whether an address is among them; what is no address is not."""
        try:
            parsed = _unmapped(ip_address(address))
        except ValueError:  # a socket file, or a proxy's own word
            return False
        return any(parsed in network for network in self.networks)

    @property
    def everybody(self) -> bool:
        """Whether every address of a kind is among them."""
        return any(network.prefixlen == 0 for network in self.networks)


def parse_sources(text: str, words: Mapping[str, Sequence[str]] = PUBLISHED) -> Sources:
    """Parse the addresses that a setting names.

    Args:
        text: Addresses, networks (``10.0.0.0/8``) and words, with commas between.
        words: What each word stands for.

    Raises:
        ValueError: One of them is none of these; the text says which by its place, and does not show it.
    """
    networks: list[IPv4Network | IPv6Network] = []
    for place, value in enumerate(text.split(","), 1):
        named = words.get(value.strip().lower(), (value.strip(),))
        networks += [_network(name, place, words) for name in named]
    return Sources(tuple(networks))


def _network(text: str, place: int, words: Mapping[str, Sequence[str]]) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        kinds = ["an address", "a network such as 10.0.0.0/8", *words]
        raise ValueError(
            f"value {place} is neither {', '.join(kinds[:-1])} nor {kinds[-1]}: separate them with commas"
        ) from None
    if "/" in text and network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(
            f"value {place} is an address inside a network: write the network's first, {network}"
        )
    if isinstance(network, IPv6Network) and network.prefixlen >= MAPPED_BITS:
        address = _unmapped(network.network_address)
        if isinstance(address, IPv4Address):
            return IPv4Network((address, network.prefixlen - MAPPED_BITS))
    return network


# A socket for both kinds shows 10.0.0.1 as ::ffff:10.0.0.1.
def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
