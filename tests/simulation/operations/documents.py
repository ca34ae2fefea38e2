"""Operations: invoices, credit notes, adjustments, charges of once, how invoices are issued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.operations.kinds import (
    ENDED,
    NOT_ACTIVE,
    RESERVED,
    STILL_OPEN,
    act,
    drawn_invoice,
    operation,
)

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person

DRAFT_S = (0, 3_600, 86_400, 259_200)


async def credit_note(month: Month, _: Person) -> None:
    """Of a whole invoice, or of a part of one of its lines."""
    found = await drawn_invoice(month, "open", "paid")
    if found is None:
        return month.nothing("credit note")
    who, invoice = found
    body: dict[str, Any] = {"invoice_id": invoice, "reason": "goodwill"}
    how = month.draw.choice(("whole", "line"))
    if how == "line":
        lines = (await month.get(f"/v1/invoices/{invoice}"))["lines"]
        charges = [each for each in lines if each["gross_minor"] > 0]
        if not charges:
            return month.nothing("credit note")
        line = month.draw.choice(charges)
        gross = month.draw.randrange(1, line["gross_minor"] + 1)
        body["lines"] = [{"n": line["n"], "gross_minor": gross}]
    await month.ask("credit note", who, "/v1/credit-notes", body, how=how)


async def void_note(month: Month, _: Person) -> None:
    found = await month.get_all("/v1/credit-notes")
    if not found:
        return month.nothing("void note")
    note, payer = month.draw.choice(sorted((each["id"], each["customer_id"]) for each in found))
    who = month.person(payer)
    await month.ask("void note", who, f"/v1/credit-notes/{note}/void", {"reason": "drawn"})


async def adjust(month: Month, who: Person) -> None:
    how = month.draw.choice(("credit", "credit", "debit"))
    body = {
        "customer_id": who.id, "direction": how, "currency": "EUR", "reason": "drawn",
        "amount_minor": month.draw.randrange(1, 700 if how == "credit" else 60),
    }  # fmt: skip
    await month.ask("adjust", who, "/v1/adjustments", body, how=how)


async def void(month: Month, _: Person) -> None:
    await _of_invoice(month, "void", "void", "open")


async def reissue(month: Month, _: Person) -> None:
    await _of_invoice(month, "reissue", "reissue", "open")


async def finalize(month: Month, _: Person) -> None:
    await _of_invoice(month, "finalize", "finalize", "draft")


async def _of_invoice(month: Month, what: str, path: str, status: str) -> None:
    found = await drawn_invoice(month, status)
    if found is None:
        return month.nothing(what)
    who, invoice = found
    body = {"reason": "drawn"} if path != "finalize" else None
    await month.ask(what, who, f"/v1/invoices/{invoice}/{path}", body)


async def charge(month: Month, who: Person) -> None:
    body = {"price_id": month.shelf.gift, "quantity": month.draw.choice(("1", "3"))}
    await act(month, who, "charge", "charges", body)


async def change_settings(month: Month, _: Person) -> None:
    """The grace of drafts, invoices of zero, amounts that are too small to collect."""
    draw = month.draw
    draft_s = draw.choice(DRAFT_S)
    body = {
        "draft_s": draft_s,
        "zero_invoices": draw.choice(("issue", "skip")),
        "minimums_minor": draw.choice(({}, {}, {"EUR": 400})),
    }
    how = "grace" if draft_s else "no grace"
    await month.ask(
        "change invoice settings", None, "/v1/invoice-settings", body, how=how, method="PUT"
    )


async def change_terms(month: Month, who: Person) -> None:
    """When a customer's invoices are due, and whether renewals share one."""
    net_days, consolidate = month.draw.choice((0, 3, 5)), month.draw.random() < 0.6
    body = {"net_days": net_days, "consolidate": consolidate}
    how = "consolidated" if consolidate else "apart"
    path = f"/v1/customers/{who.id}/invoice-terms"
    await month.ask("change terms", who, path, body, how=how, method="PUT")


OPERATIONS = (
    operation(
        "credit note", 6, credit_note, RESERVED, "invoice_not_creditable", "credit_exceeds_line",
        "nothing_to_credit",
    ),
    operation("void note", 5, void_note, RESERVED, "credit_note_void", "credit_note_used"),
    operation("adjust", 4, adjust, "credit_insufficient"),
    operation(
        "void", 4, void, RESERVED, "invoice_not_open", "invoice_credited", "invoice_settles_cycle"
    ),
    operation(
        "reissue", 7, reissue, RESERVED, STILL_OPEN, "invoice_not_open", "invoice_credited",
        "invoice_not_reissuable",
    ),
    operation("finalize", 10, finalize, "invoice_not_draft"),
    operation("charge", 5, charge, ENDED, NOT_ACTIVE),
    operation("change invoice settings", 4, change_settings, is_shops=True),
    operation("change terms", 4, change_terms),
)  # fmt: skip
