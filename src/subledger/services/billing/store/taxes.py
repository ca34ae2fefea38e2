"""Tax settings, rates, rules, and the edition that says when any of them changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert, Update, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

MOST_RATES = 1_000
MOST_RULES = 500
"""Of one tenant; a table of the core takes as many rules."""

_WANTED = "unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
_TENANTS = "unnest(CAST(:tenants AS uuid[])) AS w(tenant_id)"
_SETTING = (
    "s.country, s.region, s.vat_id, s.registered, s.below_eu_threshold, s.rounding, s.ties,"
    " s.provider, s.updated_at"
)
_RATE = (
    "r.tenant_id, r.id, r.code, r.name, r.percent, r.country, r.region, r.levy, r.compound,"
    " r.created_at"
)
_RULE = (
    "u.tenant_id, u.id, u.tax_rate_id, u.category, u.treatment, u.from_on, u.until_on, u.created_at"
)
_OF_RATE = (
    "r.code AS rate_code, r.name AS rate_name, r.percent, r.country, r.region, r.levy, r.compound,"
    " r.created_at AS rate_created_at"
)

_EDITIONS = sql(
    f"SELECT e.tenant_id, e.edition FROM {_TENANTS} JOIN billing.tax_editions e USING (tenant_id)"
)
# One statement, so that what it reads belongs together whatever is committed meanwhile.
_TERMS = sql(
    f"""
    SELECT e.tenant_id, e.edition, {_SETTING}, (
        SELECT jsonb_agg(jsonb_build_array(r.id, r.percent::text, r.name, r.country, r.region,
                                           r.levy, r.compound))::text
        FROM (SELECT * FROM billing.tax_rates r WHERE r.tenant_id = e.tenant_id
              ORDER BY r.id LIMIT {MOST_RATES}) AS r
    ) AS rates, (
        SELECT jsonb_agg(jsonb_build_array(u.tax_rate_id, u.category, u.treatment, u.from_on,
                                           u.until_on) ORDER BY u.code, u.from_on, u.id)::text
        FROM (SELECT u.*, r.code FROM billing.tax_rules u JOIN billing.tax_rates r
                ON r.tenant_id = u.tenant_id AND r.id = u.tax_rate_id
              WHERE u.tenant_id = e.tenant_id ORDER BY u.id LIMIT {MOST_RULES}) AS u
    ) AS rules
    FROM {_TENANTS} JOIN billing.tax_editions e USING (tenant_id)
    LEFT JOIN billing.tax_settings s ON s.tenant_id = e.tenant_id
    """
)
_CATEGORIES = sql(
    f"SELECT p.tenant_id, p.id, p.tax_category FROM {_WANTED}"
    " JOIN billing.products p USING (tenant_id, id)"
)
_SETTINGS = sql(
    f"SELECT s.tenant_id, {_SETTING} FROM {_TENANTS} JOIN billing.tax_settings s USING (tenant_id)"
)
_RATES = sql(f"SELECT {_RATE} FROM {_WANTED} JOIN billing.tax_rates r USING (tenant_id, id)")
_LIST_RATES = sql(
    f"SELECT {_RATE} FROM billing.tax_rates r WHERE r.tenant_id = :tenant AND r.id < :before"
    " ORDER BY r.id DESC LIMIT :limit"
)
_RATES_BY_CODE = sql(
    f"SELECT {_RATE} FROM billing.tax_rates r"
    " WHERE r.tenant_id = :tenant AND r.code = :code AND r.id < :before"
)
_RULES = sql(
    f"SELECT {_RULE}, {_OF_RATE} FROM {_WANTED} JOIN billing.tax_rules u USING (tenant_id, id)"
    " JOIN billing.tax_rates r ON r.tenant_id = u.tenant_id AND r.id = u.tax_rate_id"
)
_LIST_RULES = sql(
    f"SELECT {_RULE}, {_OF_RATE} FROM billing.tax_rules u"
    " JOIN billing.tax_rates r ON r.tenant_id = u.tenant_id AND r.id = u.tax_rate_id"
    " WHERE u.tenant_id = :tenant AND u.id < :before ORDER BY u.id DESC LIMIT :limit"
)
_COUNTS = sql(
    "SELECT (SELECT count(*) FROM (SELECT FROM billing.tax_rates r WHERE r.tenant_id = :tenant"
    f" LIMIT {MOST_RATES}) AS r) AS rates,"
    " (SELECT count(*) FROM (SELECT FROM billing.tax_rules u WHERE u.tenant_id = :tenant"
    f" LIMIT {MOST_RULES}) AS u) AS rules"
)

_PUT_EDITIONS = Insert(
    tables.tax_editions,
    ["tenant_id", "edition"],
    conflict="(tenant_id) DO UPDATE SET edition = excluded.edition",
)
_SETTINGS_COLUMNS = [column.name for column in tables.tax_settings.c]
_PUT_SETTINGS = Insert(
    tables.tax_settings,
    _SETTINGS_COLUMNS,
    conflict="(tenant_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _SETTINGS_COLUMNS[1:]),
)
_INSERT_RATES = Insert(
    tables.tax_rates,
    [column.name for column in tables.tax_rates.c],
    conflict="(tenant_id, code) DO NOTHING",
)
_INSERT_RULES = Insert(tables.tax_rules, [column.name for column in tables.tax_rules.c])
_END_RULES = Update(tables.tax_rules, keys=["tenant_id", "id"], sets=["until_on"])


# --- deciding -----------------------------------------------------------------------------------


async def editions(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, UUID]:
    """The edition of each tenant that ever said anything about taxes."""
    return {row.tenant_id: row.edition for row in await tx.rows(_EDITIONS, tenants=list(tenants))}


async def terms(tx: Tx, tenants: Iterable[UUID]) -> Sequence[Row[Any]]:
    """Settings (null where there are none), rates and rules (JSON text) with their edition, as
    they are at one moment. Rules by the code of their rate, then from when they hold."""
    return await tx.rows(_TERMS, tenants=list(tenants))


async def categories(tx: Tx, products: Iterable[Key]) -> dict[Key, str | None]:
    """The tax category of each product; None where it has none."""
    rows = await tx.rows(_CATEGORIES, **split(products))
    return {(row.tenant_id, row.id): row.tax_category for row in rows}


# --- saying -------------------------------------------------------------------------------------


async def put_editions(tx: Tx, tenants: Iterable[UUID]) -> None:
    """Begin a new edition of each tenant's taxes, and hold its row to the end of the transaction:
    whoever changes rates and rules takes turns."""
    rows = [{"tenant_id": each, "edition": tx.ids.new()} for each in set(tenants)]
    await _PUT_EDITIONS(tx, sorted(rows, key=lambda row: row["tenant_id"].bytes))


async def put_settings(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _PUT_SETTINGS(tx, sorted(rows, key=lambda row: row["tenant_id"].bytes))


async def insert_rates(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rates; one whose code is taken in its tenant is left out. Tells how many were
    written. They never change afterwards."""
    return await _INSERT_RATES(
        tx, sorted(rows, key=lambda row: (row["tenant_id"].bytes, row["code"]))
    )


