"""A shop's rows, written set-based before anything is measured.

Accounts with a saved method each, and what a benchmark starts from: active subscriptions that are
all due at one moment, attempts that are all ready, or nothing more (the accounts will buy).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from cryptography.fernet import MultiFernet

from subledger.platform.ids import Ids

STARTED = datetime(2026, 1, 31, 10, tzinfo=UTC)
DUE = datetime(2026, 2, 28, 10, tzinfo=UTC)
AMOUNT_MINOR = 999


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sandbox tenant with its plan, and its customers with a saved method each."""

    tenant_id: UUID
    plan_id: UUID
    accounts: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class _Named:
    tenant: UUID
    product: UUID
    plan: UUID
    version: UUID
    connection: UUID


async def _seller(
    admin: asyncpg.Connection,
    ids: Ids,
    named: _Named,
    credentials: tuple[str, str],
    fernet: MultiFernet,
) -> None:
    """The tenant with one plan of one price, and its account at the sandbox provider."""
    tenant_id, (key, secret) = named.tenant, credentials
    await admin.execute(
        "INSERT INTO identity.tenants VALUES ($1, 'bench', 'live', NULL, now()),"
        " ($2, 'bench', 'sandbox', $1, now())",
        ids.new(),
        tenant_id,
    )
    await admin.execute(
        "INSERT INTO identity.clocks VALUES ($1, 'sandbox', $2)", tenant_id, STARTED
    )
    await admin.execute(
        "INSERT INTO billing.products VALUES ($1, $2, 'p', 'p', '{film:a}', $3)",
        tenant_id,
        named.product,
        STARTED,
    )
    await admin.execute(
        "INSERT INTO billing.plans VALUES ($1, $2, $3, 'p', 'p', 1, $4)",
        tenant_id,
        named.plan,
        named.product,
        STARTED,
    )
    await admin.execute(
        "INSERT INTO billing.plan_versions VALUES ($1, $2, $3, 1, 86400, $4)",
        tenant_id,
        named.version,
        named.plan,
        STARTED,
    )
    await admin.execute(
        "INSERT INTO billing.prices VALUES ($1, $2, $3, 'base', 'EUR', 'flat', 'month', 1,"
        " 'advance', $4)",
        tenant_id,
        ids.new(),
        named.version,
        f'{{"amount_minor":{AMOUNT_MINOR}}}',
    )
    await admin.execute(
        "INSERT INTO payments.connections (tenant_id, id, provider, status, opens_itself,"
        " credentials_encrypted, webhook_secret_encrypted, created_at)"
        " VALUES ($1, $2, 'sandbox', 'active', true, $3, $4, $5)",
        tenant_id,
        named.connection,
        fernet.encrypt(key.encode()),
        fernet.encrypt(secret.encode()),
        STARTED,
    )
    await admin.execute(
        "INSERT INTO sandbox.merchants VALUES ($1, $2, '/nowhere', $3)",
        tenant_id,
        hashlib.sha256(key.encode()).digest(),
        STARTED,
    )


async def prepare(
    admin: asyncpg.Connection,
    *,
    subscriptions: int,
    credentials: tuple[str, str],
    tenant_id: UUID,
    fernet: MultiFernet,
    start: Sequence[str] | None = None,
) -> Prepared:
    """Write the tenant's rows as an administrator; ``credentials`` are its sandbox account's.
    ``start`` is what is measured from: by default ``DUE_SUBSCRIPTIONS``."""
    ids = Ids()
    named = _Named(tenant_id, *(ids.new() for _ in range(4)))
    async with admin.transaction():
        await _seller(admin, ids, named, credentials, fernet)
        rows = [(ids.new(), ids.new(), ids.new(), f"tok_{n}") for n in range(subscriptions)]
        await admin.execute(
            "CREATE TEMP TABLE wanted (account uuid, subscription uuid, method uuid, token text)"
            " ON COMMIT DROP"
        )
        await admin.copy_records_to_table("wanted", records=rows)
        for statement in (*_PEOPLE, *(DUE_SUBSCRIPTIONS if start is None else start)):
            await admin.execute(
                statement.format(
                    tenant=f"'{tenant_id}'::uuid",
                    version=f"'{named.version}'::uuid",
                    connection=f"'{named.connection}'::uuid",
                    product=f"'{named.product}'::uuid",
                    started=f"'{STARTED.isoformat()}'::timestamptz",
                    due=f"'{DUE.isoformat()}'::timestamptz",
                )
            )
    return Prepared(tenant_id, named.plan, [account for account, *_ in rows])


