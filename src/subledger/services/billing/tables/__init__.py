"""Tables of the schema ``billing`` (the migrations say keys, checks and policies)."""

from __future__ import annotations

from subledger.platform.due import due_table
from subledger.platform.eventlog.tables import consumer_tables
from subledger.services.billing.tables.base import metadata
from subledger.services.billing.tables.books import (
    adjustments,
    balances,
    ledger_days,
    recognition_policies,
    recognition_schedules,
    rolled_up,
    transfers,
)
from subledger.services.billing.tables.catalogue import (
    accounts,
    agreed_prices,
    customer_discounts,
    discount_settings,
    discounts,
    plan_versions,
    plans,
    prices,
    products,
    promotion_redemptions,
    promotions,
    saved_methods,
)
from subledger.services.billing.tables.disputes import dispute_settings, disputes
from subledger.services.billing.tables.guard import (
    billing_hours,
    billing_limits,
    billing_parks,
    guard_changes,
    held_due,
    holds,
    raised_limits,
    released_runs,
)
from subledger.services.billing.tables.invoices import (
    billing_runs,
    credit_note_lines,
    credit_notes,
    differences,
    invoice_lines,
    invoice_settings,
    invoices,
    number_series,
    payouts,
    receipts,
    refunds,
    reservations,
    work_items,
)
from subledger.services.billing.tables.refund_settings import refund_settings
from subledger.services.billing.tables.subscriptions import (
    pauses,
    plan_migration_results,
    plan_migration_totals,
    plan_migrations,
    scheduled_changes,
    subscription_changes,
    subscription_discounts,
    subscription_phases,
    subscriptions,
    used_quantities,
)
from subledger.services.billing.tables.taxes import tax_editions, tax_rates, tax_rules, tax_settings

due = due_table(metadata)
cursors, parked, blocked = consumer_tables(metadata)

__all__ = [
    "accounts", "adjustments", "agreed_prices", "balances", "billing_hours", "billing_limits",
    "billing_parks", "billing_runs", "blocked", "credit_note_lines", "credit_notes",
    "cursors", "customer_discounts", "differences", "discount_settings", "discounts",
    "dispute_settings", "disputes", "due", "guard_changes", "held_due", "holds",
    "invoice_lines", "invoice_settings", "invoices", "ledger_days", "metadata",
    "number_series", "parked", "pauses", "payouts", "plan_migration_results",
    "plan_migration_totals", "plan_migrations", "plan_versions", "plans", "prices",
    "products", "promotion_redemptions", "promotions", "raised_limits", "receipts",
    "recognition_policies", "recognition_schedules", "refund_settings", "refunds",
    "released_runs",
    "reservations", "rolled_up", "saved_methods", "scheduled_changes", "subscription_changes",
    "subscription_discounts", "subscription_phases", "subscriptions", "tax_editions",
    "tax_rates", "tax_rules", "tax_settings", "transfers", "used_quantities", "work_items",
]  # fmt: skip
