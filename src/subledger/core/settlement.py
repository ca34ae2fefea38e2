"""Where a credit note's total goes: off what is open, to the customer's credit, or back as money.

What was never paid comes first, so that no one is paid for what they still owe; never more is
refunded than was paid less earlier refunds (conformance README, "negative invoice", "cap of a
credit").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from subledger.core.errors import InvalidCredit
from subledger.core.money import check_amount

Step = dict[str, str | int]


class Unpaid(StrEnum):
    """What a note does with the part of it that was never paid."""

    OFFSET = "offset"
    CREDIT = "credit"
    REFUSE = "refuse"


class Paid(StrEnum):
    """What a note does with the part of it that was paid."""

    CREDIT = "credit"
    REFUND = "refund"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where a note's total goes (minor units): off what is open, to the customer's credit, back
    as money. They sum to the total."""

    offset_minor: int
    credit_minor: int
    refund_minor: int
    step: Step


def settle(
    total_minor: int,
    open_minor: int,
    refundable_minor: int,
    *,
    unpaid: Unpaid = Unpaid.OFFSET,
    paid: Paid = Paid.CREDIT,
    refund_minor: int | None = None,
) -> Settlement:
    """Splits a note's total: first what is open, by ``unpaid``; the rest, which was paid, by
    ``paid`` or, with ``refund_minor``, exactly so much as money and the rest as credit.

    Without ``refund_minor`` a refund takes as much as it may; what was not paid with money (but
    by account credit) becomes credit again. Raises InvalidCredit as ``credit_note``.
    """
    assert min(total_minor, open_minor, refundable_minor) >= 0, "amounts of a note are positive"
    never_paid = min(total_minor, open_minor)
    was_paid = total_minor - never_paid
    if never_paid and unpaid is Unpaid.REFUSE:
        raise InvalidCredit(
            f"{never_paid} of this was never paid",
            pointer="/unpaid",
            fix="Take it off what is open, or credit only what was paid.",
            left_minor=was_paid,
        )
    if was_paid and paid is Paid.REFUSE:
        raise InvalidCredit(
            f"{was_paid} of this has been paid",
            pointer="/paid",
            fix="Credit or refund it, or credit only what is open.",
            left_minor=never_paid,
        )
    most = min(was_paid, refundable_minor)
    refund = most if paid is Paid.REFUND else 0
    if refund_minor is not None:
        if not 0 <= refund_minor <= most:
            raise InvalidCredit(
                f"{most} can be refunded, not {refund_minor}",
                pointer="/refund_minor",
                fix="Refund at most what was paid less earlier refunds.",
                left_minor=most,
            )
        refund = refund_minor
    offset = never_paid if unpaid is Unpaid.OFFSET else 0
    credit = total_minor - offset - refund
    step: Step = {
        "kind": "settlement",
        "total_minor": total_minor,
        "open_minor": open_minor,
        "refundable_minor": refundable_minor,
        "unpaid": unpaid.value,
        "offset_minor": offset,
        "credit_minor": credit,
        "refund_minor": refund,
    }
    return Settlement(offset_minor=offset, credit_minor=credit, refund_minor=refund, step=step)


def carried(total_minor: int) -> tuple[int, int]:
    """What is due of an invoice and what becomes credit (minor units): a negative total is kept
    as it is, nothing is due, and the customer has its amount as credit."""
    check_amount(total_minor, pointer="/total_minor")
    return (total_minor, 0) if total_minor >= 0 else (0, -total_minor)
