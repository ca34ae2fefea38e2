"""What billing refuses, by code."""

from __future__ import annotations

from subledger.platform.http.problems import UNKNOWN_REFERENCE as _UNKNOWN_REFERENCE
from subledger.platform.http.problems import declare

UNKNOWN_REFERENCE = _UNKNOWN_REFERENCE

INVOICE_NOT_OPEN = declare(
    "invoice_not_open",
    status=409,
    title="The invoice is not open",
    fix="Read the invoice: only an open invoice can be paid, voided or written off, and one that"
    " was written off can be paid.",
)
INVOICE_NOT_DRAFT = declare(
    "invoice_not_draft",
    status=409,
    title="The invoice is no draft",
    fix="Read the invoice: only a draft can be finalized.",
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
    fix="Create a new subscription, or reactivate this one by POST …/reactivate.",
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
    title="Prices of one currency have intervals that do not fit",
    fix="Give every price a whole multiple of the shortest interval, or make a plan for each.",
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
START_OUT_OF_RANGE = declare(
    "start_out_of_range",
    status=422,
    title="The subscription cannot start at this moment",
    fix="Choose a start at most two years and 50 periods ago, and at most five years ahead.",
)
PAYMENT_METHOD_REQUIRED = declare(
    "payment_method_required",
    status=422,
    title="The trial needs a payment method",
    fix="Save one by POST /v1/payment-methods first, or buy without a trial by trial_days 0.",
)
ANCHOR_DOES_NOT_FIT = declare(
    "billing_anchor_does_not_fit",
    status=422,
    title="The billing anchor does not fit the new interval",
    fix="Give a billing_anchor with the change: months take a day from 1 to 31, weeks one from 1"
    " to 7.",
)

TAX_ID_INVALID = declare(
    "tax_id_invalid",
    status=422,
    title="The VAT id is not valid",
    fix="Give the id as its owner's invoices show it, with the prefix of the customer's own"
    " country: DE136695976, EL094259216. Only VAT ids of EU members and of Northern Ireland are"
    " taken.",
)
TAX_RATE_MISSING = declare(
    "tax_rate_missing",
    status=422,
    title="No tax rate holds where the customer is",
    fix="Add a rule for the customer's country by POST /v1/tax-rules.",
)
TAX_LOCATION_MISSING = declare(
    "tax_location_missing",
    status=422,
    title="The customer's country is not known",
    fix="Give the customer a country by PATCH /v1/customers/{id}.",
)
TAX_UNAVAILABLE = declare(
    "tax_unavailable",
    status=503,
    title="The tax provider gives no answer",
    fix="Send the same request again in a moment; or choose the provider builtin by"
    " PUT /v1/tax-settings.",
)
TAX_RULES_OVERLAP = declare(
    "tax_rules_overlap",
    status=409,
    title="Another rule covers the same at the same time",
    fix="End the rule named by tax_rule_id on the day from which the new one holds, by"
    " POST /v1/tax-rules/{id}/end.",
)
TAX_SETTINGS_MISSING = declare(
    "tax_settings_missing",
    status=409,
    title="Nothing is known about the seller's taxes",
    fix="Say who sells by PUT /v1/tax-settings.",
)
TOO_MANY_TAX_RATES = declare(
    "too_many_tax_rates",
    status=409,
    title="The tenant has as many tax rates or rules as it can have",
    fix="Use the rates that exist; rules for every county of a large country are a tax"
    " provider's work.",
)
PLAN_MIGRATION_OPEN = declare(
    "plan_migration_open",
    status=409,
    title="The plan is being migrated already",
    fix="Wait until the migration named in the detail is finished, or cancel it.",
)
PLAN_MIGRATION_STATUS = declare(
    "plan_migration_status",
    status=409,
    title="The migration's status does not allow this",
    fix="Read the migration: one that runs can be paused or canceled, one that is paused resumed or"
    " canceled.",
)
REVENUE_POLICY_CHANGED_OFTEN = declare(
    "revenue_policy_changed_often",
    status=409,
    title="The revenue policy was changed too often",
    fix="Keep the present policy; ask the operator if it has to change again.",
)

PROMOTION_CODE_REFUSED = declare(
    "promotion_code_refused",
    status=422,
    title="The promo code may not be used",
    fix="Read reason, and use another code or none; POST /v1/promotion-codes/check tells beforehand"
    " whether a code works.",
)
TOO_MANY_SUBSCRIPTIONS = declare(
    "too_many_subscriptions",
    status=409,
    title="The customer has more live subscriptions than one request changes",
    fix="Attach the discount to each subscription by POST /v1/subscriptions/{id}/discounts.",
)

INVOICE_NOT_CREDITABLE = declare(
    "invoice_not_creditable",
    status=409,
    title="The invoice cannot be credited",
    fix="Credit an open or paid invoice; what was written off is paid first.",
)
CREDIT_EXCEEDS_LINE = declare(
    "credit_exceeds_line",
    status=422,
    title="More is to be credited than is left",
    fix="Credit at most left_minor; earlier credit notes and later invoices count.",
)
NOTHING_TO_CREDIT = declare(
    "nothing_to_credit",
    status=409,
    title="Nothing of the invoice is left to credit",
    fix="Read its credit notes by GET /v1/credit-notes?invoice_id=….",
)
REFUND_UNAVAILABLE = declare(
    "refund_unavailable",
    status=422,
    title="A credit note alone sends no money back",
    fix="Refund the payment by POST /v1/payments/{id}/refunds, which issues the credit note; or"
    " leave out settlement: what was paid becomes credit that pays for later invoices.",
)
CREDIT_NOTE_VOID = declare(
    "credit_note_void",
    status=409,
    title="The credit note is void already",
    fix="Read the credit note; issue a new one.",
)
CREDIT_NOTE_USED = declare(
    "credit_note_used",
    status=409,
    title="The credit note has done its work",
    fix="A note can be voided while its invoice is open and its credit unused; take credit back by"
    " POST /v1/adjustments.",
)
INVOICE_CREDITED = declare(
    "invoice_credited",
    status=409,
    title="A part of the invoice was given back",
    fix="Void what gave it back first, a credit note or a later invoice; or credit the rest by"
    " POST /v1/credit-notes.",
)
INVOICE_SETTLES_CYCLE = declare(
    "invoice_settles_cycle",
    status=409,
    title="The invoice gives back what an ended cycle was paid",
    fix="Credit what is owed of it by POST /v1/credit-notes: what it gives back stays given.",
)
CREDIT_INSUFFICIENT = declare(
    "credit_insufficient",
    status=409,
    title="The customer has less credit",
    fix="Take back at most the customer's credit (GET /v1/customers/{id}/balance).",
)
INVOICE_NOT_REISSUABLE = declare(
    "invoice_not_reissuable",
    status=409,
    title="The invoice cannot be made anew",
    fix="Void it, or credit it and change the subscription.",
)
CANCELLATION_OUT_OF_RANGE = declare(
    "cancellation_out_of_range",
    status=422,
    title="The subscription cannot end at this moment",
    fix="Choose a moment from now to ten years ahead, or cancel now or at the period's end.",
)
SUBSCRIPTION_PAUSED = declare(
    "subscription_paused",
    status=409,
    title="The subscription is paused",
    fix="Resume it first by POST /v1/subscriptions/{id}/resume.",
)
SUBSCRIPTION_NOT_PAUSED = declare(
    "subscription_not_paused",
    status=409,
    title="The subscription is not paused",
    fix="Read the subscription: only a paused one can go on; a pause that waits is forgotten by"
    " POST /v1/subscriptions/{id}/undo-pause.",
)
PAUSE_NOT_SCHEDULED = declare(
    "pause_not_scheduled",
    status=409,
    title="No pause is scheduled",
    fix="Read the subscription: only a pause that has not begun can be forgotten. One that runs is"
    " ended by POST /v1/subscriptions/{id}/resume.",
)
PAUSE_OUT_OF_RANGE = declare(
    "pause_out_of_range",
    status=422,
    title="The subscription cannot be paused or go on at this moment",
    fix="Choose moments from now to ten years ahead, the resumption after the pause, and both"
    " before the subscription's end.",
)
RENEWAL_UNDER_WAY = declare(
    "renewal_under_way",
    status=409,
    title="The subscription is being renewed",
    fix="Send the same request again in a moment.",
)
SUBSCRIPTION_NOT_ENDED = declare(
    "subscription_not_ended",
    status=409,
    title="The subscription has not ended",
    fix="Keep it by POST /v1/subscriptions/{id}/undo-cancel if it is to end, or resume it by"
    " POST /v1/subscriptions/{id}/resume if it is paused.",
)
CUSTOMER_DELETED = declare(
    "customer_deleted",
    status=409,
    title="The customer was deleted",
    fix="Create another customer, and a subscription for it.",
)

# --- the guard against mass mistakes ------------------------------------------------------------

BILLING_LIMIT_EXCEEDED = declare(
    "billing_limit_exceeded",
    status=422,
    title="The invoice is above the tenant's largest",
    fix="Check price and quantity. If they are right, raise largest_minor by"
    " PUT /v1/billing-limits, then ask again.",
)
PARK_RELEASED = declare(
    "billing_park_released",
    status=409,
    title="The park was released already",
    fix="Read the park to see who released it and why.",
)
SUBSCRIPTION_NOT_PARKED = declare(
    "subscription_not_parked",
    status=409,
    title="Billing does not wait for a person here",
    fix="Read the subscription: only one with parked_reason can be released. A whole job is"
    " released by POST /v1/billing-parks/{id}/release.",
)
WORK_ITEM_NOT_REPAIRABLE = declare(
    "work_item_not_repairable",
    status=409,
    title="The work item cannot be repaired so",
    fix="Use an action of its kind, with what it needs; decide other kinds by hand and close them.",
)
REPAIR_UNSURE = declare(
    "repair_unsure",
    status=409,
    title="The provider does not say what is true",
    fix="Repair again later, or, where you know it for sure, say succeeded or failed with your"
    " reference.",
)
