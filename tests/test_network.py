"""One notion of proxies and certificates for every client."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.errors import ListenerError, SettingsError
from app.network import Network, proxy_for
from app.notifier.base import Notifier
from app.notifier.http.destination import HttpDestination
from app.notifier.http.notifier import HttpNotifier
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.webhook import SlackWebhook
from app.port.client import PortClient
from app.port.setup import probe
from app.port.setup.tunnel import new_channel
from tests.acceptance.process import ROOT
from tests.conftest import SECRET
from tests.forward_proxy import proxying
from tests.notifier.helpers import context
from tests.notifier.slack.helpers import APP, item, parcel
from tests.private_ca import private_tls

Call = Callable[[str, Network], Awaitable[None]]
SLACK, PORT = "https://hooks.slack.com/services/T/B/x", "https://api.port.io/v1"
PROXY = "http://proxy.example.com:3128"
ALL = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        (SLACK, {}, None),
        (SLACK, {"HTTPS_PROXY": PROXY}, PROXY),
        (SLACK, {"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
        (SLACK, {"HTTPS_PROXY": ' "proxy.example.com:3128/" '}, PROXY),
        (SLACK, {"https_proxy": "http://small", "HTTPS_PROXY": PROXY}, "http://small"),
        (SLACK, {"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        (SLACK, {"HTTP_PROXY": PROXY}, None),
        ("http://jobs.example.com/", {"HTTP_PROXY": PROXY}, PROXY),
        (SLACK, {"ALL_PROXY": PROXY}, PROXY),
        (SLACK, {"ALL_PROXY": "socks5://nowhere:1", "HTTPS_PROXY": PROXY}, PROXY),
        (SLACK, {"HTTPS_PROXY": "https://secure:8443"}, "https://secure:8443"),
        (SLACK, {"HTTPS_PROXY": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
        (SLACK, {"HTTPS_PROXY": "http://us%40er:p%3A%2Fw@proxy:1"}, "http://us%40er:p%3A%2Fw@proxy:1"),
        (SLACK, {"HTTPS_PROXY": "http://user:p@ss@proxy:1"}, "http://user:p%40ss@proxy:1"),
        # This machine, whatever the environment says.
        ("http://127.0.0.1:8080/", ALL, None),
        ("http://127.8.9.1/", {"ALL_PROXY": "socks5://nowhere:1"}, None),
        ("http://localhost:8080/", ALL, None),
        ("https://slack.localhost/", ALL, None),
        ("http://[::1]:8080/", ALL, None),
        ("http://[::ffff:127.0.0.1]/", ALL, None),
        ("http://0.0.0.0:8080/", ALL, None),
        ("http://localhost.example.com/", ALL, PROXY),
        ("not a url", ALL, None),
        ("https://[broken/", ALL, None),
    ],
)
def test_the_proxy_of_an_address(url: str, environment: dict[str, str], proxy: str | None) -> None:
    """The scheme's variable, then ALL_PROXY; a proxy needs no scheme; loopback never goes through one."""
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("hooks.slack.com", SLACK, True),
        ("slack.com", SLACK, True),
        (".slack.com", SLACK, True),
        ("*.slack.com", SLACK, True),
        ("lack.com", SLACK, False),
        ("Slack.COM.", SLACK, True),
        ("localhost, .slack.com other", SLACK, True),
        ("*", SLACK, True),
        ("hooks.slack.com:443", SLACK, True),
        ("hooks.slack.com:8443", SLACK, False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("10.1.2.3:443", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.9.9.9/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/", True),
        ("10.0.0.0/99", "https://10.1.2.3/", False),
        ("fd07:b51a::/64", "https://[fd07:b51a::5]/", True),
        ("[fd07:b51a::]/64", "https://[fd07:b51a::5]/", True),
        ("fd07:b51a::/64", SLACK, False),
        ("fd07:b51a::5", "https://[fd07:b51a:0:0::5]/", True),
        ("[fd07:b51a::5]:443", "https://[fd07:b51a::5]/", True),
        ("[fd07:b51a::5]:1", "https://[fd07:b51a::5]/", False),
        ("1.2.3.4.example.com", "https://1.2.3.4/", False),
        (",, ;", SLACK, False),
        ("http://slack.com", SLACK, False),
    ],
)
def test_what_no_proxy_names(no_proxy: str, url: str, direct: bool) -> None:
    """Names and all below them, addresses and networks of both kinds, each with a port if need be."""
    for spelling in ("NO_PROXY", "no_proxy"):
        assert (proxy_for(url, ALL | {spelling: no_proxy}) is None) is direct


