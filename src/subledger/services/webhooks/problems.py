"""What webhooks refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import declare

REJECTED = declare(
    "webhook_rejected",
    status=401,
    title="The notification is not signed by the provider",
    fix="Sign the raw body with the endpoint's secret and the current time.",
)
UNREADABLE = declare(
    "webhook_unreadable",
    status=400,
    title="The notification cannot be read",
    fix="Send the provider's notification unchanged.",
)
SEALED = declare(
    "webhook_sealed",
    status=409,
    title="The notification's body cannot be opened",
    fix="Add the key that encrypted it to SUBLEDGER_ENCRYPTION_KEYS again.",
)
TOO_LARGE = declare(
    "webhook_too_large",
    status=413,
    title="The notification is too large",
    fix="Send at most 256 KiB.",
)
