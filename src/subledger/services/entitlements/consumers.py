"""What the entitlements hear."""

from __future__ import annotations

from subledger.contracts.events import (
    CUSTOMER_CREATED,
    CUSTOMER_DELETED,
    CUSTOMER_UPDATED,
    PRODUCT_CREATED,
    PRODUCT_UPDATED,
    SUBSCRIPTION_ACTIVATED,
    SUBSCRIPTION_CANCELED,
    SUBSCRIPTION_CHANGED,
    SUBSCRIPTION_PAST_DUE,
    SUBSCRIPTION_PAUSED,
    SUBSCRIPTION_REACTIVATED,
    SUBSCRIPTION_RENEWED,
    SUBSCRIPTION_RESUMED,
    SUBSCRIPTION_TRIAL_ENDED,
    SUBSCRIPTION_TRIAL_STARTED,
)
from subledger.platform.eventlog.consumer import Group
from subledger.services.entitlements.store import GROUP_NAME
from subledger.services.entitlements.usecases.grant import (
    change,
    end_trials,
    grant,
    revoke,
)
from subledger.services.entitlements.usecases.know import know_customers, know_products

GROUP = Group(
    name=GROUP_NAME,
    schema="entitlements",
    handlers={
        CUSTOMER_CREATED: know_customers,
        CUSTOMER_UPDATED: know_customers,
        CUSTOMER_DELETED: know_customers,
        PRODUCT_CREATED: know_products,
        PRODUCT_UPDATED: know_products,
        SUBSCRIPTION_TRIAL_STARTED: grant,
        SUBSCRIPTION_TRIAL_ENDED: end_trials,
        SUBSCRIPTION_ACTIVATED: grant,
        SUBSCRIPTION_RENEWED: grant,
        SUBSCRIPTION_PAST_DUE: grant,
        SUBSCRIPTION_RESUMED: grant,
        SUBSCRIPTION_REACTIVATED: grant,
        SUBSCRIPTION_CHANGED: change,
        SUBSCRIPTION_PAUSED: revoke,
        SUBSCRIPTION_CANCELED: revoke,
    },
)
"""No lock of its own: handlers lock or upsert the grants of a batch, sorted, in one statement."""
