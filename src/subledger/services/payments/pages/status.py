"""What a payer is told about a payment: what is true, in words and as data."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from subledger.services.payments.pages.render import Told

_WORDS = {
    "processing": (
        "The payment is under way",
        "The bank has not answered yet. Please do not pay again: this page tells the outcome.",
        "wait",
    ),
    "requires_action": (
        "Waiting for your payment",
        "Nothing has arrived yet. If you have just paid, this page will know in a moment.",
        "wait",
    ),
    "unknown": (
        "We are asking the bank",
        "Its answer was lost, so it is not known yet whether the money moved. Please do not pay"
        " again: this page tells the outcome.",
        "wait",
    ),
    "authorized": (
        "The money is set aside",
        "Your bank keeps it for the shop, which takes it later or lets it go. Please do not pay"
        " again.",
        "wait",
    ),
    "succeeded": ("Payment received", "Thank you. You may close this page.", "good"),
    "failed": (
        "The payment was not made",
        "It was declined, and no money was taken. Go back to the shop and try another way to pay.",
        "bad",
    ),
    "canceled": (
        "The payment was canceled",
        "No money was taken. Go back to the shop and start again.",
        "bad",
    ),
}
_REFUNDED = "The money went back to your payment method, wholly or in part."


def told(payment: Row[Any], *, back: str | None) -> Told:
    """The page of a payment; ``back`` is where its payer may go from here."""
    title, text, tone = _WORDS[payment.status]
    if payment.status == "succeeded" and payment.refunded_minor:
        text = _REFUNDED
    waits = payment.status == "requires_action"
    return Told(
        title=title,
        text=text,
        tone=tone,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        onward=payment.redirect_url if waits else None,
        back=back,
        looks_again=payment.status in {"processing", "requires_action", "authorized", "unknown"},
    )


def data(payment: Row[Any], *, back: str | None) -> dict[str, Any]:
    """The same as JSON: no ids, nothing of the payer."""
    waits = payment.status == "requires_action"
    return {
        "status": payment.status,
        "is_final": payment.status in {"succeeded", "failed", "canceled"},
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "refunded_minor": payment.refunded_minor,
        "redirect_url": payment.redirect_url if waits else None,
        "return_url": back,
    }
