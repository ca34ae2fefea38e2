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
TOO_LARGE = declare(
    "webhook_too_large",
    status=413,
    title="The notification is too large",
    fix="Send at most 256 KiB.",
)
