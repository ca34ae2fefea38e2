"""Applied credit, grants, repairs and voids of other systems, in the core's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from subledger.core import credits, ledger
from subledger.core.calendar import (
    Anchor,
    Interval,
    Period,
    Unit,
    boundary,
)
from subledger.core.calendar import period as calendar_period
from subledger.core.credit_notes import (
    Invoice,
    InvoiceLine,
    Request,
    check_invoice_void,
    credit_note,
    open_minor,
    rest,
    unused,
    void,
)
from subledger.core.credits import Kind, Source, apply
from subledger.core.errors import InvalidCredit
from subledger.core.invoicing import draft
from subledger.core.pricing import Flat
from subledger.core.recognition import recognized_minor
from subledger.core.settlement import Paid, carried
from subledger.core.timeline import Item, Phase, Timeline
from tests.conformance.case import Answer, Case, Operation, Unsupported
from tests.conformance.ops.credits_common import (
    NOW,
    SOME_MINOR,
    currency_of,
    goes,
    instant,
    source,
    stored,
    unused_of,
)

WALLETS = "wallets have an issue of their own"


def _apply_notes(case: Case) -> Answer:
    given = case.given
    currency = currency_of(given)
    notes = given.get("credit_notes") or [
        {"balance_minor": each} for each in given["credit_note_balances_minor"]
    ]
    sources = [
        Source(
            id=str(n),
            kind=Kind.CREDIT_NOTE,
            balance_minor=each["balance_minor"],
            currency=each.get("currency", currency),
            created_at=NOW + timedelta(days=n),
        )
        for n, each in enumerate(notes)
    ]
    applied = apply(given["invoice_total_minor"], currency, sources, NOW)
    return {
        "applied_minor": [each.amount_minor for each in applied.uses],
        "balances_after_minor": [each.balance_minor for each in applied.sources],
        "total_due_minor": applied.left_minor,
    }


def _apply_wallets(case: Case) -> Answer:
    given = case.given
    if "fees" in given or "wallets" not in given:
        raise Unsupported(WALLETS)
    wallets = [
        source(each["id"], each["balance_minor"], Kind.PREPAID, priority=each.get("priority", 50))
        for each in given["wallets"]
    ]
    applied = apply(given.get("invoice_total_minor", SOME_MINOR), "EUR", wallets, NOW)
    used = {each.source_id: each.amount_minor for each in applied.uses}
    return {
        "used_minor": used if wallets else applied.applied_minor,
        "balance_after_minor": {each.id: each.balance_minor for each in applied.sources},
        "total_minor": applied.left_minor,
    }


def _wallet_rate(case: Case) -> Answer:
    given = case.given
    lines = stored([given["fee_minor"]], [0], given)
    total = Invoice("EUR", lines).total_minor
    wallet = source("wallet", given["balance_minor"], Kind.PREPAID)
    (after,) = apply(total, "EUR", [wallet], NOW).sources
    return {"total_minor": total, "balance_after_minor": after.balance_minor}


def _burn_down(case: Case) -> Answer:
    """OpenMeter's grants are of units; here a unit is a minor unit."""
    given = case.given
    grants = given["grants"]
    words = grants if isinstance(grants, str) else None
    if words is not None:
        grants = _many(words)
    if "usage" not in given or any("recurs" in each for each in grants):
        raise Unsupported("grants that recur have an issue of their own")
    sources = [
        source(
            each["id"],
            each["amount"],
            Kind.PREPAID,
            priority=each.get("priority", 0),
            expires_at=_expiry(each.get("expires")),
        )
        for each in grants
    ]
    burned = credits.burn_down(sources, [credits.Draw(NOW, given["usage"])], "EUR", NOW)
    balances = {each.id: each.balance_minor for each in burned.sources}
    if words is not None:
        soonest = balances.pop("soonest")
        (others,) = set(balances.values())
        return {"balances": f"{soonest} on the soonest, {others} on all others"}
    return {"balances": balances, "overage": burned.overage_minor}


