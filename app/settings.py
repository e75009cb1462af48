"""What can be configured, from the environment and from .env."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AnyHttpUrl,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingsError
from app.port.region import Region
from app.receive.sources import Sources, parse_sources

PLACEHOLDER = re.compile(
    r"(?ix) ^(your[_\- ] | <.*>$ | change[_\- ]?me | replace[_\- ]?me | todo$ | x{3,} | example$ | secret$)"
    r" | hooks\.slack\.com/services/(your | x{3,} | \.\.\. | <)"
)
SQLITE = "sqlite:///"
POSTGRES = re.compile(r"postgres(ql)?://\S+")
EVERY_PROXY = "*"
SHORTEST_ADMIN_TOKEN = 16


class Settings(BaseSettings):
    """The configuration. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    port_client_secret: SecretStr | None = None
    port_previous_client_secret: SecretStr | None = None
    accept_unsigned: bool = False
    signature_tolerance_seconds: Annotated[int, Field(gt=0)] = 300
    max_body_bytes: Annotated[int, Field(gt=0)] = 4 * 1024 * 1024
    allowed_sources: str | None = None
    forwarded_allow_ips: str = "127.0.0.1,::1"
    keep_alive_seconds: Annotated[int, Field(gt=0)] = 75
    port_region: Region = Region.EU
    port_app_url: AnyHttpUrl = Field(default_factory=lambda known: AnyHttpUrl(known["port_region"].app_url))
    port_client_id: str | None = None
    port_api_url: AnyHttpUrl = Field(default_factory=lambda known: AnyHttpUrl(known["port_region"].api_url))
    webhook_url: AnyHttpUrl | None = None
    smee_url: AnyHttpUrl | None = None
    slack_webhook_url: SecretStr | None = None
    slack_bot_token: SecretStr | None = None
    slack_api_url: AnyHttpUrl = AnyHttpUrl("https://slack.com/api/")
    rules_file: Path | None = None
    database_url: SecretStr = SecretStr(f"{SQLITE}data/listener.db")
    database_listen_url: SecretStr | None = None
    reconcile_minutes: Annotated[float, Field(ge=0, le=24 * 60)] = 10.0
    retention_days: Annotated[int, Field(gt=0)] = 30
    admin_token: SecretStr | None = None
    metrics_public: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_placeholders(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        value = value.strip()
        if not value:
            raise ValueError("is blank: set it, or remove the line")
        if PLACEHOLDER.search(value):
            raise ValueError("is still a placeholder: put the real value in, or remove the line")
        return value

    @field_validator("slack_webhook_url")
    @classmethod
    def _check_webhook_url(cls, value: SecretStr | None) -> SecretStr | None:
        # Not AnyHttpUrl: its errors and its repr show the address, which is a secret.
        if value and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value.get_secret_value()):
            raise ValueError("is not a URL: take it from your Slack app's page, Incoming Webhooks")
        return value

    @field_validator("slack_bot_token")
    @classmethod
    def _check_bot_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"xox[be][-.]\S+", value.get_secret_value()):
            raise ValueError(
                "is no bot token, which begins with xoxb-: your Slack app's page, OAuth & Permissions, has it"
            )
        return value

    @field_validator("admin_token")
    @classmethod
    def _check_admin_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < SHORTEST_ADMIN_TOKEN:
            raise ValueError(
                f"is too short to guard anything: at least {SHORTEST_ADMIN_TOKEN} characters, such as"
                " `openssl rand -hex 24` prints"
            )
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if POSTGRES.fullmatch(url) or (url.startswith(SQLITE) and url != SQLITE):
            return value
        raise ValueError(
            f"must begin with {SQLITE} and name a file ({SQLITE}data/listener.db), or with postgresql://"
        )

    @field_validator("database_listen_url")
    @classmethod
    def _check_database_listen_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not POSTGRES.fullmatch(value.get_secret_value()):
            raise ValueError("must begin with postgresql://")
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
        # uvicorn takes what it cannot read for a name, and trusts nobody then.
        if value != EVERY_PROXY:
            parse_sources(value, {})
        return value

    @model_validator(mode="after")
    def _demand_that_sources_are_known(self) -> Self:
        proxies = self.forwarded_allow_ips
        if self.sources and (proxies == EVERY_PROXY or parse_sources(proxies, {}).everybody):
            raise ValueError(
                "FORWARDED_ALLOW_IPS names everybody, and so believes any address that a sender writes into"
                " X-Forwarded-For: ALLOWED_SOURCES would keep nobody out. Name your proxy's addresses only"
            )
        return self

    @model_validator(mode="after")
    def _demand_a_secret(self) -> Self:
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
        given = (self.port_client_secret, self.port_previous_client_secret)
        return tuple(one.get_secret_value() for one in given if one)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Every text that must never be shown."""
        values = (getattr(self, name) for name in type(self).model_fields)
        given = (one.get_secret_value() for one in values if isinstance(one, SecretStr))
        texts = [text for text in given if not text.startswith(SQLITE)]
        urls = (urlsplit(text) for text in texts if POSTGRES.fullmatch(text))
        passwords = (word for url in urls if url.password for word in (url.password, unquote(url.password)))
        return (*texts, *passwords)

    @property
    def sources(self) -> Sources | None:
        """Whence changes may come; None: from everywhere."""
        return None if self.allowed_sources is None else parse_sources(self.allowed_sources)

    @property
    def missing_credential(self) -> str | None:
        """The setting that is missing for Port's API; None: none is."""
        given = {"PORT_CLIENT_ID": self.port_client_id, "PORT_CLIENT_SECRET": self.port_client_secret}
        return next((name for name, value in given.items() if value is None), None)

    @property
    def database(self) -> tuple[str, str | None]:
        """The store's URL, and the URL to listen at where that is another one."""
        listen_url = self.database_listen_url
        return self.database_url.get_secret_value(), listen_url.get_secret_value() if listen_url else None

    @property
    def database_path(self) -> Path | None:
        """The SQLite file; None: the store is in PostgreSQL."""
        url = self.database_url.get_secret_value()
        return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def environment() -> dict[str, str]:
    """Return what `${NAME}` stands for in a rules file: .env, and the environment, which wins."""
    given = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return given | os.environ


def load_settings(**overrides: Any) -> Settings:
    """Read the configuration from the environment, and from .env in the working directory.

    Args:
        overrides: Values that win over both, by field name.

    Raises:
        SettingsError: Something is missing or wrong; the text names each variable and shows no value.
    """
    try:
        return Settings(_env_file=".env", **overrides)
    except ValidationError as error:
        lines = []
        for one in error.errors(include_url=False, include_input=False):
            if one["type"] == "default_factory_not_called":
                continue  # a default that rests on another setting: that one's mistake is said
            name = ".".join(map(str, one["loc"])).upper()
            lines.append(f"{name} {one['msg'].removeprefix('Value error, ')}".strip())
        raise SettingsError("\n".join(lines)) from None
