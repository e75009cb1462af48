"""How this process reaches others: which proxy an address is behind, and whose certificates are trusted.

Every client, of every library, is built with what stands here, and reads nothing of the environment
itself: the libraries disagree about proxies without a scheme, about NO_PROXY and about certificates.

Rules: https://curl.se/docs/manpage.html (ENVIRONMENT), https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import certifi

from app.errors import SettingsError

if TYPE_CHECKING:
    from requests import Session

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
PROXY_FORM = "an HTTP proxy is written http://HOST:PORT, with special characters of a password as %XX"


@dataclass(frozen=True)
class Network:
    """The way to others by an environment; an empty one: without proxies, with the usual certificates.

    Attributes:
        environment: The variables by name.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # passwords of proxies

    def proxy(self, url: str) -> str | None:
        """Return the URL of the proxy for an address as `proxy_for` does.

        Raises:
            SettingsError: The proxy that the environment names cannot be used.
        """
        return proxy_for(url, self.environment)

    def tls(self) -> ssl.SSLContext:
        """Return the context for TLS, which trusts SSL_CERT_FILE and SSL_CERT_DIR, or else the usual ones.

        Raises:
            SettingsError: A variable names what is no certificate, or no file.
        """
        return _tls(*(self.environment.get(name, "").strip() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))

    def tls_for(self, url: str) -> ssl.SSLContext:
        """Return the context for an address: for one without TLS an empty one, which takes no time to make.

        Raises:
            SettingsError: As `tls` does.
        """
        plain = url.lower().startswith("http:") and not (self.proxy(url) or "").startswith("https:")
        return _no_tls() if plain else self.tls()

    def httpx(self, url: str) -> dict[str, Any]:
        """Return the arguments of an httpx client that calls one address and follows no redirect.

        Raises:
            SettingsError: The environment's proxy or certificates cannot be used.
        """
        proxy, verify = self.proxy(url), self.tls_for(url)
        if proxy is None:
            return {"verify": verify, "trust_env": False}
        from httpx import Proxy  # for a short start: most processes call nobody through a proxy

        trusted = verify if proxy.startswith("https:") else None
        return {"proxy": Proxy(proxy, ssl_context=trusted), "verify": verify, "trust_env": False}

    def requests(self, url: str) -> "Session":
        """Make a session of requests that calls one address.

        Raises:
            SettingsError: The environment's proxy or certificates cannot be used.
        """
        import requests

        tls, proxy = self.tls_for(url), self.proxy(url)

        class Adapter(requests.adapters.HTTPAdapter):
            def init_poolmanager(self, *args: Any, **options: Any) -> None:
                super().init_poolmanager(*args, ssl_context=tls, **options)

            def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
                return super().proxy_manager_for(proxy, ssl_context=tls, **options)

        session = requests.Session()
        session.trust_env = False
        session.proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        session.mount("https://", Adapter())
        return session

    @property
    def hidden(self) -> tuple[str, ...]:
        """The passwords of the proxies, as they are written and as they are meant."""
        values = (_variable(self.environment, name)[1] for name in PROXY_VARIABLES)
        logins = [login[1] for value in values if (login := re.search(r":([^/:]+)@", value))]
        return tuple(form for password in logins for form in (password, unquote(password)))


DIRECT = Network()
"""The way without a proxy, with the usual certificates."""


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the HTTP proxy through which an address is reached; None: it is reached directly.

    HTTPS_PROXY or HTTP_PROXY, by the address's scheme, or else ALL_PROXY; a name in small letters comes
    first. This machine is reached directly, and so is what NO_PROXY names.

    Args:
        url: The address, ``https://…``.
        environment: The variables by name.

    Raises:
        SettingsError: The variable that counts here names no proxy that can be used; its value is not shown.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:  # the client says so
        return None
    port = port or {"http": 80, "https": 443}.get(parts.scheme)
    if not host or _is_here(host) or _is_direct(host, port, _variable(environment, "no_proxy")[1]):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        variable, value = _variable(environment, name)
        if value:
            return _usable(variable, value)
    return None


def _variable(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the spelling that counts, small letters first, and the value without quotes."""
    spelling = name if name in environment else name.upper()
    return spelling, environment.get(spelling, "").strip().strip("\"'").strip()


def _usable(variable: str, value: str) -> str:
    written = value if "://" in value else f"http://{value}"
    if re.match(r"socks\w*:", written, re.IGNORECASE):
        raise SettingsError(
            f"{variable} names a SOCKS proxy, which is not supported: name an HTTP proxy, or put the hosts"
            " that can be reached without it into NO_PROXY"
        )
    try:
        parts = urlsplit(written)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    wrong = not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment
    if wrong or host is None or parts.path not in {"", "/"} or re.search(r"[\s\x00-\x1f\x7f]", written):
        raise SettingsError(f"{variable} is not a proxy's address: {PROXY_FORM}")
    login = ""
    if parts.username is not None:
        words = (parts.username, parts.password or "")
        login = ":".join(quote(unquote(word), safe="") for word in words) + "@"
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{login}{place}{f':{port}' if port else ''}"


def _is_here(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _is_direct(host: str, port: int | None, no_proxy: str) -> bool:
    address = _address(host)
    for entry, entry_port in _entries(no_proxy):
        if entry_port not in {None, port}:
            continue
        if entry == "*":
            return True
        try:
            network = ip_network(entry, strict=False)
        except ValueError:  # a name: itself, and all below it
            if address is None and (host == entry or host.endswith(f".{entry}")):
                return True
        else:
            if address is not None and address in network:
                return True
    return False


def _entries(no_proxy: str) -> Iterator[tuple[str, int | None]]:
    """Yield each entry of NO_PROXY in small letters, without a dot or brackets around it, and its port."""
    for text in re.split(r"[\s,;]+", no_proxy.lower()):
        bracketed = re.fullmatch(r"\[(.*)\](/\d+)?(?::(\d+))?", text)
        named = re.fullmatch(r"([^:]*):(\d+)", text)
        if bracketed:
            entry, port = bracketed[1] + (bracketed[2] or ""), bracketed[3]
        elif named:
            entry, port = named.groups()
        else:
            entry, port = text, None
        if entry := entry.removeprefix("*.").strip("."):
            yield entry, int(port) if port else None


@cache
def _no_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache  # it reads all certificates, 25 ms: once for all clients
def _tls(file: str, folder: str) -> ssl.SSLContext:
    if folder and not Path(folder).is_dir():
        raise SettingsError("SSL_CERT_DIR names no folder: set it to one with certificates, or remove it")
    if file:
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"SSL_CERT_FILE names a file that cannot be read: {error.strerror}. Set it to a file with"
                " certificates (PEM), or remove it"
            ) from None
    try:
        context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    except ssl.SSLError:
        raise SettingsError("SSL_CERT_FILE names a file without certificates (PEM)") from None
    if not file and not folder:
        context.load_verify_locations(certifi.where())  # beside the system's, which a small image lacks
    return context