def _many(words: str) -> list[dict[str, Any]]:
    """``many of 100, one expires in 29 days, the others later``."""
    found = re.match(r"many of (\d+), one expires in (\d+) days, the others later", words)
    if found is None:
        raise Unsupported(f"grants in words: {words}")
    amount, days = int(found[1]), int(found[2])
    later = [
        {"id": f"later{n}", "amount": amount, "expires": NOW + timedelta(days=days + n)}
        for n in range(1, 6)
    ]
    soonest = {"id": "soonest", "amount": amount, "expires": NOW + timedelta(days=days)}
    return [*later[:3], soonest, *later[3:]]


def _expiry(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    if value == "period start":
        return NOW
    raise Unsupported(f"an expiry in words: {value}")


# --- account credit by repairs ------------------------------------------------------------------


def _dates(pair: Sequence[str]) -> Period:
    return Period(instant(pair[0]), instant(pair[1]))


def _repair(amount: int, period: Period, at: datetime, adjusted: int = 0) -> int:
    """The credit for the unused part of a line of which ``adjusted`` was given back."""
    invoice = Invoice("EUR", (InvoiceLine("old", amount),), "paid", paid_minor=amount)
    earlier = [credit_note(invoice, [Request("old", adjusted)])] if adjusted else []
    return unused(invoice.lines[0], unused_of(period, at), earlier=earlier)


def _change_after_adjustment(case: Case) -> Answer:
    given = case.given
    old, new = given["old"], given["new"]
    period, at = _dates(old["period"]), instant(given["change_date"])
    repair = _repair(old["amount_minor"], period, at, -given["item_adjustment_minor"])
    item = unused(InvoiceLine("new", new["amount_minor"]), unused_of(period, at))
    _, credit = carried(item - repair)
    return {"new_item_minor": item, "repair_minor": -repair, "account_credit_minor": credit}


def _plan_change_same_day(case: Case) -> Answer:
    given = case.given
    old, new = given["old"], given["new"]
    start_at = instant(given["date"])
    anchor = Anchor(start_at, "UTC")
    whole = calendar_period(anchor, Interval(Unit(old["interval"])), 0)
    repair = _repair(old["amount_minor"], whole, start_at)
    _, credit = carried(new["amount_minor"] - repair)
    following: list[dict[str, Any]] = []
    sources: Sequence[Source] = (source("account", credit, Kind.ACCOUNT),)
    for n in range(1, len(case.expect.get("following", ())) + 1):
        applied = apply(new["amount_minor"], "EUR", sources, NOW)
        sources = applied.sources
        at = boundary(anchor, Interval(Unit(new["interval"])), n)
        following.append(
            {
                "invoice": at.date().isoformat(),
                "item_minor": new["amount_minor"],
                "credit_used_minor": -applied.applied_minor,
                "due_minor": applied.left_minor,
            }
        )
    return {
        "items_minor": [new["amount_minor"], -repair],
        "account_credit_minor": credit,
        "following": following,
    }


def _cancel_paid(case: Case) -> Answer:
    given = case.given
    repair = _repair(given["amount_minor"], _dates(given["period"]), instant(given["cancel"]))
    return {"repair_minor": -repair, "account_credit_minor": carried(-repair)[1]}


def _credit_on_unpaid(case: Case) -> Answer:
    """Kill Bill's balance: what is owed less what the account has."""
    given = case.given
    account = [source("account", given["credit_minor"], Kind.ACCOUNT)]
    now = apply(given["unpaid_invoice_minor"], "EUR", account, NOW)
    then = apply(given["next_invoice_minor"], "EUR", now.sources, NOW)
    return {
        "balance_minor": now.left_minor - credits.balance(now.sources, "EUR", NOW).total_minor,
        "next_payment_minor": then.left_minor,
        "balance_after_next_month_minor": then.left_minor
        - credits.balance(then.sources, "EUR", NOW).total_minor,
    }


def _credit_then_invoice(case: Case) -> Answer:
    account = [source("account", case.given["credit_minor"], Kind.ACCOUNT)]
    return {"due_minor": apply(case.given["invoice_minor"], "EUR", account, NOW).left_minor}


def _cancel_unpaid(case: Case) -> Answer:
    invoice = Invoice("EUR", (InvoiceLine("old", case.given["invoice_minor"]),))
    note = credit_note(invoice, [Request("old", -case.given["repair_minor"])])
    return {"due_minor": open_minor(invoice, [note]), **goes(note)}


def _void_invoice(case: Case) -> Answer:
    """A void invoice's lines are not among the billed ones."""
    item = Item("plan", Flat(case.given["invoice_minor"]), Decimal(1))
    timeline = Timeline(Anchor(NOW, "UTC"), Interval(Unit.MONTH), "EUR", (Phase(NOW, (item,)),))
    again = draft(timeline, first_period=0, horizon_at=NOW, billed=())
    return {"next_run": {"invoice_minor": again.total_minor}}


def _void_after_cancel(case: Case) -> Answer:
    given = case.given
    amount, period = given["plan"]["amount_minor"], _dates(given["period"])
    at = instant(given["cancel"])
    repair = _repair(amount, period, at)
    invoice = Invoice("EUR", (InvoiceLine("old", amount),), credit_applied_minor=amount)
    note = credit_note(invoice, [Request("old", repair)])
    try:
        check_invoice_void([note])
        before = "allowed"
    except InvalidCredit:
        before = "refused: it was repaired"
    check_invoice_void([void(note)])
    account = [source("account", given["account_credit_minor"], Kind.ACCOUNT)]
    rebilled = recognized_minor(amount, period, at)
    applied = apply(rebilled, "EUR", account, NOW)
    return {
        "repair_minor": -repair,
        "void_first_invoice_before_repair": before,
        "rebilled": {
            "period": [given["period"][0], given["cancel"]],
            "amount_minor": rebilled,
            "paid_by_credit_minor": applied.applied_minor,
        },
        "account_credit_after_minor": credits.balance(applied.sources, "EUR", NOW).total_minor,
    }


def _refund(case: Case) -> Answer:
    """A refund goes with a note, so that nothing is open again."""
    paid = case.given["paid_minor"]
    invoice = Invoice("EUR", (InvoiceLine("all", paid),), "paid", paid_minor=paid)
    note = credit_note(invoice, rest(invoice), paid=Paid.REFUND)
    return {"invoice_balance_minor": open_minor(invoice, [note])}


def _write_off(case: Case) -> Answer:
    amount = case.given["balance_minor"]
    books = [
        *ledger.finalized(customer="c", net_minor=amount, tax_minor=0, currency="EUR"),
        *ledger.written_off(customer="c", amount_minor=amount, currency="EUR"),
    ]
    return {"balance_minor": ledger.balances(books)[ledger.receivable("c"), "EUR"]}


def _rule(case: Case) -> Answer:
    """What the core does when nothing is asked for."""
    invoice = Invoice("EUR", (InvoiceLine("old", SOME_MINOR),), "paid", paid_minor=SOME_MINOR)
    to = credit_note(invoice, rest(invoice)).settlement
    applied = apply(SOME_MINOR, "EUR", [source("a", SOME_MINOR, Kind.ACCOUNT)], NOW)
    answers = {
        "on_downgrade": "account credit" if to.credit_minor else "",
        "refund": "" if to.refund_minor else "only on request",
        "credit_balance": "" if applied.left_minor else "applied in full to the next invoice",
    }
    if missing := sorted(case.expect.keys() - answers.keys()):
        raise Unsupported(f"no rule for {', '.join(missing)}")
    return answers


def _wallets(case: Case) -> Answer:
    raise Unsupported(WALLETS)


def _progressive(case: Case) -> Answer:
    raise Unsupported("progressive billing has an issue of its own")


OPERATIONS: dict[str, Operation] = {
    "apply_credit_notes": _apply_notes,
    "apply_wallets": _apply_wallets,
    "wallet_rate": _wallet_rate,
    "wallet_capping": _wallets,
    "top_up": _wallets,
    "burn_down": _burn_down,
    "change_after_item_adjustment": _change_after_adjustment,
    "plan_change_same_day": _plan_change_same_day,
    "cancel_annual": _cancel_paid,
    "cancel_unpaid": _cancel_unpaid,
    "credit_on_unpaid": _credit_on_unpaid,
    "credit_then_invoice": _credit_then_invoice,
    "void_invoice": _void_invoice,
    "void_after_cancel": _void_after_cancel,
    "refund": _refund,
    "write_off": _write_off,
    "rule": _rule,
    "progressive_billing": _progressive,
}
