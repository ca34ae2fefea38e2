"""What payments refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import declare

NOT_COLLECTABLE = declare(
    "invoice_not_collectable",
    status=409,
    title="The invoice cannot be paid now",
    fix="Read the invoice: only an open one that is due can be paid.",
)
ALREADY_RESERVED = declare(
    "invoice_already_reserved",
    status=409,
    title="Another payment of the invoice is under way",
    fix="Wait for its outcome, or cancel it by POST /v1/payments/{id}/cancel.",
)
NOT_CANCELABLE = declare(
    "payment_not_cancelable",
    status=409,
    title="The payment cannot be canceled",
    fix="Only a payment that waits for its payer can be canceled; read it again for its outcome.",
)
NO_CONNECTION = declare(
    "no_provider_connection",
    status=409,
    title="The tenant has no payment provider",
    fix="Use a sandbox tenant (sk_test_ key): this release knows the sandbox provider only.",
)
CUSTOMER_NOT_READY = declare(
    "customer_not_ready",
    status=409,
    title="The customer has not reached payments yet",
    fix="Send the same request again in a moment, with the same idempotency key.",
)
METHOD_NOT_ACTIVE = declare(
    "payment_method_not_active",
    status=409,
    title="The payment method cannot be charged",
    fix="Use one of the customer's active methods: GET /v1/payment-methods?customer_id=…",
)
