"""Which addresses an HTTP destination must not have, and connections that hold to it.

The catalog may fill the address in a rule, and a person who may write there must not be able to make this
service call what only this service can reach (server-side request forgery). What counts is the address that a
name has at the moment of connecting: it is judged there, and the name is not looked up a second time.

Rules: https://www.iana.org/assignments/iana-ipv4-special-registry,
https://www.iana.org/assignments/iana-ipv6-special-registry,
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import socket
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.tracing import Trace
from typing_extensions import override

# Written out, because what `ipaddress` calls global or private differs between Python's patch releases.
REFUSED_NETWORKS = {
    "169.254.169.254/32": "metadata",
    "168.63.129.16/32": "metadata",  # Azure's, though the address is a public one
    "100.100.100.200/32": "metadata",  # Alibaba Cloud's
    "fd00:ec2::254/128": "metadata",
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "::ffff:0:0/96": "IPv4-mapped",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "private",
    "ff00::/8": "multicast",
    "2001::/23": "reserved",  # Teredo among them, which embeds an IPv4 address
    "2001:db8::/32": "documentation",
    "2002::/16": "6to4",
    "3fff::/20": "documentation",
}
"""The kind of each network that is refused; the first that an address is in counts."""
NETWORKS = [(ip_network(network), kind) for network, kind in REFUSED_NETWORKS.items()]
GLOBAL_IPV6 = ip_network("2000::/3")  # nothing outside it is given to anybody yet
NAT64 = ip_network("64:ff9b::/96")
BURST_SECONDS = 2  # how long an idle connection is kept

Judge = Callable[[str], str]


class AddressRefused(OSError):
    """A connection was not made because of its address; `args[0]` says which and why.

    An OSError, because aiohttp takes it as a connection that failed, and gives it on as `os_error`. It does
    not leave app.notifier: see `HttpNotifier.send`.
    """


def refusal(address: str) -> str:
    """Name the kind of a numeric address that must not be called; ``""`` for a public one, which may be.

    A NAT64 address (RFC 6052) is judged by the IPv4 address in it, because on a network with IPv6 only, each
    public IPv4 host has such a one. Other forms that carry an IPv4 address have no honest use here.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not numeric"
    if isinstance(parsed, IPv6Address) and parsed in NAT64:
        return refusal(str(IPv4Address(int(parsed) & 0xFFFFFFFF)))
    for network, kind in NETWORKS:
        if parsed in network:
            return kind
    return "reserved" if isinstance(parsed, IPv6Address) and parsed not in GLOBAL_IPV6 else ""


class Connector(aiohttp.TCPConnector):
    """A connector of which each error says that nothing was sent, those of a proxy that hangs up too.

    aiohttp's own error is then that of a host which hangs up after the request.
    """

    @override
    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        try:
            return await super().connect(req, traces, timeout)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, TimeoutError):
            raise
        except (aiohttp.ClientError, OSError) as error:
            if req.proxy is None:
                raise
            proxy = req.connection_key._replace(host=req.proxy.host or "", port=req.proxy.port)
            hung_up = ConnectionResetError(type(error).__name__)
            raise aiohttp.ClientProxyConnectionError(proxy, hung_up) from None


def connector(
    judge: Judge, resolver: AbstractResolver | None = None, tls: ssl.SSLContext | None = None
) -> aiohttp.TCPConnector:
    """Make a connector that connects only to addresses that `judge` lets pass, as `refusal` does.

    Each connection's address is looked up and judged when it is made, and it is kept for a burst only; where
    a name has several addresses, none may be a refused one. Connecting raises aiohttp's
    `ClientConnectorError` with an `AddressRefused` as `os_error`.
    """
    return Connector(
        resolver=_JudgingResolver(judge, resolver or aiohttp.ThreadedResolver()),
        # aiohttp resolves no literal address, so the resolver does not see it; a socket is made for each.
        socket_factory=partial(_judged_socket, judge),
        use_dns_cache=False,
        ssl=tls or True,
        # For a burst only: what is kept was judged when it was opened, and receivers close after 5 s or more.
        keepalive_timeout=BURST_SECONDS,
    )


async def judge_host(judge: Judge, host: str, resolver: AbstractResolver | None = None) -> None:
    """Judge the addresses of a host to which a proxy connects, and not this process.

    What the proxy looks up itself may differ, but a name that leads into this network here is refused.

    Raises:
        AddressRefused: `judge` refuses one of them.
        OSError: The name cannot be looked up here.
    """
    try:
        ip_address(host)
    except ValueError:
        await _JudgingResolver(judge, resolver or aiohttp.ThreadedResolver()).resolve(host)
    else:
        _raise_if_refused(judge, host)


class _JudgingResolver(AbstractResolver):
    def __init__(self, judge: Judge, resolver: AbstractResolver) -> None:
        self._judge = judge
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._resolver.resolve(host, port, family)
        for address in addresses:
            _raise_if_refused(self._judge, address["host"])
        return addresses

    async def close(self) -> None:
        await self._resolver.close()


def _judged_socket(judge: Judge, info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    _raise_if_refused(judge, str(address[0]))
    return socket.socket(family, kind, protocol)


def _raise_if_refused(judge: Judge, address: str) -> None:
    if kind := judge(address):
        raise AddressRefused(f"{address} ({kind})")
