"""What billing's events say: payloads in the public form (TypeID text, integers, ISO 8601)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.services.billing.terms import PlanTerms


def moment(value: datetime | None) -> str | None:
    """UTC, ISO 8601."""
    return None if value is None else value.isoformat()


def subscription(
    row: Row[Any] | Mapping[str, Any], terms: PlanTerms, **changed: Any
) -> dict[str, Any]:
    """The fields of ``subscription.*``; ``changed`` replaces columns of the row."""
    values = {**(row if isinstance(row, Mapping) else row._mapping), **changed}
    return {
        "subscription_id": ids.text("sub", values["id"]),
        "customer_id": ids.text("cus", values["payer_id"]),
        "beneficiary_id": ids.text("cus", values["beneficiary_id"]),
        "plan_id": ids.text("plan", terms.plan_id),
        "plan_version_id": ids.text("plv", terms.plan_version_id),
        "product_id": ids.text("prod", terms.product_id),
        "status": values["status"],
        "quantity": quantity_text(values["quantity"]),
        "currency": values["currency"],
        "current_period_start_at": moment(values["current_period_start_at"]),
        "current_period_end_at": moment(values["current_period_end_at"]),
        "cancel_at": moment(values.get("cancel_at")),
        "trial_end_at": moment(values.get("trial_end_at")),
    }


def invoice(
    row: Row[Any] | Mapping[str, Any], subscription_ids: Sequence[UUID], **changed: Any
) -> dict[str, Any]:
    """The fields of ``invoice.*``."""
    values = {**(row if isinstance(row, Mapping) else row._mapping), **changed}
    return {
        "invoice_id": ids.text("inv", values["id"]),
        "number": number_text(values["series"], values["number"]),
        "customer_id": ids.text("cus", values["account_id"]),
        "currency": values["currency"],
        "subtotal_minor": values["subtotal_minor"],
        "discount_minor": values["discount_minor"],
        "tax_minor": values["tax_minor"],
        "tax_included_minor": values["tax_included_minor"],
        "total_minor": values["total_minor"],
        "credited_minor": values["credited_minor"],
        "credit_applied_minor": values["credit_applied_minor"],
        "noted_minor": values.get("noted_minor", 0),
        "offset_minor": values.get("offset_minor", 0),
        "status": values["status"],
        "due_at": moment(values["due_at"]),
        "reason": values["reason"],
        "subscription_ids": [ids.text("sub", each) for each in subscription_ids],
    }


def part_paid(
    row: Row[Any],
    subscription_ids: Sequence[UUID],
    *,
    amount_minor: int,
    open_minor: int,
    payment_id: str | None,
) -> dict[str, Any]:
    """The fields of ``invoice.partially_paid``: those of the invoice, what this part was and what
    is open after it, and which payment paid (null: money that was in the customer's account)."""
    return invoice(row, subscription_ids) | {
        "amount_minor": amount_minor,
        "open_minor": open_minor,
        "payment_id": payment_id,
    }


def credit_note(row: Row[Any] | Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """The fields of ``credit_note.*``; the memo stays out."""
    values = {**(row if isinstance(row, Mapping) else row._mapping), **changed}
    return {
        "credit_note_id": ids.text("cn", values["id"]),
        "number": number_text(values["series"], values["number"]),
        "invoice_id": ids.text("inv", values["invoice_id"]),
        "customer_id": ids.text("cus", values["account_id"]),
        "status": values["status"],
        "reason": values["reason"],
        "currency": values["currency"],
        **{
            name: values[name]
            for name in (
                *("gross_minor", "discount_minor", "net_minor", "tax_minor", "total_minor"),
                *("offset_minor", "credit_minor", "refund_minor"),
            )
        },
    }


def number_text(series: str, number: int) -> str | None:
    """The number printed on the document: series and at least six digits; a draft has none."""
    return None if number == 0 else f"{series}-{number:06d}"


def quantity_text(value: Any) -> str:
    """A quantity without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_text(plan_name: str, price_code: str) -> str:
    """What a line is for, in the shop's own words."""
    return f"{plan_name} ({price_code})"
