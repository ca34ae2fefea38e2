"""Facts that services tell each other, and the names they have.

An event's ``data`` holds ids, states and amounts (TypeID text, integers of minor units, ISO 8601
UTC text), never personal fields. ``subject`` is the paying customer's account; facts that belong
to no account (a plan, an API key) have the tenant as their subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Event:
    """A fact to be appended: past tense, or a command type of its own (``*_required``).

    ``occurred_at`` is the tenant's clock (UTC). ``cause`` is the id of the event or request that
    led to it. The platform gives it its id and position.
    """

    type: str
    tenant_id: UUID
    subject: UUID
    data: Mapping[str, Any]
    occurred_at: datetime
    cause: UUID | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Recorded(Event):
    """An event as read from the log: unique ``(partition, position)``, stable ``id``."""

    id: UUID = field(kw_only=True)
    partition: int = field(kw_only=True)
    position: int = field(kw_only=True)
    recorded_at: datetime = field(kw_only=True)


CUSTOMER_CREATED: Final = "customer.created"
CUSTOMER_UPDATED: Final = "customer.updated"
CUSTOMER_DELETED: Final = "customer.deleted"
PRODUCT_CREATED: Final = "product.created"
PRODUCT_UPDATED: Final = "product.updated"
PLAN_CREATED: Final = "plan.created"
PLAN_VERSIONED: Final = "plan.versioned"
DISCOUNT_CREATED: Final = "discount.created"
PLAN_MIGRATION_STARTED: Final = "plan_migration.started"
PLAN_MIGRATION_PAUSED: Final = "plan_migration.paused"
PLAN_MIGRATION_RESUMED: Final = "plan_migration.resumed"
PLAN_MIGRATION_CANCELED: Final = "plan_migration.canceled"
PLAN_MIGRATION_FINISHED: Final = "plan_migration.finished"
DISCOUNT_ARCHIVED: Final = "discount.archived"
PROMOTION_CODE_CREATED: Final = "promotion_code.created"
PROMOTION_CODES_GENERATED: Final = "promotion_codes.generated"
PROMOTION_CODE_DEACTIVATED: Final = "promotion_code.deactivated"
PROMOTION_CODE_REDEEMED: Final = "promotion_code.redeemed"
PROMOTION_CODE_RELEASED: Final = "promotion_code.released"
CUSTOMER_DISCOUNT_ADDED: Final = "customer.discount_added"
CUSTOMER_DISCOUNT_REMOVED: Final = "customer.discount_removed"

RENEW_REQUIRED: Final = "subscriptions.renew_required"
CANCEL_REQUIRED: Final = "subscriptions.cancel_required"
CHANGE_REQUIRED: Final = "subscriptions.change_required"
EXPIRY_REQUIRED: Final = "subscriptions.expiry_required"
PAUSE_RESUME_REQUIRED: Final = "subscriptions.pause_resume_required"
TRIAL_REMINDER_REQUIRED: Final = "subscriptions.trial_reminder_required"
SUBSCRIPTION_CREATED: Final = "subscription.created"
SUBSCRIPTION_TRIAL_STARTED: Final = "subscription.trial_started"
SUBSCRIPTION_TRIAL_WILL_END: Final = "subscription.trial_will_end"
SUBSCRIPTION_TRIAL_ENDED: Final = "subscription.trial_ended"
SUBSCRIPTION_STARTED: Final = "subscription.started"
SUBSCRIPTION_ACTIVATED: Final = "subscription.activated"
SUBSCRIPTION_RENEWED: Final = "subscription.renewed"
SUBSCRIPTION_CHANGED: Final = "subscription.changed"
SUBSCRIPTION_PAST_DUE: Final = "subscription.past_due"
SUBSCRIPTION_CANCELED: Final = "subscription.canceled"
SUBSCRIPTION_PAUSED: Final = "subscription.paused"
SUBSCRIPTION_RESUMED: Final = "subscription.resumed"
SUBSCRIPTION_REACTIVATED: Final = "subscription.reactivated"

INVOICE_DRAFTED: Final = "invoice.drafted"
INVOICE_FINALIZE_REQUIRED: Final = "invoices.finalize_required"
INVOICE_COLLECT_REQUIRED: Final = "invoices.collect_required"
INVOICE_FINALIZED: Final = "invoice.finalized"
INVOICE_DUE: Final = "invoice.due"
INVOICE_PAID: Final = "invoice.paid"
INVOICE_PARTIALLY_PAID: Final = "invoice.partially_paid"
"""Part of it was paid (off-line, by a capture in part, or from the customer's account) and it stays
open: ``amount_minor`` came now, ``open_minor`` is left. ``payment_id`` is null if the money was in
the account. What pays the rest is told as ``invoice.paid``."""
INVOICE_VOIDED: Final = "invoice.voided"
INVOICE_UNCOLLECTIBLE: Final = "invoice.uncollectible"
CREDIT_NOTE_ISSUED: Final = "credit_note.issued"
CREDIT_NOTE_VOIDED: Final = "credit_note.voided"
ADJUSTMENT_MADE: Final = "adjustment.made"
BILLING_RUN_PARKED: Final = "billing_run.parked"
BILLING_RUN_RELEASED: Final = "billing_run.released"
BILLING_LIMITS_CHANGED: Final = "billing_limits.changed"
KILL_SWITCH_CHANGED: Final = "kill_switch.changed"
WORK_ITEM_OPENED: Final = "work_item.opened"
WORK_ITEM_CLOSED: Final = "work_item.closed"

PAYMENT_METHOD_ATTACHED: Final = "payment_method.attached"
PAYMENT_METHOD_UPDATED: Final = "payment_method.updated"
"""The provider changed it: other digits, another expiry, another token behind the same method."""
PAYMENT_METHOD_DETACHED: Final = "payment_method.detached"
PAYMENT_METHOD_DEFAULT_CHANGED: Final = "payment_method.default_changed"
PAYMENT_SUCCEEDED: Final = "payment.succeeded"
PAYMENT_FAILED: Final = "payment.failed"
"""A definite no, once per attempt. ``decline`` is its class, ``code`` the bank's word, ``counted``
false if the bank never saw it, ``retry_not_before`` the provider's wish. ``dunning`` says whether
failures are retried by policy; then ``subscription_ids`` are what the invoice bills, and
``other_method_ids`` what else the payer could be charged by, in the payer's order. When it is
tried again is a fact of its own: ``dunning.retry_scheduled``."""
PAYMENT_REQUIRES_ACTION: Final = "payment.requires_action"
PAYMENT_AUTHORIZED: Final = "payment.authorized"
"""The money is set aside at the provider and not taken: ``amount_minor`` may be captured until
``capture_before_at``, when it is let go by itself."""
PAYMENT_UNKNOWN: Final = "payment.unknown"
PAYMENT_CANCELED: Final = "payment.canceled"
REFUND_CREATED: Final = "refund.created"
"""Billing granted the refund and booked it; its money is on the way to the method or, if it goes to
``credit``, there."""
REFUND_SUCCEEDED: Final = "refund.succeeded"
"""The money went back. ``origin`` is ``outside`` for one that was made at the provider."""
REFUND_FAILED: Final = "refund.failed"
"""The money did not go back, for sure (``code``): it is the customer's credit again."""
REFUND_UNKNOWN: Final = "refund.unknown"
"""The provider did not say whether the money went back: it is asked until it does."""
DISPUTE_OPENED: Final = "dispute.opened"
"""The payer's bank took money of a payment back until it decides; ``evidence_due_at`` is the last
moment for evidence, ``fee_minor`` what the provider keeps for it by now."""
DISPUTE_UPDATED: Final = "dispute.updated"
"""Another moment for evidence, or another fee; the status is as before."""
DISPUTE_CLOSED: Final = "dispute.closed"
"""Decided: ``outcome`` is ``won`` (the money is back) or ``lost``. A bank may decide again, then it
is told again."""
PAYMENT_REVERSED: Final = "payment.reversed"
"""Money that was told as arrived did not. By the provider's own list: the payment is ``failed``,
what it settled is owed again. Off-line (``connection_id`` is null), a check that bounced: invoices
that it paid stay paid, and the customer's unapplied balance owes it."""
PAYMENT_CORRECTED: Final = "payment.corrected"
"""The provider's list has another amount than was told: ``amount_minor`` is what is to be added to
what was booked (below zero: taken from it), in ``currency``."""
PAYOUT_PAID: Final = "payout.paid"
"""The provider paid out: ``amount_minor`` reached the bank, ``fee_minor`` was kept, and
``difference_minor`` (below zero: more came than should) is rounding or exchange; together
``gross_minor``, which is what it held of the entries paid out."""
RECONCILIATION_FINISHED: Final = "reconciliation.finished"
DIFFERENCE_FOUND: Final = "reconciliation.difference_found"
"""What the provider and we know differs, or a state has been unknown for too long: ``kind`` says
how. It becomes a work item."""
DIFFERENCE_CLOSED: Final = "reconciliation.difference_closed"
"""It was repaired (``how``, ``by``), or the two agree again."""
CONNECTION_OPENED: Final = "connection.opened"
CONNECTION_CHANGED: Final = "connection.changed"
CONNECTION_CLOSED: Final = "connection.closed"
RETRY_REQUIRED: Final = "payments.retry_required"
FINAL_STEP_REQUIRED: Final = "payments.final_step_required"
DUNNING_RETRY_SCHEDULED: Final = "dunning.retry_scheduled"
"""After each failure, and when a new payment method is to be tried at once: ``number`` of the
retry and ``retry_at``; ``failures`` that counted so far; ``policy_id`` (null: the default one) and
``policy_version`` by which the collection goes on."""
DUNNING_FINAL_STEP_SCHEDULED: Final = "dunning.final_step_scheduled"
"""No retry follows any more: ``action`` will be taken at ``final_at``."""

ENTITLEMENT_GRANTED: Final = "entitlement.granted"
ENTITLEMENT_REVOKED: Final = "entitlement.revoked"
WEBHOOK_RECEIVED: Final = "webhook.received"
API_KEY_CREATED: Final = "api_key.created"
API_KEY_REVOKED: Final = "api_key.revoked"

TAX_SETTINGS_UPDATED: Final = "tax_settings.updated"
TAX_RATE_CREATED: Final = "tax_rate.created"
TAX_RULE_CREATED: Final = "tax_rule.created"
TAX_RULE_ENDED: Final = "tax_rule.ended"

TOPICS: Final[Mapping[str, str]] = {
    RENEW_REQUIRED: "subscriptions.renew_required",
    PAYMENT_FAILED: "payments.failed",
}
"""Event types whose topic on a broker has a name of its own; every other topic is the type."""
