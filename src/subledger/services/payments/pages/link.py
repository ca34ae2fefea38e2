"""What a payer is told who opens a payment link."""

from __future__ import annotations

from typing import Any

from subledger.services.payments.flows.link import Opened
from subledger.services.payments.pages.render import Told

_WORDS = {
    "revoked": (
        "This link is not valid any more",
        "The shop has taken it back. Ask it for a new one.",
        "bad",
    ),
    "expired": (
        "This link has expired",
        "It can be paid no longer. Ask the shop for a new one.",
        "bad",
    ),
    "paid": ("This invoice is paid", "Nothing is left to pay. You may close this page.", "good"),
    "closed": ("Nothing is to be paid", "The invoice was canceled or settled otherwise.", "good"),
    "busy": (
        "A payment is under way",
        "Please do not pay again: this page tells the outcome.",
        "wait",
    ),
    "open": ("Invoice", "You pay on a secure page of the payment provider.", "wait"),
}
CODES = {"revoked": 410, "expired": 410}
_CHANGED = "The amount has changed. Please look at it once more, then pay."
_NO_PAGE = "The payment page could not be opened now. Please try again in a moment."


def told(opened: Opened, *, back: str | None, problem: str | None = None) -> Told:
    """The page of a link. ``problem`` is ``changed`` (the amount) or ``no_page``."""
    state, invoice = opened.state, opened.invoice
    title, text, tone = _WORDS[state]
    shown = invoice is not None and state in {"open", "busy", "paid"}
    if problem is not None and state == "open":
        text, tone = (_CHANGED if problem == "changed" else _NO_PAGE), "bad"
    amount_minor = None
    if invoice is not None and state in {"open", "busy"}:
        amount_minor = invoice.due_minor
    return Told(
        title=title,
        text=text,
        tone=tone,
        amount_minor=amount_minor,
        currency=None if invoice is None else invoice.currency,
        details=(("Number", invoice.number),) if invoice is not None and shown else (),
        form="Pay" if state == "open" else None,
        hidden=(("amount", str(amount_minor)),) if state == "open" else (),
        back=back,
        looks_again=state == "busy",
    )


def data(opened: Opened, *, back: str | None) -> dict[str, Any]:
    """The same as JSON: no ids."""
    invoice = opened.invoice
    return {
        "status": opened.state,
        "number": None if invoice is None else invoice.number,
        "due_minor": None if invoice is None else invoice.due_minor,
        "currency": None if invoice is None else invoice.currency,
        "return_url": back,
    }
