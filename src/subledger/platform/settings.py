"""Settings from the environment (``SUBLEDGER_…``); secrets never show in texts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "SUBLEDGER_"
SERVICES = frozenset(
    {"billing", "entitlements", "identity", "payments", "sandbox", "scheduler", "webhooks"}
)
"""What may have a database URL of its own."""


class InvalidSettings(ValueError):
    """One or more variables are wrong; the text lists each with what it should be."""


class Settings(BaseSettings):
    """What an installation may set. Without a database URL the embedded PostgreSQL is used.

    ``database_url`` is an administrator's URL: ``subledger migrate`` creates roles with it, and
    the services log in with roles of their own on the same server, unless ``service_urls`` names
    another database for one of them (a JSON object: service to URL). ``encryption_keys`` are
    a JSON list or separated by commas: the first encrypts, all decrypt. ``sandbox_url`` is where
    the sandbox provider answers when a process of its own serves it; every process needs it then.
    An empty variable counts as unset.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True
    )

    database_url: SecretStr | None = None
    service_urls: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    secret_key: SecretStr | None = None
    encryption_keys: Annotated[list[SecretStr], NoDecode] = Field(default_factory=list)
    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    public_url: str | None = None
    sandbox_url: str | None = None
    pool_size: int = Field(default=5, ge=1, le=100)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    max_stale_s: float = Field(default=30.0, gt=0)
    stale_policy: Literal["allow", "deny", "unavailable"] = "allow"
    lease_s: int = Field(default=20, ge=1, le=600)

    @field_validator("database_url", mode="after")
    @classmethod
    def _driver(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(asyncpg_url(value.get_secret_value()))

    @field_validator("service_urls", mode="before")
    @classmethod
    def _by_service(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            # The parser's own words would repeat the text, which holds passwords.
            raise ValueError('a JSON object is needed: {"billing": "postgresql://…"}') from None

    @field_validator("service_urls", mode="after")
    @classmethod
    def _drivers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        unknown = sorted(value.keys() - SERVICES)
        if unknown:
            known = ", ".join(sorted(SERVICES))
            raise ValueError(f"no service {', '.join(unknown)}; there are {known}")
        return {k: SecretStr(asyncpg_url(v.get_secret_value())) for k, v in value.items()}

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("a JSON list is needed, or keys separated by commas") from None
        return [each.strip() for each in value.split(",") if each.strip()]

    @field_validator("public_url", "sandbox_url", mode="after")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("a URL that begins with http:// or https:// is needed")
        return value.rstrip("/")

    @property
    def base_url(self) -> str:
        """Where people reach this installation, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def folder(self) -> Path:
        """The data folder: ``SUBLEDGER_DATA_DIR``, else the user's (``XDG_DATA_HOME``); for root
        ``/var/lib``, since an unprivileged user has to reach it."""
        if self.data_dir is not None:
            return self.data_dir.expanduser().absolute()
        if os.geteuid() == 0:
            return Path("/var/lib/subledger")
        # The XDG specification has a relative path ignored.
        base = os.environ.get("XDG_DATA_HOME", "")
        return (Path(base) if os.path.isabs(base) else Path.home() / ".local/share") / "subledger"


def asyncpg_url(url: str) -> str:
    """A PostgreSQL URL in the driver's words: its scheme, and ``ssl`` for libpq's ``sslmode``.

    Raises ValueError for other databases.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+asyncpg"}:
        raise ValueError("a database URL begins with postgresql://")
    where, mark, options = rest.partition("?")
    named = [
        "ssl=" + each.removeprefix("sslmode=") if each.startswith("sslmode=") else each
        for each in options.split("&")
    ]
    return f"postgresql+asyncpg://{where}{mark}{'&'.join(named)}"


def load() -> Settings:
    """The settings of this process. Raises InvalidSettings naming each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{str(each['loc'][0]).upper()}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("wrong settings\n  " + "\n  ".join(lines)) from None


def unknown_variables() -> list[str]:
    """Variables with our prefix that nothing here reads: mostly a slip of the pen.

    The tests, the makefile and the command line have a few of their own.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    others = (f"{PREFIX}TEST_", f"{PREFIX}STARTED_AT", f"{PREFIX}DEBUG")
    return sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name not in known and not name.startswith(others)
    )
