"""What billing refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import declare

INVOICE_NOT_OPEN = declare(
    "invoice_not_open",
    status=409,
    title="The invoice is not open",
    fix="Read the invoice: only an open invoice can be paid, voided or written off, and one that"
    " was written off can be paid.",
)
INVOICE_RESERVED = declare(
    "invoice_reserved",
    status=409,
    title="A payment of the invoice is under way",
    fix="Wait for the payment's outcome, or cancel it by POST /v1/payments/{id}/cancel.",
)
INVOICE_STILL_OPEN = declare(
    "invoice_still_open",
    status=409,
    title="An invoice of the subscription is not paid",
    fix="Have it paid or voided first, or settle on the next invoice.",
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
SUBSCRIPTION_NOT_ACTIVE = declare(
    "subscription_not_active",
    status=409,
    title="The subscription is not active yet",
    fix="Have its first invoice paid, then change it.",
)
NOTHING_TO_CHANGE = declare(
    "nothing_to_change",
    status=422,
    title="Nothing would change",
    fix="Name another plan, a newer version of it, or another quantity.",
)
CHANGE_OUT_OF_RANGE = declare(
    "change_out_of_range",
    status=422,
    title="The change cannot take effect at this moment",
    fix="Choose a moment after the subscription's start and its latest change, and before its end.",
)
CHANGE_NOT_SCHEDULED = declare(
    "change_not_scheduled",
    status=409,
    title="No change is scheduled",
    fix="Read the subscription: only one with scheduled_change can forget it.",
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
EXTERNAL_ID_TAKEN = declare(
    "external_id_taken",
    status=409,
    title="Another customer has this external id",
    fix="Find that customer by GET /v1/customers?external_id=…, or use another external id."
    " The external id of a deleted customer stays taken.",
)
CODE_TAKEN = declare(
    "code_taken",
    status=409,
    title="Another object of this kind has this code",
    fix="Use another code, or read the existing object by ?code=….",
)
CUSTOMER_IN_USE = declare(
    "customer_in_use",
    status=409,
    title="The customer has live subscriptions",
    fix="Cancel the subscriptions that the customer pays for or uses, then delete the customer.",
)
CURRENCY_IN_USE = declare(
    "currency_in_use",
    status=409,
    title="The customer was billed in the present currency",
    fix="Create another customer for the other currency.",
)
MIXED_INTERVALS = declare(
    "mixed_intervals",
    status=422,
    title="Prices of one currency have different intervals",
    fix="Give all prices of a currency the same interval, or make a plan for each interval.",
)
DUPLICATE_PRICE = declare(
    "duplicate_price",
    status=422,
    title="Two prices have the same code and currency",
    fix="Give each price of a currency a code of its own.",
)
WORK_ITEM_CLOSED = declare(
    "work_item_closed",
    status=409,
    title="The work item is closed already",
    fix="Read the work item to see who closed it and why.",
)
REVENUE_POLICY_CHANGED_OFTEN = declare(
    "revenue_policy_changed_often",
    status=409,
    title="The revenue policy was changed too often",
    fix="Keep the present policy; ask the operator if it has to change again.",
)
