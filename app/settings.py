"""The configuration, from the environment and from .env."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AnyHttpUrl,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.environment import TOKEN_FORMS, Environment, environment
from app.errors import SettingsError
from app.port.region import Region
from app.receive.sources import Sources, parse_sources
from app.store.database_url import POSTGRES_URL, SQLITE, mistake_in, password_in

PLACEHOLDER = re.compile(
    r"(?ix) ^(your[_\- ] | <.*>$ | change[_\- ]?me | replace[_\- ]?me | todo$ | x{3,} | example$ | secret$)"
    r" | hooks\.slack\.com/services/(your | x{3,} | \.\.\. | <)"
)
ANY_PROXY = "*"
SECRET_FORMS = TOKEN_FORMS | {
    "database_listen_url": (rf"{POSTGRES_URL}(?s:.*)", "must begin with postgresql://"),
}
"""What each secret must look like, and the mistake where it does not."""
IN_ANY_CASE: dict[str, Callable[[str], str]] = {
    "port_region": str.lower,
    "log_level": str.upper,
    "log_format": str.lower,
}
"""The settings of which a word is meant, in capitals or not."""
COMMENT = re.compile(r"\s#")


PYDANTIC = re.compile(r"^Value error, |, unable to (parse|interpret).*")
"""What its words have beside the sentence."""


class Settings(BaseSettings):
    """The configuration. Each field is an environment variable, its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,  # docs/settings.md and .env.example are made of them
    )

    port_client_secret: SecretStr | None = None
    """Your organization's client secret, with which Port signs its webhooks. Required, unless
    ACCEPT_UNSIGNED is true."""
    port_previous_client_secret: SecretStr | None = None
    """While you rotate the secret: the previous one, which is still accepted."""
    accept_unsigned: bool = False
    """true: start without a secret and accept changes from anyone who can reach the listener. For trying
    things out only."""
    signature_tolerance_seconds: Annotated[int, Field(gt=0, le=86_400)] = 300
    """How old a signature may be, and how far in the future, in seconds."""
    max_body_bytes: Annotated[int, Field(gt=0, le=500_000_000)] = 4 * 1024 * 1024
    """The largest body to accept, in bytes. A change carries its entity twice."""
    allowed_sources: str | None = None
    """The addresses or networks that may send changes, separated by commas; port-eu and port-us are those
    that Port publishes. Not set: any address, since changes are signed."""
    forwarded_allow_ips: str = "127.0.0.1,::1"
    """The proxies in front of the listener, addresses or networks separated by commas: only their
    X-Forwarded-For is trusted."""
    keep_alive_seconds: Annotated[int, Field(gt=0, le=86_400)] = 75
    """How long a connection stays open after an answer, in seconds: longer than your proxy keeps it (AWS and
    nginx: 60, Google Cloud: 600)."""
    port_region: Region = Region.EU
    """Your organization's region, eu or us, which gives the addresses of Port's API and app."""
    port_app_url: AnyHttpUrl = Field(default_factory=lambda known: AnyHttpUrl(known["port_region"].app_url))
    """Port's app, for links to entities. Not set: the region's."""
    port_client_id: str | None = None
    """The client id that belongs to the secret, for everything that uses Port's API: reconciling, bootstrap,
    doctor, reports, look-ups, actions."""
    port_api_url: AnyHttpUrl = Field(default_factory=lambda known: AnyHttpUrl(known["port_region"].api_url))
    """Port's API. Not set: the region's."""
    webhook_url: AnyHttpUrl | None = None
    """The listener's public address, which Port calls. /api/slack is added if it is missing."""
    smee_url: AnyHttpUrl | None = None
    """On your own machine, in place of WEBHOOK_URL: a smee channel. `python -m app tunnel --new` makes
    one."""
    slack_webhook_url: SecretStr | None = None
    """The incoming webhook of the default destination. Not set: its alerts are printed where the listener
    runs."""
    slack_bot_token: SecretStr | None = None
    """The bot token of your Slack app (OAuth & Permissions), xoxb-…, for destinations that name a
    channel."""
    slack_app_token: SecretStr | None = None
    """The app-level token of your Slack app (Basic Information), xapp-…, with connections:write: clicks then
    come over Socket Mode, without a public address."""
    slack_signing_secret: SecretStr | None = None
    """Your Slack app's signing secret (Basic Information), in place of SLACK_APP_TOKEN: clicks then come to
    /api/slack/interactive."""
    slack_api_url: AnyHttpUrl = AnyHttpUrl("https://slack.com/api/")
    """Slack's Web API, for the bot token. On GovSlack: https://slack-gov.com/api"""
    rules_file: Path | None = None
    """The rules: which changes alert, and where. Not set: every change of healthStatus goes to
    SLACK_WEBHOOK_URL."""
    database_url: SecretStr = SecretStr(f"{SQLITE}data/listener.db")
    """Where changes and alerts are stored: one SQLite file (four slashes for an absolute path), or, for
    several listeners, PostgreSQL: postgresql://USER:PASSWORD@HOST/DATABASE"""
    database_listen_url: SecretStr | None = None
    """If DATABASE_URL leads to a pgbouncer: PostgreSQL itself, for LISTEN. Not set: alerts may wait a second
    longer."""
    reconcile_minutes: Annotated[float, Field(ge=0, le=24 * 60)] = 10.0
    """How often to compare Port's entities with their last known state, in minutes; 0: never. Needs
    PORT_CLIENT_ID, and a rule that names a blueprint."""
    retention_days: Annotated[int, Field(gt=0, le=36_500)] = 30
    """How many days to keep what is delivered. What is pending or open stays."""
    admin_token: SecretStr | None = None
    """Opens the page, its API and the metrics: at least 16 characters, as `openssl rand -hex 24` prints. Not
    set: they answer 404."""
    page_url: AnyHttpUrl | None = None
    """The address under which people open the page, for links to it in messages:
    https://listener.example.com. Its path is that of the page: https://ops.example.com/listener. Not set:
    there are no links."""
    metrics_public: bool = False
    """true: /metrics can be read without the token."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level to log."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """How to log; auto is text on a terminal and JSON elsewhere."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_placeholders(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        value = IN_ANY_CASE.get(info.field_name or "", str)(value.strip())
        if not value.strip("\"'"):
            raise ValueError("is blank: set it, or remove the line")
        if PLACEHOLDER.search(value):
            raise ValueError("is still a placeholder: put the real value in, or remove the line")
        if COMMENT.search(value):  # `docker run --env-file` and kubectl keep it, other readers of .env do not
            raise ValueError("has a comment behind it (#): put the comment on a line of its own")
        if value[0] in "\"'" and info.field_name != "admin_token":  # which a person may have thought up
            raise ValueError("begins with a quote that does not end: remove it")
        return value

    @field_validator(*SECRET_FORMS)
    @classmethod
    def _check_form(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        form, mistake = SECRET_FORMS[info.field_name or ""]
        if value and not re.fullmatch(form, value.get_secret_value()):
            raise ValueError(mistake)
        return value

    @field_validator("database_url", "database_listen_url")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value and (mistake := mistake_in(value.get_secret_value())):
            raise ValueError(mistake)
        return value

    @field_validator("allowed_sources")
    @classmethod
    def _check_sources(cls, value: str | None) -> str | None:
        if value is not None:
            parse_sources(value)
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        # uvicorn takes anything it cannot parse for a host name, and would silently trust no proxy.
        if value != ANY_PROXY:
            parse_sources(value, {})
        return value

    @model_validator(mode="after")
    def _require_known_proxies(self) -> Self:
        proxies = self.forwarded_allow_ips
        if self.sources and (proxies == ANY_PROXY or parse_sources(proxies, {}).everybody):
            raise ValueError(
                "FORWARDED_ALLOW_IPS trusts every address, so a sender can write any into X-Forwarded-For:"
                " ALLOWED_SOURCES would keep nobody out. Name only your proxy's addresses"
            )
        return self

    @model_validator(mode="after")
    def _require_a_secret(self) -> Self:
        if self.port_client_secret is None and not self.accept_unsigned:
            raise ValueError(
                "PORT_CLIENT_SECRET is not set: set it to your organization's client secret (in Port, the"
                " menu at your picture, Credentials), so that only Port can send changes. To try things out"
                " without signatures, set ACCEPT_UNSIGNED=true"
            )
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """The client secrets that Port may sign with, the current one first; empty: nothing is verified."""
        secrets = (self.port_client_secret, self.port_previous_client_secret)
        return tuple(secret.get_secret_value() for secret in secrets if secret)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Every text that must never be shown."""
        values = (getattr(self, name) for name in type(self).model_fields)
        secrets = (value.get_secret_value() for value in values if isinstance(value, SecretStr))
        texts = [text for text in secrets if not text.startswith(SQLITE)]
        # A driver's error may hold the password alone.
        passwords = (word for text in texts for word in password_in(text))
        return (*texts, *passwords)

    @property
    def sources(self) -> Sources | None:
        """The addresses that may send changes; None: any."""
        return None if self.allowed_sources is None else parse_sources(self.allowed_sources)

    @property
    def missing_credential(self) -> str | None:
        """The setting that is missing for Port's API; None: none is."""
        credentials = {"PORT_CLIENT_ID": self.port_client_id, "PORT_CLIENT_SECRET": self.port_client_secret}
        return next((name for name, value in credentials.items() if value is None), None)

    @property
    def database(self) -> tuple[str, str | None]:
        """The store's URL, and the URL for LISTEN if that is another one."""
        listen_url = self.database_listen_url
        return self.database_url.get_secret_value(), listen_url.get_secret_value() if listen_url else None


def _values(variables: Environment, fields: Collection[str]) -> dict[str, str]:
    values, unreadable = {}, []
    for name in Settings.model_fields:
        try:
            if value := variables.get(name.upper()):
                values[name] = value
        except SettingsError as error:
            unreadable += [str(error)] if name in fields else []
    if unreadable:
        raise SettingsError("\n".join(unreadable))
    return values


def load_settings(*, only: Collection[str] = (), **overrides: Any) -> Settings:
    """Read the configuration from the environment, as `environment` gives it.

    Args:
        only: The fields that are used: what is wrong with others, or missing, does not matter; empty: all.
        overrides: Values that win over it, by field name.

    Raises:
        SettingsError: Something is missing or wrong; the text names each variable and shows no value.
    """
    variables = environment()
    if only:
        unused = {"accept_unsigned": True, "allowed_sources": None}
        overrides = {
            name: value for name, value in unused.items() if "port_client_secret" not in only
        } | overrides
    values = _values(variables, only or Settings.model_fields)
    try:
        return Settings(_env_file=None, **(values | overrides))
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
        wrong = {str(place) for mistake in mistakes for place in mistake["loc"][:1]}
        if only and wrong - overrides.keys() and not wrong.intersection(only):
            fields = {name: Settings.model_fields[name] for name in wrong}
            known = {"port_region": Region.EU}
            defaults = {
                name: info.get_default(call_default_factory=True, validated_data=known)
                for name, info in fields.items()
            }
            return load_settings(only=only, **(overrides | defaults))
        lines = []
        for mistake in mistakes:
            if mistake["type"] == "default_factory_not_called":
                continue  # a default that rests on another setting: that one's mistake is reported
            name = ".".join(map(str, mistake["loc"])).upper()
            text = PYDANTIC.sub("", mistake["msg"]).replace("Input should", "must", 1)
            if mistake["type"].startswith("url_"):
                text = "must be an address that begins with https://"
            lines.append(f"{name} {text}".strip())
        raise SettingsError("\n".join(lines)) from None
