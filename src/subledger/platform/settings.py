"""Settings from the environment (``SUBLEDGER_…``); secrets never show in texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class InvalidSettings(ValueError):
    """One or more variables are wrong; the text lists each with what it should be."""


class Settings(BaseSettings):
    """What an installation may set. Without a database URL the embedded PostgreSQL is used.

    ``database_url`` is an administrator's URL: ``subledger migrate`` creates roles with it, and
    the services log in with roles of their own on the same server, unless ``service_urls`` names
    another database for one of them.
    """

    model_config = SettingsConfigDict(env_prefix="SUBLEDGER_", extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    service_urls: dict[str, SecretStr] = Field(default_factory=dict)
    secret_key: SecretStr | None = None
    encryption_keys: list[SecretStr] = Field(default_factory=list)
    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    public_url: str | None = None
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

    @field_validator("service_urls", mode="after")
    @classmethod
    def _drivers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return {k: SecretStr(asyncpg_url(v.get_secret_value())) for k, v in value.items()}

    @property
    def base_url(self) -> str:
        """Where people reach this installation, without a slash at the end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def folder(self) -> Path:
        """The data folder: ``SUBLEDGER_DATA_DIR``, else the user's; for root ``/var/lib``, since
        an unprivileged user has to reach it."""
        if self.data_dir is not None:
            return self.data_dir.expanduser().absolute()
        if os.geteuid() == 0:
            return Path("/var/lib/subledger")
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
        return Path(base) / "subledger"


def asyncpg_url(url: str) -> str:
    """A PostgreSQL URL with the driver's scheme. Raises ValueError for other databases."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgres", "postgresql", "postgresql+asyncpg"}:
        raise ValueError("a database URL begins with postgresql://")
    return f"postgresql+asyncpg://{rest}"


def load() -> Settings:
    """The settings of this process. Raises InvalidSettings naming each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"SUBLEDGER_{'_'.join(str(part) for part in each['loc']).upper()}: {each['msg']}"
            for each in error.errors(include_input=False)
        ]
        raise InvalidSettings("wrong settings\n  " + "\n  ".join(lines)) from None
