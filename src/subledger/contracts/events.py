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
PAYMENT_METHOD_DETACHED: Final = "payment_method.detached"
PAYMENT_SUCCEEDED: Final = "payment.succeeded"
PAYMENT_FAILED: Final = "payment.failed"
PAYMENT_REQUIRES_ACTION: Final = "payment.requires_action"
PAYMENT_UNKNOWN: Final = "payment.unknown"
PAYMENT_CANCELED: Final = "payment.canceled"
RETRY_REQUIRED: Final = "payments.retry_required"
FINAL_STEP_REQUIRED: Final = "payments.final_step_required"

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
