"""What billing refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import declare

INVOICE_NOT_OPEN = declare(
    "invoice_not_open",
    status=409,
    title="The invoice is not open",
    fix="Read the invoice: only an open invoice can be paid, voided or written off.",
)
INVOICE_RESERVED = declare(
    "invoice_reserved",
    status=409,
    title="A payment of the invoice is under way",
    fix="Wait for the payment's outcome, or cancel it by POST /v1/payments/{id}/cancel.",
)
SUBSCRIPTION_ENDED = declare(
    "subscription_ended",
    status=409,
    title="The subscription has ended",
    fix="Create a new subscription.",
)
NOT_SCHEDULED = declare(
    "cancellation_not_scheduled",
    status=409,
    title="No cancellation is scheduled",
    fix="Read the subscription: only one with cancel_at can be kept.",
)
PRICE_MISSING = declare(
    "price_missing_for_currency",
    status=422,
    title="The plan is not sold in this currency",
    fix="Add a price in the currency in a new version of the plan, or choose another currency.",
)
CURRENCY_MISMATCH = declare(
    "currency_mismatch",
    status=422,
    title="The customer is billed in another currency",
    fix="Leave out currency, or use the customer's own.",
)
DISCOUNT_NOT_APPLICABLE = declare(
    "discount_not_applicable",
    status=422,
    title="The discount does not fit the subscription",
    fix="Use a percentage, or a fixed discount in the subscription's currency, each only once.",
)
UNKNOWN_REFERENCE = declare(
    "unknown_reference",
    status=422,
    title="The body names something that does not exist",
    fix="Check the id at the pointer; it must belong to this tenant.",
)
