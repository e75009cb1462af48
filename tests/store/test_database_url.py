"""DATABASE_URL: what is wrong with it is one sentence, and what other clients need is taken."""

import asyncio
import ssl
from pathlib import Path

import pytest

from app.errors import SettingsError, StoreUnavailable
from app.settings import Settings, load_settings
from app.store.database_url import for_asyncpg, mistake_in, password_in, sqlite_file
from app.store.opening import open_store
from app.store.sqlite.schema import LEAST_SQLITE, demand_version
from tests.conftest import SECRET

POSTGRES = "postgresql://user:hush@db.example.com/listener"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///data/listener.db",
        "sqlite:////data/listener.db",
        "sqlite:///~/x.db",
        "sqlite:///a b.db",
        POSTGRES,
        "postgres://user:p%5Bhush%40@[fd00::1]:6432/listener",
        "postgresql://one,two:5433/listener?target_session_attrs=read-write",
        "postgresql:///listener?host=/run/postgresql",
        f"{POSTGRES}?sslmode=require&channel_binding=prefer&connect_timeout=10",
        f"{POSTGRES}?sslmode=verify-full&sslrootcert=system",
        f"{POSTGRES}?pgbouncer=true&connection_limit=1",
    ],
)
def test_good(url: str) -> None:
    """Files, hosts of every kind, and the parameters of managed servers."""
    assert mistake_in(url) == ""


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("mysql://hush", "must begin with sqlite:///"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file on disk"),
        ("sqlite:///file:hush.db", "must name a file on disk"),
        ("sqlite:///hush.db?mode=rwc", "has options behind a question mark"),
        ("sqlite:///C:\\hush\\x.db", "has a path of Windows"),
        ("sqlite:////C:/hush/x.db", "has a path of Windows"),
        ("sqlite:///data/", "names a folder"),
        ("sqlite:///~nobody-of-this-name/x.db", "begins with ~, and the home folder is not known"),
        ("postgresql://user:hu[sh@host/db", "cannot be read: in the user, the password"),
        ("postgresql://user:hu@sh@host/db", "cannot be read"),
        ("postgresql://user:hu#sh@host/db", "cannot be read"),
        ("postgresql://user:hu/sh@host/db", "cannot be read"),
        ("postgresql://user:hush@host:99999/db", "has the port 99999: it must be from 1 to 65535"),
        ("postgresql://user:hush@one,two:0/db", "has the port 0"),
        ("postgresql://user:hush@fd00::1/db", "cannot be read"),
        ("postgresql://", "must name a host"),
        (f"{POSTGRES}?channel_binding=require", "has channel_binding=require, which the driver does not"),
        (f"{POSTGRES}?schema=public", "has the parameter schema, which is not supported"),
        (f"{POSTGRES}?sslmode=hush", "has an sslmode that does not exist"),
        (f"{POSTGRES}?sslmode=prefer&sslrootcert=system", "has sslrootcert=system, which goes with"),
        (f"{POSTGRES}?sslrootcert=/nowhere/ca.pem", "has sslrootcert=/nowhere/ca.pem, a file that cannot"),
    ],
)
def test_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, part: str) -> None:
    """Each is refused with the variable's name, and the password is not shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT_CLIENT_SECRET", SECRET)
    for name in ("DATABASE_URL", "DATABASE_LISTEN_URL") if url.startswith("postgres") else ("DATABASE_URL",):
        with pytest.raises(SettingsError) as refused:
            load_settings(**{name.lower(): url})
        assert str(refused.value).startswith(f"{name} {part}")
        assert "hush" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_what_asyncpg_gets() -> None:
    """Parameters for others are left out; sslrootcert=system is a context that verifies the name."""
    url, more = for_asyncpg(f"{POSTGRES}?pgbouncer=true&connect_timeout=9&sslmode=require&search_path=a")
    assert (url, more) == (f"{POSTGRES}?sslmode=require&search_path=a", {})
    url, more = for_asyncpg(f"{POSTGRES}?sslmode=verify-full&sslrootcert=system&channel_binding=disable")
    assert url == POSTGRES
    assert more["ssl"].check_hostname
    assert more["ssl"].verify_mode is ssl.CERT_REQUIRED


def test_passwords_that_break_a_url_are_still_hidden() -> None:
    """The log hides the password even of a URL that cannot be read."""
    assert password_in("postgresql://user:hu[s%23h@host/db") == ("hu[s%23h", "hu[s#h")
    settings = Settings(_env_file=None, port_client_secret=SECRET, database_url=POSTGRES)
    assert "hush" in settings.hidden


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """~ is the home folder, and not a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sqlite_file("sqlite:///~/x.db") == tmp_path / "x.db"
    assert sqlite_file(POSTGRES) is None


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """One sentence, and no file in it."""
    with pytest.raises(StoreUnavailable, match="it is a folder; name a file in it"):
        async with open_store(f"sqlite:///{tmp_path}"):
            pass
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


def test_an_old_sqlite() -> None:
    """RHEL 9's Python 3.11 has one without `->>`: one sentence with both versions."""
    demand_version(LEAST_SQLITE)
    demand_version()
    with pytest.raises(
        StoreUnavailable, match=r"^this Python has SQLite 3\.34\.1, and the listener needs 3\.40 "
    ):
        demand_version((3, 34, 1))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_parameters_of_managed_servers(database: str) -> None:
    """A real server is reached with them."""
    async with open_store(f"{database}&pgbouncer=true&connect_timeout=10&keepalives=1", upgrade=True):
        pass