async def insert_rules(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await _INSERT_RULES(tx, rows)


async def end_rules(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say until when rules hold; the tenant's edition is held."""
    await _END_RULES(tx, rows)


# --- looking ------------------------------------------------------------------------------------


async def settings(tx: Tx, tenants: Iterable[UUID]) -> dict[UUID, Row[Any]]:
    return {row.tenant_id: row for row in await tx.rows(_SETTINGS, tenants=list(tenants))}


async def rates(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    return {(row.tenant_id, row.id): row for row in await tx.rows(_RATES, **split(keys))}


async def list_rates(
    tx: Tx, tenant_id: UUID, *, code: str | None, before: UUID, limit: int
) -> list[Row[Any]]:
    """Rates with an id below ``before``, newest first."""
    if code is not None:
        return list(await tx.rows(_RATES_BY_CODE, tenant=tenant_id, code=code, before=before))
    return list(await tx.rows(_LIST_RATES, tenant=tenant_id, before=before, limit=limit))


async def rules(tx: Tx, keys: Iterable[Key]) -> dict[Key, Row[Any]]:
    """Rules with the fields of their rates."""
    return {(row.tenant_id, row.id): row for row in await tx.rows(_RULES, **split(keys))}


async def list_rules(tx: Tx, tenant_id: UUID, *, before: UUID, limit: int) -> list[Row[Any]]:
    """Rules with an id below ``before``, newest first."""
    return list(await tx.rows(_LIST_RULES, tenant=tenant_id, before=before, limit=limit))


async def counts(tx: Tx, tenant_id: UUID) -> tuple[int, int]:
    """How many rates and rules a tenant has; each counted up to its limit."""
    [row] = await tx.rows(_COUNTS, tenant=tenant_id)
    return int(row.rates), int(row.rules)