_PEOPLE = (
    """INSERT INTO billing.accounts (tenant_id, id, external_id, name, email, email_normalized,
    currency, timezone, locale, country, next_subscription_number, last_occurred_at, created_at)
    SELECT {tenant}, account, account::text, 'n', 'n@example.com', 'n@example.com', 'EUR',
    'Europe/Berlin', 'en', 'DE', 2, {started}, {started} FROM wanted""",
    """INSERT INTO payments.customers (tenant_id, id, external_id, currency, default_method_id)
    SELECT {tenant}, account, account::text, 'EUR', method FROM wanted""",
    """INSERT INTO payments.methods (tenant_id, id, customer_id, connection_id, status, token,
    brand, last_four, make_default, tries, ready_at, created_at)
    SELECT {tenant}, method, account, {connection}, 'active', token, 'visa', '4242', true, 0,
    {started}, {started} FROM wanted""",
    """INSERT INTO sandbox.methods (tenant_id, token, kind, brand, last_four)
    SELECT {tenant}, token, 'visa_ok', 'visa', '4242' FROM wanted""",
)
DUE_SUBSCRIPTIONS = (
    """INSERT INTO billing.subscriptions (tenant_id, id, payer_id, beneficiary_id, number,
    plan_version_id, currency, quantity, status, anchor_at, timezone, started_at, cycle_started_at,
    current_period_start_at, current_period_end_at, billed_through_at, period_number,
    last_run_number, collection, created_at)
    SELECT {tenant}, subscription, account, account, 1, {version}, 'EUR', 1, 'active', {started},
    'Europe/Berlin', {started}, {started}, {started}, {due}, {due}, 0, 0, 'automatic', {started}
    FROM wanted""",
    """INSERT INTO billing.due (tenant_id, kind, id, account_id, due_at, rank, number)
    SELECT {tenant}, 'renewal', subscription, account, {due}, 6, 1 FROM wanted""",
)
READY_ATTEMPTS = (
    """INSERT INTO payments.payments (tenant_id, id, customer_id, invoice_id, connection_id,
    method_id, mode, dunning, amount_minor, currency, status, occurred_at, created_at,
    subscription_ids)
    SELECT {tenant}, subscription, account, gen_random_uuid(), {connection}, method, 'automatic',
    true, 999, 'EUR', 'processing', {started}, {started}, '{{}}' FROM wanted""",
    """INSERT INTO payments.attempts (tenant_id, id, payment_id, n, kind, state, ready_at, tries,
    fetches, outcome, created_at)
    SELECT {tenant}, gen_random_uuid(), subscription, 1, 'charge', 'ready', now(), 0, 0, '{{}}',
    {started} FROM wanted""",
)

AFTERWARDS = {
    "invoices paid": "SELECT count(*) FROM billing.invoices WHERE tenant_id = $1"
    " AND status = 'paid'",
    "captures": "SELECT count(*) FROM sandbox.charges WHERE tenant_id = $1"
    " AND status = 'succeeded'",
    "attempts captured": "SELECT count(DISTINCT attempt_id) FROM sandbox.charges"
    " WHERE tenant_id = $1 AND status = 'succeeded'",
    "subscriptions renewed": "SELECT count(*) FROM billing.subscriptions WHERE tenant_id = $1"
    " AND last_run_number = 1 AND status = 'active'",
    "renewed told": "SELECT count(*) FROM eventlog.events WHERE tenant_id = $1"
    " AND type = 'subscription.renewed'",
    "access granted": "SELECT count(*) FROM entitlements.grants WHERE tenant_id = $1",
}
"""Counts that must all equal the number of subscriptions when a run is over."""
