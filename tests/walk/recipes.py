"""What each operation is asked with on the walk."""

from __future__ import annotations

from typing import Any

ACCESS = "/v1/access/{customer}/{resource}"

_PRICE = {
    "code": "walk", "currency": "EUR", "model": "flat", "amount_minor": 100,
    "interval": {"unit": "month", "count": 1},
}  # fmt: skip
_DUNNING = {
    "delays_s": [86400], "final_action": "downgrade", "hard_decline_stops": True,
    "downgrade_to_plan_id": "{plan}",
}  # fmt: skip
_NAMED = _DUNNING | {"segment": {"plan_ids": ["{plan}"], "product_ids": ["{prod}"]}}
BODIES: dict[tuple[str, str], Any] = {
    ("post", "/v1/sandboxes"): {"name": "Walk", "clock_at": "2026-03-01T00:00:00Z"},
    ("post", "/v1/api-keys"): {"name": "Walk", "role": "read"},
    ("post", "/v1/clock-moves"): {"to_at": "2026-02-02T00:00:01Z"},
    ("post", "/v1/customers"): {
        "name": "Walk", "email": "walk@example.com", "currency": "EUR", "timezone": "UTC",
        "tax_rate_ids": ["{txr}"],
    },
    ("patch", "/v1/customers/{customer_id}"): {
        "name": "Walked over", "tax_rate_ids": ["{txr}"],
    },
    ("post", "/v1/products"): {"code": "walk", "name": "Walk", "resources": ["walk"]},
    ("patch", "/v1/products/{product_id}"): {"name": "Walked over"},
    ("post", "/v1/plans"): {
        "code": "walk", "name": "Walk", "product_id": "{prod}", "prices": [_PRICE],
    },
    ("post", "/v1/plans/{plan_id}/versions"): {"prices": [_PRICE]},
    ("post", "/v1/plans/{plan_id}/preview-change"): {"to_plan_id": "{plan}", "prices": [_PRICE]},
    ("post", "/v1/plan-migrations"): {"plan_id": "{plan}", "to_plan_id": "{plan}"},
    ("post", "/v1/discounts"): {
        "code": "walk", "name": "Walk", "percent": "5", "duration": "once",
    },
    ("put", "/v1/discount-settings"): {
        "order": "percent_first", "exclusive": "best", "split": "each",
    },
    ("post", "/v1/promotion-codes"): {
        "code": "walk", "discount_id": "{disc}", "customer_id": "{cus}", "plan_ids": ["{plan}"],
    },
    ("post", "/v1/promotion-codes/bulk"): {
        "n": 2, "discount_id": "{disc}", "customer_id": "{cus}", "plan_ids": ["{plan}"],
    },
    ("post", "/v1/promotion-codes/check"): {
        "code": "walk", "customer_id": "{cus}", "plan_id": "{plan}",
    },
    ("post", "/v1/subscriptions/{subscription_id}/discounts"): {"discount_id": "{disc}"},
    ("post", "/v1/customers/{customer_id}/discounts"): {"discount_id": "{disc}"},
    ("post", "/v1/subscriptions"): {
        "customer_id": "{cus}", "beneficiary_id": "{cus}", "plan_id": "{plan}",
        "discount_ids": ["{disc}"], "payment_method_id": "{pm}",
    },
    ("post", "/v1/subscriptions/preview"): {
        "customer_id": "{cus}", "beneficiary_id": "{cus}", "plan_id": "{plan}",
        "discount_ids": ["{disc}"], "payment_method_id": "{pm}",
    },
    ("post", "/v1/subscriptions/{subscription_id}/change-anchor"): {
        "billing_anchor": {"kind": "calendar"},
    },
    ("post", "/v1/subscriptions/{subscription_id}/cancel"): {"when": "period_end"},
    ("post", "/v1/subscriptions/{subscription_id}/pause"): {"at": "now", "credit": "extend"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-pause"): {"at": "now", "credit": "none"},
    ("post", "/v1/subscriptions/{subscription_id}/resume"): {"at": "now"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-resume"): {"at": "now"},
    ("post", "/v1/subscriptions/{subscription_id}/reactivate"): {"version": "newest"},
    ("post", "/v1/subscriptions/{subscription_id}/change"): {"plan_id": "{plan}", "quantity": "2"},
    ("post", "/v1/subscriptions/{subscription_id}/preview-change"): {
        "plan_id": "{plan}", "quantity": "2",
    },
    ("post", "/v1/invoices/{invoice_id}/void"): {"reason": "walk"},
    ("post", "/v1/invoices/{invoice_id}/reissue"): {"reason": "walk"},
    ("post", "/v1/credit-notes"): {"invoice_id": "{inv}", "reason": "other"},
    ("post", "/v1/credit-notes/preview"): {"invoice_id": "{inv}", "reason": "other"},
    ("post", "/v1/credit-notes/{credit_note_id}/void"): {"reason": "walk"},
    ("post", "/v1/adjustments"): {
        "customer_id": "{cus}", "direction": "credit", "amount_minor": 5, "currency": "EUR",
        "reason": "walk",
    },
    ("post", "/v1/work-items/{work_item_id}/close"): {"reason": "walk"},
    ("post", "/v1/payment-methods"): {"customer_id": "{cus}", "test_kind": "visa_ok"},
    ("post", "/v1/customers/{customer_id}/payment-method-setups"): {"make_default": False},
    ("post", "/v1/payments/{payment_id}/refund-preview"): {"amount_minor": 1},
    ("post", "/v1/payments/{payment_id}/refunds"): {"amount_minor": 1},
    ("post", "/v1/payments"): {"invoice_id": "{inv}", "payment_method_id": "{pm}"},
    ("post", "/v1/customers/{customer_id}/payments"): {
        "amount_minor": 5, "currency": "EUR", "payment_method_id": "{pm}",
    },
    ("post", "/v1/offline-payments"): {
        "invoice_id": "{inv}", "customer_id": "{cus}", "amount_minor": 1, "currency": "EUR",
        "method": "cash",
    },
    ("post", "/v1/payments/{payment_id}/reverse"): {"reason": "walk"},
    ("post", "/v1/payments/{payment_id}/capture"): {"amount_minor": 1},
    ("post", "/v1/payment-links"): {"invoice_id": "{inv}"},
    ("post", "/v1/connections"): {
        "provider": "sandbox", "name": "Walk", "credentials": {"api_key": "sbk_walk"},
    },
    ("patch", "/v1/connections/{connection_id}"): {"name": "Walked over"},
    ("post", "/v1/connections/{connection_id}/reconcile"): {"since": "2026-01-01T00:00:00Z"},
    ("put", "/v1/connections/{connection_id}/reconciliation"): {"daily": False},
    ("post", "/v1/work-items/{work_item_id}/repair"): {
        "action": "assign", "customer_id": "{cus}",
    },
    ("post", "/v1/received-webhooks/replay"): {
        "connection_id": "{conn}", "from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z",
    },
    ("put", "/v1/invoice-settings"): {"draft_s": 0},
    ("put", "/v1/subscriptions/{subscription_id}/quantities"): {
        "price_id": "{price}", "quantity": "1",
    },
    ("post", "/v1/subscriptions/{subscription_id}/charges"): {"price_id": "{price}"},
    ("put", "/v1/customers/{customer_id}/prices/{price_id}"): {
        "model": "flat", "amount_minor": 999,
    },
    ("put", "/v1/customers/{customer_id}/invoice-terms"): {"net_days": 0},
    ("put", "/v1/dunning-policy"): _DUNNING,
    ("post", "/v1/dunning-policies"): _NAMED | {"name": "walk"},
    ("put", "/v1/dunning-policies/{policy_id}"): _NAMED | {"name": "walked"},
    ("put", "/v1/customers/{customer_id}/payment-methods/order"): {
        "payment_method_ids": ["{pm}"],
    },
    ("put", "/v1/billing-limits"): {
        "limits": [{"currency": "EUR", "total_minor": 1}], "reason": "walk",
    },
    ("post", "/v1/billing-parks/{park_id}/release"): {"reason": "walk"},
    ("put", "/v1/payment-settings"): {"return_origins": ["https://walk.example"]},
    ("put", "/v1/kill-switches/{job}"): {"on": False, "reason": "walk"},
    ("post", "/v1/subscriptions/{subscription_id}/release"): {"reason": "walk"},
    ("put", "/v1/tax-settings"): {"country": "US", "region": "NY"},
    ("post", "/v1/tax-rates"): {
        "code": "walk", "name": "Walk", "percent": "5", "country": "FR",
    },
    ("post", "/v1/tax-rules"): {"tax_rate_id": "{txr}"},
    ("post", "/v1/tax-rules/{tax_rule_id}/end"): {"until_on": "2026-12-31"},
    ("post", "/v1/tax-preview"): {
        "customer_id": "{cus}", "lines": [{"amount_minor": 100, "product_id": "{prod}"}],
    },
    ("put", "/v1/dispute-policy"): {"on_dispute": "keep"},
    ("put", "/v1/refund-policy"): {"on_outside_refund": "keep"},
    ("put", "/v1/revenue-policy"): {"mode": "day", "timezone": "UTC"},
}  # fmt: skip
"""A body for each operation that takes one; ``{prefix}`` stands for our own object."""
QUERIES: dict[str, Any] = {
    "/v1/revenue-schedule": {"invoice_id": "{inv}"},
    "/v1/revenue": {"from": "2026-01", "to": "2026-12"},
}
"""What a GET has to be asked for."""
BARE = {
    "get": {
        "/v1/tenant", "/v1/sandboxes", "/v1/api-keys", "/v1/api-keys/{api_key_id}", "/v1/clock",
        "/v1/clock-moves", "/v1/clock-moves/{clock_move_id}", "/v1/customers",
        "/v1/customers/{customer_id}", "/v1/customers/{customer_id}/balance",
        "/v1/customers/{customer_id}/statement", "/v1/products", "/v1/products/{product_id}",
        "/v1/plans", "/v1/plans/{plan_id}", "/v1/plans/{plan_id}/versions", "/v1/discounts",
        "/v1/discounts/{discount_id}", "/v1/discount-settings", "/v1/promotion-codes",
        "/v1/promotion-codes/{promotion_code_id}",
        "/v1/promotion-codes/{promotion_code_id}/redemptions",
        "/v1/subscriptions/{subscription_id}/discounts", "/v1/customers/{customer_id}/discounts",
        "/v1/subscriptions", "/v1/subscriptions/{subscription_id}",
        "/v1/subscriptions/{subscription_id}/upcoming-invoice", "/v1/invoices",
        "/v1/invoices/{invoice_id}", "/v1/invoices/{invoice_id}/explain",
        "/v1/ledger/trial-balance", "/v1/work-items", "/v1/work-items/{work_item_id}",
        "/v1/events", "/v1/payment-methods", "/v1/payment-methods/{method_id}", "/v1/payments",
        "/v1/payment-methods/{method_id}/mandate",
        "/v1/payments/{payment_id}", "/v1/payments/{payment_id}/refunds", "/v1/refunds/{refund_id}",
        "/v1/dunning-policy", ACCESS, "/v1/billing-forecast",
        "/v1/billing-limits", "/v1/billing-parks", "/v1/billing-parks/{park_id}",
        "/v1/kill-switches", "/v1/billing-guard-changes", "/v1/invoice-settings",
        "/v1/subscriptions/{subscription_id}/quantities", "/v1/customers/{customer_id}/prices",
        "/v1/revenue-policy", "/v1/revenue-schedule", "/v1/revenue",
        "/v1/customers/{customer_id}/invoice-terms", "/v1/tax-settings",
        "/v1/tax-rates", "/v1/tax-rates/{tax_rate_id}", "/v1/tax-rules",
        "/v1/tax-rules/{tax_rule_id}",
        "/v1/plan-migrations", "/v1/plan-migrations/{migration_id}",
        "/v1/plan-migrations/{migration_id}/results", "/v1/credit-notes",
        "/v1/credit-notes/{credit_note_id}", "/v1/credit-notes/{credit_note_id}/explain",
        "/v1/adjustments", "/v1/adjustments/{adjustment_id}", "/v1/dunning-policies",
        "/v1/dunning-policies/{policy_id}", "/v1/subscriptions/{subscription_id}/dunning",
        "/v1/customers/{customer_id}/payment-methods/order",
        "/v1/disputes", "/v1/disputes/{dispute_id}", "/v1/dispute-policy", "/v1/refund-policy",
        "/v1/connections", "/v1/connections/{connection_id}", "/v1/received-webhooks",
        "/v1/reconciliations", "/v1/reconciliations/{reconciliation_id}", "/v1/payouts",
        "/v1/received-webhooks/{received_id}", "/v1/payment-settings",
        "/v1/payments/{payment_id}/history", "/v1/payment-links",
        "/v1/payment-links/{payment_link_id}",
    },
    "post": {
        "/v1/connections/{connection_id}/check", "/v1/connections/{connection_id}/close",
        "/v1/connections/{connection_id}/replace-webhook-url",
        "/v1/payment-links/{payment_link_id}/revoke",
        "/v1/customers/{customer_id}/apply-unapplied",
        "/v1/received-webhooks/{received_id}/replay",
        "/v1/subscriptions/{subscription_id}/undo-cancel",
        "/v1/subscriptions/{subscription_id}/undo-change",
        "/v1/subscriptions/{subscription_id}/undo-pause",
        "/v1/invoices/{invoice_id}/finalize",
        "/v1/payment-methods/{method_id}/default", "/v1/payments/{payment_id}/cancel",
        "/v1/plan-migrations/{migration_id}/pause", "/v1/plan-migrations/{migration_id}/resume",
        "/v1/plan-migrations/{migration_id}/cancel",
        "/v1/discounts/{discount_id}/archive",
        "/v1/promotion-codes/{promotion_code_id}/deactivate",
    },
    "delete": {
        "/v1/api-keys/{api_key_id}", "/v1/customers/{customer_id}",
        "/v1/payment-methods/{method_id}",
        "/v1/subscriptions/{subscription_id}/discounts/{discount_id}",
        "/v1/customers/{customer_id}/discounts/{discount_id}", "/v1/dunning-policies/{policy_id}",
    },
}  # fmt: skip
"""Operations without a body."""
KNOWN = {*BODIES, *((method, path) for method, paths in BARE.items() for path in paths)}
