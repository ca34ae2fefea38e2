"""Billing's public REST API."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from subledger.contracts.checkouts import Checkouts
from subledger.contracts.repairs import Repairs
from subledger.platform.db import Database, Tx
from subledger.platform.eventlog.http import router as event_feed
from subledger.platform.http.idempotency import Keys
from subledger.services.billing.http import (
    adjustments,
    attachments,
    catalogue,
    credit_notes,
    customers,
    discounts,
    disputes,
    guard,
    invoices,
    invoicing,
    ledger,
    plan_migrations,
    promotions,
    quantities,
    refunds,
    revenue,
    subscriptions,
    taxes,
    unapplied,
    work_item_repairs,
)
from subledger.services.billing.store import accounts
from subledger.services.billing.terms import TermsMemory

KEYS = Keys("billing")


async def _customer_exists(tx: Tx, tenant_id: UUID, customer_id: UUID) -> bool:
    return bool(await accounts.customers(tx, [(tenant_id, customer_id)]))


def routers(
    database: Database, checkouts: Checkouts, repairs: Repairs, memory: TermsMemory
) -> list[APIRouter]:
    """All of billing's routes, and the tenant's event feed, which knows customers by billing."""
    return [
        customers.router(database, KEYS),
        *catalogue.routers(database, KEYS),
        *taxes.routers(database, KEYS, memory.taxes),
        *discounts.routers(database, KEYS),
        promotions.router(database, memory, KEYS),
        subscriptions.router(database, checkouts, memory, KEYS),
        *attachments.routers(database, memory, KEYS),
        *quantities.routers(database, memory, KEYS),
        invoices.router(database, KEYS, memory),
        *invoicing.routers(database, KEYS),
        credit_notes.router(database, KEYS, memory),
        adjustments.router(database, KEYS),
        *ledger.routers(database, KEYS),
        work_item_repairs.router(database, repairs),
        *guard.routers(database, KEYS, memory),
        *plan_migrations.routers(database, memory, KEYS),
        revenue.router(database),
        disputes.router(database, KEYS),
        refunds.router(database, KEYS),
        unapplied.router(database, KEYS, memory),
        event_feed(database, subject_exists=_customer_exists),
    ]
