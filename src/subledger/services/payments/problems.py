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
    fix="A payment can be canceled before the provider is asked and while its page is open; read it"
    " again for its outcome.",
)
NOT_CAPTURABLE = declare(
    "payment_not_capturable",
    status=409,
    title="The payment cannot be captured",
    fix="Only a payment that is authorized (capture_method: manual) can be captured, once; read it"
    " again for its outcome.",
)
CAPTURE_EXCEEDS = declare(
    "capture_exceeds_authorization",
    status=409,
    title="More is to be captured than was authorized",
    fix="Capture at most the payment's authorization.amount_minor.",
)
TWO_STAGE = declare(
    "two_stage_unavailable",
    status=409,
    title="The payment's provider cannot authorize first and capture later",
    fix="Leave out capture_method, or name a method of a connection whose capabilities say"
    " two_stage.",
)
NOT_REVERSIBLE = declare(
    "payment_not_reversible",
    status=409,
    title="The payment cannot be reversed",
    fix="Only a payment that was recorded off-line can be reversed, once; refund any other.",
)
NOT_REFUNDABLE = declare(
    "payment_not_refundable",
    status=409,
    title="The payment cannot be refunded",
    fix="Only a payment that succeeded has money to give back; read it again for its outcome.",
)
REFUND_EXCEEDS = declare(
    "refund_exceeds_payment",
    status=409,
    title="More is to be refunded than is left",
    fix="Refund at most left_minor; POST /v1/payments/{id}/refund-preview shows what is left, and"
    " of which source.",
)
DISPUTED = declare(
    "payment_disputed",
    status=409,
    title="The money is under dispute, or was lost to one",
    fix="Refund at most left_minor. Money under dispute can be refunded once the dispute is won:"
    " GET /v1/disputes?payment_id=… tells; what was lost went back already.",
)
PARTIAL_REFUND = declare(
    "partial_refund_unavailable",
    status=409,
    title="The payment's provider gives back all or nothing",
    fix="Leave out amount_minor to refund the whole payment, or refund the part to credit.",
)
REFUND_NOT_READY = declare(
    "refund_not_ready",
    status=409,
    title="The payment has not reached billing yet",
    fix="Ask again in a moment.",
)
NO_CONNECTION = declare(
    "no_provider_connection",
    status=409,
    title="The tenant has no payment provider",
    fix="Connect one by POST /v1/connections, or use a sandbox tenant (sk_test_ key).",
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
TOO_MANY_CONNECTIONS = declare(
    "too_many_connections",
    status=409,
    title="The tenant has too many connections",
    fix="Close one that is not needed any more: POST /v1/connections/{id}/close.",
)
CONNECTION_CLOSED = declare(
    "connection_closed",
    status=409,
    title="The connection is closed",
    fix="Create another connection: POST /v1/connections.",
)
CONNECTION_OPENS_ITSELF = declare(
    "connection_opens_itself",
    status=409,
    title="The connection belongs to the sandbox",
    fix="Create a connection of your own and make it the default for its currencies.",
)
CREDENTIALS_SEALED = declare(
    "credentials_sealed",
    status=409,
    title="The connection's credentials cannot be opened",
    fix="Add the key that encrypted them to SUBLEDGER_ENCRYPTION_KEYS again, or connect anew.",
)
MANDATE_SEALED = declare(
    "mandate_sealed",
    status=409,
    title="The payer's agreement cannot be opened",
    fix="Add the key that encrypted it to SUBLEDGER_ENCRYPTION_KEYS again, then run subledger"
    " reseal.",
)
UNKNOWN_PROVIDER = declare(
    "unknown_provider",
    status=422,
    title="The provider cannot be connected here",
    fix="Use one of the providers that the detail names.",
)
CURRENCY_NOT_TAKEN = declare(
    "currency_not_taken",
    status=422,
    title="No connection takes the currency",
    fix="Connect a provider that takes it, or add it to currencies by PATCH /v1/connections/{id}.",
)