@pytest.mark.parametrize(
    ("environment", "start"),
    [
        ({"HTTPS_PROXY": "socks5h://hush:hush@proxy:1080"}, "HTTPS_PROXY names a SOCKS proxy"),
        ({"all_proxy": "SOCKS4://proxy"}, "all_proxy names a SOCKS proxy"),
        ({"HTTPS_PROXY": "ftp://hush"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "proxy:99999"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "http://user:hu#sh@proxy:1"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "http://user:hu/sh@proxy:1"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "http://[hush:1"}, "HTTPS_PROXY is not a proxy's address"),
        ({"HTTPS_PROXY": "http://pro xy:1"}, "HTTPS_PROXY is not a proxy's address"),
    ],
)
def test_a_proxy_that_cannot_be_used(environment: dict[str, str], start: str) -> None:
    """One sentence names the variable that counts, and shows nothing of its value."""
    with pytest.raises(SettingsError) as refused:
        Network(environment).httpx(SLACK)
    assert str(refused.value).startswith(start)
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_certificates(tmp_path: Path) -> None:
    """SSL_CERT_FILE and SSL_CERT_DIR are trusted, and nothing else then; without both, the usual ones."""
    usual = Network().tls()
    assert usual.verify_mode is ssl.CERT_REQUIRED
    assert usual.cert_store_stats()["x509_ca"] > 50
    file = tmp_path / "one.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(usual.get_ca_certs(binary_form=True)[0]))
    assert Network({"SSL_CERT_FILE": f" {file} "}).tls().cert_store_stats()["x509"] == 1
    assert Network({"SSL_CERT_DIR": str(tmp_path)}).tls().cert_store_stats()["x509"] == 0


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("SSL_CERT_FILE", None, "a file that cannot be read: No such file"),
        ("SSL_CERT_FILE", "not a certificate", "a file without certificates (PEM)"),
        ("SSL_CERT_DIR", None, "no folder"),
    ],
)
def test_certificates_that_cannot_be_used(tmp_path: Path, name: str, content: str | None, part: str) -> None:
    """One sentence names the variable, for every client; what needs no TLS does without."""
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    network = Network({name: str(file)})
    for make in (network.httpx, network.requests, network.tls_for):
        with pytest.raises(SettingsError, match=rf"\A{name} names {part.split('(', maxsplit=1)[0]}"):
            make(PORT)
        make("http://127.0.0.1:8080/")


def test_passwords_of_proxies_are_hidden() -> None:
    """They are known as written and as meant, for the log."""
    assert Network({"HTTPS_PROXY": "http://ada:p%40ss-word@proxy:1"}).hidden == ("p%40ss-word", "p@ss-word")


async def send(notifier: Notifier) -> None:
    """Send one alert, and close."""
    try:
        await notifier.send(await notifier.prepare(parcel(item("1"))))
    finally:
        await notifier.close()


async def by_webhook(url: str, network: Network) -> None:
    """Post to a Slack webhook."""
    await send(SlackWebhook(url, APP, network=network))


async def by_bot(url: str, network: Network) -> None:
    """Post with a bot token."""
    await send(SlackBot("xoxb-1", "C0123456789", APP, api_url=url, network=network))


async def by_job(url: str, network: Network) -> None:
    """Call a job."""
    settings = {"type": "http", "url": url, "proxy": "environment", "allow_private": True}
    await send(HttpNotifier("jobs", HttpDestination.model_validate(settings), context(network=network)))


async def by_port(url: str, network: Network) -> None:
    """Call Port's API."""
    async with PortClient(
        url, "id", SECRET, clock=lambda: datetime.now(UTC), patient=False, network=network
    ) as client:
        await client.get_blueprint("x")


async def by_probe(url: str, network: Network) -> None:
    """Send the doctor's probe."""
    await probe.send(url, SECRET, datetime.now(UTC), through_smee=False, network=network)


async def by_tunnel(url: str, network: Network) -> None:
    """Ask smee for a channel."""
    await asyncio.to_thread(new_channel, url, network=network)


async def words(call: Call, url: str, network: Network) -> str:
    """Call, and return what the client says of it where that fails."""
    try:
        await call(url, network)
    except ListenerError as error:
        return str(error)
    return ""


