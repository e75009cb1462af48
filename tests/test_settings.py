"""What can be configured, and what is refused with a sentence."""

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env but the test's own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_needs_a_secret() -> None:
    """Without a client secret the start is refused, and the text says what to set."""
    with pytest.raises(SettingsError, match=r"^PORT_CLIENT_SECRET is not set: set it to") as refused:
        load_settings()
    assert "ACCEPT_UNSIGNED=true" in str(refused.value)


def test_unsigned_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """ACCEPT_UNSIGNED makes do without a secret."""
    monkeypatch.setenv("ACCEPT_UNSIGNED", "true")
    assert load_settings().secrets == ()


def test_reads_env_file_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """.env is read, an environment variable wins, an empty one counts as not set, strangers are ignored."""
    (tmp_path / ".env").write_text(
        "PORT_CLIENT_SECRET=from-file\nLOG_LEVEL=DEBUG\nSLACK_WEBHOOK_URL=\nSOMETHING_ELSE=1\n"
    )
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    settings = load_settings()
    assert settings.secrets == ("from-file",)
    assert settings.log_level == "ERROR"
    assert settings.slack_webhook_url is None


@pytest.mark.parametrize(
    "value",
    ["YOUR_SECRET", "your-client-secret", "changeme", "CHANGE_ME", "<secret>", "xxxx", "todo", "secret"],
)
def test_placeholders_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What was never filled in is refused with the variable's name."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", value)
    with pytest.raises(SettingsError, match="PORT_CLIENT_SECRET is still a placeholder"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "app_url", "api_url"),
    [
        ({}, "https://app.port.io/", "https://api.port.io/"),
        ({"PORT_REGION": "us"}, "https://app.us.port.io/", "https://api.us.port.io/"),
        (
            {"PORT_REGION": "us", "PORT_APP_URL": "https://port.example.com", "PORT_API_URL": ""},
            "https://port.example.com/",
            "https://api.us.port.io/",
        ),
    ],
)
def test_region(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], app_url: str, api_url: str) -> None:
    """The region gives the addresses of Port's app and API, where they are not set themselves."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(accept_unsigned=True)
    assert (str(settings.port_app_url), str(settings.port_api_url)) == (app_url, api_url)


def test_wrong_region_is_one_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses that rest on it are not named: nothing is wrong with them."""
    monkeypatch.setenv("PORT_REGION", "mars")
    with pytest.raises(SettingsError, match=r"\APORT_REGION must be 'eu' or 'us'\Z"):
        load_settings(accept_unsigned=True)


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("SLACK_WEBHOOK_URL", "hooks.slack.com/services/T/B/hush", "is not a URL"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/YOUR/WEBHOOK/URL", "placeholder"),
        ("DATABASE_URL", "mysql://hush", "must begin with sqlite:///"),
        ("DATABASE_URL", "sqlite:///", "name a file"),
        ("DATABASE_LISTEN_URL", "mysql://hush", "must begin with postgresql://"),
        ("PORT_APP_URL", "hush", "must be an address that begins with https://"),
        ("WEBHOOK_URL", "https://[hush", "must be an address that begins with https://"),
        ("SIGNATURE_TOLERANCE_SECONDS", "hush", "must be a valid integer"),
        ("SIGNATURE_TOLERANCE_SECONDS", "9" * 30, "must be less than or equal to"),
        ("KEEP_ALIVE_SECONDS", "9" * 30, "must be less than or equal to"),
        ("MAX_BODY_BYTES", "9" * 30, "must be less than or equal to"),
        ("RETENTION_DAYS", "9" * 30, "must be less than or equal to"),
        ("RECONCILE_MINUTES", "inf", "must be less than or equal to"),
        ("SLACK_BOT_TOKEN", "xoxb-hush-é", "is no bot token"),
        ("PORT_CLIENT_SECRET", '"hush', "begins with a quote that does not end"),
        ("DATABASE_URL", "'hush", "begins with a quote that does not end"),
        ("LOG_LEVEL", '""', "is blank"),
        ("LOG_LEVEL", "hush", "'DEBUG'"),
        ("ALLOWED_SOURCES", "port-eu, hush", "value 2 is neither an address, a network"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1,hush", "value 2 is neither an address nor a network"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8", "write the network's first, 10.0.0.0/8"),
    ],
)
def test_wrong_values(monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str) -> None:
    """Each wrong value is refused with its variable's name, and is not shown."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "a-good-one")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(name)
    assert part in str(refused.value)
    assert "hush" not in str(refused.value)
    assert "a-good-one" not in str(refused.value)


def test_words_in_capitals_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is the same in capitals: many systems write LOG_LEVEL=info."""
    for name, value in {"LOG_LEVEL": "info", "LOG_FORMAT": "JSON", "PORT_REGION": "US "}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(accept_unsigned=True)
    assert (settings.log_level, settings.log_format, settings.port_region) == ("INFO", "json", "us")


@pytest.mark.parametrize("value", [" ", "\t", "\n", "''", '"'])
def test_a_blank_secret_is_no_secret(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A blank secret is refused: it must not switch verification off."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", value)
    with pytest.raises(SettingsError, match="PORT_CLIENT_SECRET is blank"):
        load_settings()


@pytest.mark.parametrize("proxies", ["*", "10.0.0.1,0.0.0.0/0", "::/0"])
def test_sources_need_proxies_that_are_known(monkeypatch: pytest.MonkeyPatch, proxies: str) -> None:
    """Where everybody may say whence a request comes, ALLOWED_SOURCES would be worth nothing: refused."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "a-good-one")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxies)
    load_settings()
    monkeypatch.setenv("ALLOWED_SOURCES", "port-eu")
    with pytest.raises(SettingsError, match=r"^FORWARDED_ALLOW_IPS trusts every address"):
        load_settings()


def test_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mistake is named in one go."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "YOUR_SECRET")
    monkeypatch.setenv("RETENTION_DAYS", "-1")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert {line.split()[0] for line in str(refused.value).splitlines()} == {
        "PORT_CLIENT_SECRET",
        "RETENTION_DAYS",
    }


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret is in the settings' text, and all are known as hidden."""
    secrets = {
        "PORT_CLIENT_SECRET": "alpha-1",
        "PORT_PREVIOUS_CLIENT_SECRET": "beta-2",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/gamma-3",
        "DATABASE_URL": "postgresql://user:delta%2D4@host/database",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert not [value for value in secrets.values() if value in repr(settings)]
    assert set(settings.hidden) == {*secrets.values(), "delta%2D4", "delta-4"}
    assert settings.secrets == ("alpha-1", "beta-2")
