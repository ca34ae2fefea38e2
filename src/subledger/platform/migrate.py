"""Roles, schemas and migrations: ``subledger migrate``.

Runs as an administrator (it creates roles), makes every object belong to the owner, a role that
nobody can log in as, and gives each service a login role of its own whose settings travel with
the role (PgBouncer refuses connection options). Alembic runs per service under one advisory lock.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

import subledger
from subledger.platform.db import CLOCK_MOVER, DUE_READER, LOG_READER, TENANT_FINDER
from subledger.platform.schema import OWNER

PACKAGE = Path(subledger.__file__).parent

SCHEMAS: dict[str, Path] = {
    "identity": PACKAGE / "services/identity/migrations",
    "eventlog": PACKAGE / "platform/eventlog/migrations",
    "billing": PACKAGE / "services/billing/migrations",
    "payments": PACKAGE / "services/payments/migrations",
    "webhooks": PACKAGE / "services/webhooks/migrations",
    "scheduler": PACKAGE / "services/scheduler/migrations",
    "entitlements": PACKAGE / "services/entitlements/migrations",
    "sandbox": PACKAGE / "providers/sandbox/migrations",
}
"""In order: every service reads identity's clocks and writes the event log."""

READERS = (LOG_READER, DUE_READER, TENANT_FINDER, CLOCK_MOVER)
SERVICES = tuple(name for name in SCHEMAS if name != "eventlog")
_LOCK = 7_326_411_902
_LOCK_TIMEOUT = "5s"


def role_of(service: str) -> str:
    """The login role of a service."""
    return f"subledger_{service}"


def password_of(service: str, secret_key: str) -> str:
    """The password of a service's role, derived from the installation's secret key."""
    digest = hmac.new(secret_key.encode(), f"role:{service}".encode(), hashlib.sha256)
    return digest.hexdigest()


def service_url(admin_url: str, service: str, secret_key: str) -> str:
    """The administrator's URL with the service's own role and password in it."""
    url = make_url(admin_url).set(
        username=role_of(service), password=password_of(service, secret_key)
    )
    return url.render_as_string(hide_password=False)


async def migrate(admin_url: str, *, secret_key: str) -> None:
    """Bring the database to this release: roles, schemas, tables. Running it again changes nothing.

    Raises what PostgreSQL says when the administrator may not create roles.
    """
    engine = create_async_engine(admin_url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            await connection.commit()
            await _roles(connection, secret_key)
            for schema in SCHEMAS:
                await connection.execute(
                    text(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {OWNER}")
                )
            await connection.commit()
            for schema, scripts in SCHEMAS.items():
                await connection.run_sync(_upgrade, schema, scripts)
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            await connection.commit()
    finally:
        await engine.dispose()


async def _roles(connection: AsyncConnection, secret_key: str) -> None:
    """Roles belong to the server, so two databases of one server take turns (advisory locks do
    not reach across databases: a lost race shows as an error that is worth one more try)."""
    database = (await connection.execute(text("SELECT current_database()"))).scalar_one()
    for role in (OWNER, *READERS):
        await _create_role(connection, role, "NOLOGIN NOSUPERUSER NOBYPASSRLS")
    # The administrator becomes the owner for the migrations.
    await connection.execute(text(f"GRANT {OWNER} TO CURRENT_USER"))
    await connection.execute(text(f'GRANT CREATE ON DATABASE "{database}" TO {OWNER}'))
    for service in SERVICES:
        role = role_of(service)
        await _create_role(connection, role, "LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT")
        password = password_of(service, secret_key)
        await connection.execute(text(f"ALTER ROLE {role} PASSWORD '{password}'"))
        for setting, value in {
            "search_path": "pg_catalog",
            "lock_timeout": "3s",
            "idle_in_transaction_session_timeout": "5s",
            "plan_cache_mode": "auto",
            "jit": "off",
            # Every statement has an index to go by (tests/sql). A table that was empty when a
            # foreign-key check was planned would be read whole by each check until it is analyzed.
            "enable_seqscan": "off",
            "timezone": "UTC",
        }.items():
            await connection.execute(text(f"ALTER ROLE {role} SET {setting} = '{value}'"))
        readers = [LOG_READER, DUE_READER]
        if service in {"identity", "webhooks", "payments", "sandbox"}:
            readers.append(TENANT_FINDER)
        if service == "identity":
            readers.append(CLOCK_MOVER)
        await connection.execute(text(f"GRANT {', '.join(readers)} TO {role}"))
    await connection.commit()


async def _create_role(connection: AsyncConnection, role: str, options: str) -> None:
    await connection.execute(
        text(
            f"DO $$ BEGIN CREATE ROLE {role} {options};"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    )


def _upgrade(connection: Connection, schema: str, scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(PACKAGE / "platform/alembic"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    connection.execute(text(f"SET ROLE {OWNER}"))
    connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.commit()
    try:
        command.upgrade(config, "head")
        if schema in SERVICES:
            # So that a running service can say whether its schema is its release's.
            table, role = f"{schema}.schema_version", role_of(schema)
            connection.execute(text(f"GRANT SELECT ON {table} TO {role}"))
            connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("RESET ROLE"))
        connection.commit()