CLIENTS = pytest.mark.parametrize("call", [by_webhook, by_bot, by_job, by_port, by_probe, by_tunnel])


@CLIENTS
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_every_client_by_one_proxy(call: Call, scheme: str) -> None:
    """Each asks the same proxy, written without a scheme, with its login, and no name is looked up here."""
    async with proxying() as proxy:
        variables = {f"{scheme.upper()}_PROXY": f"ada:p%40ss@127.0.0.1:{proxy.port}"}
        await words(call, f"{scheme}://service.invalid/x", Network(variables))
    address = "CONNECT service.invalid:443" if scheme == "https" else "http://service.invalid/"
    assert proxy.asked
    assert all(address in asked for asked in proxy.asked)
    assert set(proxy.logins) == {"Basic YWRhOnBAc3M="}


@CLIENTS
async def test_every_client_past_the_proxy(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NO_PROXY names, and loopback, is reached directly; the process's own variables mean nothing."""
    async with proxying() as proxy, proxying() as service:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        variables = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": "fd07:b51a::/64"}
        await words(call, f"http://localhost:{service.port}/x", Network(variables))
        await words(call, f"http://127.0.0.1:{service.port}/x", Network())
    assert len(service.asked) >= 2
    assert proxy.asked == []


@CLIENTS
async def test_every_client_by_an_authority_of_ones_own(call: Call, tmp_path: Path) -> None:
    """Over TLS, each trusts what SSL_CERT_FILE has; without, its words name the remedy."""
    async with proxying(tls=private_tls(tmp_path)) as service:
        url = f"https://localhost:{service.port}/x"
        refused = await words(call, url, Network())
        assert "certificate" in refused
        assert "SSL_CERT_FILE" in refused
        assert service.asked == []
        await words(call, url, Network({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}))
        assert service.asked


def test_a_session_of_requests() -> None:
    """The tunnel's stream goes the same way as all others."""
    session = Network({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "smee.example.com"})
    assert session.requests("https://smee.io/x").proxies["https"] == "http://proxy:3128"
    assert session.requests("https://smee.example.com/x").proxies == {}
    assert not session.requests("https://smee.io/x").trust_env


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("arguments", "variables", "text"),
    [
        (
            ("demo", "--changes", "2", "--exit"),
            {"ALL_PROXY": "socks5://127.0.0.1:1", "ALLOWED_SOURCES": "192.0.2.1", "LOG_LEVEL": "loud"}
            | {"RULES_FILE": "/nowhere", "SLACK_BOT_TOKEN": "x", "PROMETHEUS_MULTIPROC_DIR": "metrics"},
            "2 alerts delivered",
        ),
        (
            ("serve", "--port", "0"),
            {"HTTPS_PROXY": "socks5://hush:1"},
            "Cannot start:\nHTTPS_PROXY names a SOCKS",
        ),
        (
            ("serve", "--port", "0"),
            {"SSL_CERT_FILE": "/nowhere"},
            "Cannot start:\nSSL_CERT_FILE names a file",
        ),
        (("bootstrap",), {"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE names a file"),
        (("doctor",), {"HTTPS_PROXY": "ftp://hush"}, "Port: HTTPS_PROXY is not a proxy's address"),
        (
            ("serve", "--port", "0"),
            {"DATABASE_URL": "sqlite:///:memory:"},
            "Cannot start:\nDATABASE_URL must name",
        ),
    ],
    ids=["demo", "serve-socks", "serve-certificates", "bootstrap", "doctor", "serve-database"],
)
def test_real_processes(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str], text: str
) -> None:
    """The demo runs behind any proxy; what cannot be used is one sentence, and never a traceback."""
    proxies = {f"{name}_PROXY": "http://127.0.0.1:1" for name in ("HTTP", "HTTPS")} | {"NO_PROXY": "fd00::/8"}
    settings = {"PORT_CLIENT_SECRET": SECRET, "PORT_CLIENT_ID": "id", "WEBHOOK_URL": "https://x.example.com"}
    slack = {"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/quiet"}
    environment = os.environ | proxies | settings | slack | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        (sys.executable, "-m", "app", *arguments),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    output = done.stdout + done.stderr
    assert text in output
    assert "Traceback" not in output
    assert "hush" not in output
    assert done.returncode == (0 if arguments[0] == "demo" else 1)
