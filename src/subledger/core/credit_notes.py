"""Credit notes: what is given back of an invoice's lines, and where it goes.

A note names lines and how much of their gross to give back. Discount and tax follow from the
stored line, never from today's discount or rate: each is given back in proportion by cumulative
rounding (the share of all that is credited so far, less what earlier notes gave back), so that
notes over one line together give back exactly the line and never more. A line's stored tax is
its rate on its net less its residue; in proportion to the net both shrink alike, so that the
share of the stored tax is the share by rate and residue. Tax that the gross contains is shared in
the same way. What later invoices took back of a line counts as given back too (``noted``).

Where a note's total goes is ``core.settlement``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType

from subledger.core.amounts import NOTHING, Amounts
from subledger.core.credit_shares import share, step_of
from subledger.core.errors import InvalidCredit
from subledger.core.money import allocate, check_amount, exponent, round_half_up
from subledger.core.settlement import Paid, Settlement, Step, Unpaid, settle

MOST_LINES = 1_000
MOST_NOTES = 1_000
CREDITABLE = frozenset({"open", "paid"})


class Reason(StrEnum):
    """Why a note is issued."""

    DUPLICATE = "duplicate"
    FRAUDULENT = "fraudulent"
    ORDER_CHANGE = "order_change"
    CANCELLATION = "cancellation"
    UNSATISFACTORY = "unsatisfactory"
    PRICING_ERROR = "pricing_error"
    GOODWILL = "goodwill"
    OTHER = "other"


class State(StrEnum):
    """A draft is a preview: it takes nothing off anything. Issuing it means computing it again,
    since other notes may have come first."""

    DRAFT = "draft"
    ISSUED = "issued"
    VOID = "void"


class OpenOf(StrEnum):
    """What counts as open: the whole invoice's open amount, or the credited lines' share of it
    (payments settle lines in proportion to their totals)."""

    INVOICE = "invoice"
    LINES = "lines"


class Earlier(StrEnum):
    """How earlier credits of a line bear on the credit for its unused part: they only cap it at
    what is left of the line, or they count as part of it."""

    CAP = "cap"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A stored line (minor units), whose gross may contain tax. Lines that are credits themselves
    are negative and cannot be credited. Raises InvalidCredit where the parts contradict each
    other."""

    id: str
    gross_minor: int
    discount_minor: int = 0
    tax_minor: int = 0
    tax_included_minor: int = 0

    def __post_init__(self) -> None:
        check_amount(self.gross_minor, pointer="/gross_minor")
        check_amount(self.tax_minor, pointer="/tax_minor")
        sign = -1 if self.gross_minor < 0 else 1
        if not 0 <= sign * self.discount_minor <= sign * self.gross_minor:
            raise InvalidCredit(
                "a discount lies between zero and the gross",
                pointer="/discount_minor",
                fix="Give the line as it is stored.",
            )
        if sign * self.tax_minor < 0:
            raise InvalidCredit(
                "tax has the line's sign", pointer="/tax_minor", fix="Give the stored line."
            )
        if not 0 <= sign * self.tax_included_minor <= sign * self.amounts.priced_minor:
            raise InvalidCredit(
                "the tax that a gross contains lies between zero and the gross less discount",
                pointer="/tax_included_minor",
                fix="Give the line as it is stored.",
            )

    @property
    def net_minor(self) -> int:
        """Gross less discount less the tax that the gross contains."""
        return self.gross_minor - self.discount_minor - self.tax_included_minor

    @property
    def amounts(self) -> Amounts:
        return Amounts(self.gross_minor, self.discount_minor, self.net_minor, self.tax_minor)

    @property
    def total_minor(self) -> int:
        """Net and tax."""
        return self.net_minor + self.tax_minor


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a note needs to know of its invoice: lines, state and what has settled it (minor
    units): money paid, account credit applied, money refunded by earlier notes."""

    currency: str
    lines: tuple[InvoiceLine, ...]
    state: str = "open"
    paid_minor: int = 0
    credit_applied_minor: int = 0
    refunded_minor: int = 0

    def __post_init__(self) -> None:
        exponent(self.currency)
        if len(self.lines) > MOST_LINES or len({each.id for each in self.lines}) < len(self.lines):
            raise InvalidCredit(
                f"an invoice has at most {MOST_LINES} lines, each with an id of its own",
                pointer="/lines",
                fix="Give each stored line once.",
            )
        for name in ("paid_minor", "credit_applied_minor", "refunded_minor"):
            if check_amount(getattr(self, name), pointer=f"/{name}") < 0:
                raise InvalidCredit(
                    "what settled an invoice is not negative",
                    pointer=f"/{name}",
                    fix="Give 0 or more.",
                )

    @property
    def total_minor(self) -> int:
        """The sum of the lines' totals."""
        return sum(each.total_minor for each in self.lines)


@dataclass(frozen=True, slots=True)
class Request:
    """How much of a line's gross to give back (minor units, more than zero)."""

    line_id: str
    gross_minor: int


@dataclass(frozen=True, slots=True)
class NoteLine:
    """What a note gives back of one line (minor units, not negative) and the step it comes
    from."""

    line_id: str
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    step: Step

    @property
    def amounts(self) -> Amounts:
        return Amounts(self.gross_minor, self.discount_minor, self.net_minor, self.tax_minor)

    @property
    def total_minor(self) -> int:
        """Net and tax."""
        return self.net_minor + self.tax_minor


@dataclass(frozen=True, slots=True)
class CreditNote:
    """A note: a document of positive amounts (minor units) that lower the invoice."""

    currency: str
    reason: Reason
    lines: tuple[NoteLine, ...]
    gross_minor: int
    discount_minor: int
    net_minor: int
    tax_minor: int
    total_minor: int
    settlement: Settlement
    state: State = State.ISSUED


_NONE: Mapping[str, Amounts] = MappingProxyType({})


def credit_note(
    invoice: Invoice,
    requests: Sequence[Request],
    *,
    reason: Reason = Reason.OTHER,
    earlier: Iterable[CreditNote] = (),
    taken: Mapping[str, Amounts] = _NONE,
    unpaid: Unpaid = Unpaid.OFFSET,
    paid: Paid = Paid.CREDIT,
    open_of: OpenOf = OpenOf.INVOICE,
    refund_minor: int | None = None,
    state: State = State.ISSUED,
) -> CreditNote:
    """The note for these requests, after the ``earlier`` notes of the invoice (of which only
    issued ones count). ``taken`` is what later invoices took back of lines, by their ids.
    ``refund_minor`` asks for exactly that much money back, the rest becomes credit.

    Raises InvalidCredit, with what is left, for an invoice that is neither open nor paid, an
    unknown or repeated line, more than is left of a line or of the invoice, a refund above what
    was paid less earlier refunds, and where ``unpaid`` or ``paid`` refuse.
    """
    _check_request(invoice, requests)
    standing = [each for each in earlier if each.state is State.ISSUED]
    credited = _credited(standing)
    lines = _note_lines(invoice, requests, _joined(credited, taken))
    total = sum(each.total_minor for each in lines)
    left = _left_of_invoice(invoice, standing)
    if total > left:
        raise InvalidCredit(
            f"{left} of the invoice is left to credit, not {total}",
            pointer="/lines",
            fix="Credit less.",
            left_minor=left,
        )
    opened = (
        open_minor(invoice, standing)
        if open_of is OpenOf.INVOICE
        else _open_of_lines(invoice, lines, credited)
    )
    settlement = settle(
        total,
        opened,
        refundable_minor(invoice),
        unpaid=unpaid,
        paid=paid,
        refund_minor=refund_minor,
    )
    return CreditNote(
        currency=invoice.currency,
        reason=reason,
        lines=tuple(lines),
        gross_minor=sum(each.gross_minor for each in lines),
        discount_minor=sum(each.discount_minor for each in lines),
        net_minor=sum(each.net_minor for each in lines),
        tax_minor=sum(each.tax_minor for each in lines),
        total_minor=total,
        settlement=settlement,
        state=state,
    )


def _check_request(invoice: Invoice, requests: Sequence[Request]) -> None:
    if invoice.state not in CREDITABLE:
        raise InvalidCredit(
            f"an invoice that is {invoice.state} cannot be credited",
            pointer="/invoice",
            fix="Credit an open or paid invoice.",
            left_minor=0,
        )
    if not 1 <= len(requests) <= MOST_LINES:
        raise InvalidCredit(
            f"a note has 1 to {MOST_LINES} lines", pointer="/lines", fix="Name the lines."
        )
    if len({each.line_id for each in requests}) < len(requests):
        raise InvalidCredit(
            "a note credits a line once", pointer="/lines", fix="Add up the amounts of a line."
        )


def _left_of_invoice(invoice: Invoice, standing: Sequence[CreditNote]) -> int:
    return max(invoice.total_minor - sum(each.total_minor for each in standing), 0)


def _credited(standing: Sequence[CreditNote]) -> dict[str, Amounts]:
    """What standing notes gave back of each line."""
    if len(standing) > MOST_NOTES:
        raise InvalidCredit(
            f"an invoice has at most {MOST_NOTES} notes", pointer="/earlier", fix="Issue fewer."
        )
    found: dict[str, Amounts] = {}
    for note in standing:
        for line in note.lines:
            found[line.line_id] = found.get(line.line_id, NOTHING) + line.amounts
    return found


def _joined(credited: Mapping[str, Amounts], taken: Mapping[str, Amounts]) -> Mapping[str, Amounts]:
    return {
        line_id: credited.get(line_id, NOTHING) + taken.get(line_id, NOTHING)
        for line_id in {*credited, *taken}
    }


def _note_lines(
    invoice: Invoice, requests: Sequence[Request], credited: Mapping[str, Amounts]
) -> list[NoteLine]:
    by_id = {each.id: each for each in invoice.lines}
    found = []
    for place, request in enumerate(requests):
        line = by_id.get(request.line_id)
        if line is None:
            raise InvalidCredit(
                f"the invoice has no line {request.line_id!r}",
                pointer=f"/lines/{place}/line_id",
                fix="Name a line of this invoice.",
            )
        before = credited.get(line.id, NOTHING)
        found.append(_note_line(line, before, request.gross_minor, place))
    return found


def _note_line(line: InvoiceLine, before: Amounts, gross: int, place: int) -> NoteLine:
    left = max(line.gross_minor - before.gross_minor, 0)
    if not 0 < gross <= left:
        raise InvalidCredit(
            f"{left} of line {line.id} is left to credit, not {gross}",
            pointer=f"/lines/{place}/gross_minor",
            fix="Credit more than zero and at most what is left.",
            left_minor=left,
        )
    given = share(line.amounts, before, gross)
    return NoteLine(
        line_id=line.id,
        gross_minor=gross,
        discount_minor=given.discount_minor,
        net_minor=given.net_minor,
        tax_minor=given.tax_minor,
        step=step_of(line.id, line.amounts, before, given),
    )


def left_minor(line: InvoiceLine, earlier: Iterable[CreditNote] = ()) -> int:
    """What of the line's gross no standing note has given back (minor units)."""
    gone = sum(
        each.gross_minor
        for note in earlier
        if note.state is State.ISSUED
        for each in note.lines
        if each.line_id == line.id
    )
    return max(line.gross_minor - gone, 0)


def rest(
    invoice: Invoice,
    earlier: Iterable[CreditNote] = (),
    *,
    taken: Mapping[str, Amounts] = _NONE,
) -> tuple[Request, ...]:
    """The requests that credit all that is left: of every line and, where the invoice has credits
    itself and so bills less than its charges, of the invoice, the first lines first."""
    standing = [each for each in earlier if each.state is State.ISSUED]
    before = _joined(_credited(standing), taken)
    left = _left_of_invoice(invoice, standing)
    found = []
    for line in invoice.lines:
        given = before.get(line.id, NOTHING)
        gross = _fitting(line, given, max(line.gross_minor - given.gross_minor, 0), left)
        if gross:
            left -= _note_line(line, given, gross, 0).total_minor
            found.append(Request(line.id, gross))
    return tuple(found)


def part(
    invoice: Invoice,
    amount_minor: int,
    earlier: Iterable[CreditNote] = (),
    *,
    taken: Mapping[str, Amounts] = _NONE,
) -> tuple[Request, ...]:
    """The requests that credit ``amount_minor`` of what is left, the first lines first, or the
    least above it: with its tax rounded, a line cannot give back every amount."""
    standing = [each for each in earlier if each.state is State.ISSUED]
    before = _joined(_credited(standing), taken)
    by_id = {each.id: each for each in invoice.lines}
    found: list[Request] = []
    wanted = amount_minor
    for whole in rest(invoice, standing, taken=taken):
        if wanted <= 0:
            break
        line, given = by_id[whole.line_id], before.get(whole.line_id, NOTHING)
        gross = _fitting(line, given, whole.gross_minor, wanted)
        total = _note_line(line, given, gross, 0).total_minor if gross else 0
        if total < wanted and gross < whole.gross_minor:
            gross += 1
            total = _note_line(line, given, gross, 0).total_minor
        found.append(Request(line.id, gross))
        wanted -= total
    return tuple(found)


def _fitting(line: InvoiceLine, before: Amounts, most: int, left: int) -> int:
    """The greatest gross, at most ``most``, that gives back at most ``left``. A total grows with
    its gross, so that it is found by halving."""
    if most == 0 or _note_line(line, before, most, 0).total_minor <= left:
        return most
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        if _note_line(line, before, middle, 0).total_minor <= left:
            least = middle
        else:
            most = middle
    return least


def unused(
    line: InvoiceLine,
    fraction: Fraction,
    *,
    earlier: Iterable[CreditNote] = (),
    counting: Earlier = Earlier.CAP,
) -> int:
    """The gross to credit (minor units, maybe 0) when service ends and ``fraction`` of the line's
    period is unused: the line's share, rounded half up, and at most what is left of the line.

    With ``Earlier.COUNT`` what earlier notes gave back of the line counts as part of the share.
    Raises InvalidCredit for a fraction outside 0…1.
    """
    if not 0 <= fraction <= 1:
        raise InvalidCredit(
            "the unused part lies between 0 and 1", pointer="/fraction", fix="Give a part of one."
        )
    left = left_minor(line, earlier)
    share = max(round_half_up(line.gross_minor * fraction), 0)
    if counting is Earlier.COUNT:
        return max(share - (max(line.gross_minor, 0) - left), 0)
    return min(share, left)


def open_minor(invoice: Invoice, earlier: Iterable[CreditNote] = ()) -> int:
    """What is still to be paid of the invoice (minor units, not negative): its total less money,
    credit applied, and what standing notes took off it."""
    offset = sum(each.settlement.offset_minor for each in earlier if each.state is State.ISSUED)
    settled = invoice.paid_minor + invoice.credit_applied_minor
    return max(invoice.total_minor - settled - offset, 0)


def refundable_minor(invoice: Invoice) -> int:
    """Money paid less money refunded (minor units, not negative)."""
    return max(invoice.paid_minor - invoice.refunded_minor, 0)


def _open_of_lines(
    invoice: Invoice, lines: Sequence[NoteLine], credited: Mapping[str, Amounts]
) -> int:
    """What of these lines is open: their totals less their share of what settled the invoice and
    what was credited of them, each at most what the note gives back of it."""
    settled = min(invoice.paid_minor + invoice.credit_applied_minor, max(invoice.total_minor, 0))
    shares = allocate(settled, [max(each.total_minor, 0) for each in invoice.lines])
    opened = {
        line.id: line.total_minor - share - credited.get(line.id, NOTHING).total_minor
        for line, share in zip(invoice.lines, shares, strict=True)
    }
    return sum(min(max(opened[each.line_id], 0), each.total_minor) for each in lines)


def void(note: CreditNote, *, credit_used_minor: int = 0) -> CreditNote:
    """The note made void: its lines can be credited again, its postings are to be reversed.

    Raises InvalidCredit if it is not issued, if its credit has been used (also in part), or if
    money went back, since neither can be taken back from the customer.
    """
    if note.state is not State.ISSUED:
        raise InvalidCredit(
            f"a note that is {note.state} cannot be voided",
            pointer="/state",
            fix="Void issued notes only.",
        )
    if credit_used_minor or note.settlement.refund_minor:
        raise InvalidCredit(
            "a note whose credit was used or refunded stands",
            pointer="/state",
            fix="Invoice the amount anew.",
            left_minor=note.settlement.credit_minor - credit_used_minor,
        )
    return replace(note, state=State.VOID)


def check_invoice_void(earlier: Iterable[CreditNote]) -> None:
    """Raises InvalidCredit if an invoice cannot be voided because a note on it stands: voiding
    goes backwards, the notes first."""
    if any(each.state is State.ISSUED for each in earlier):
        raise InvalidCredit(
            "the invoice was credited",
            pointer="/state",
            fix="Void its credit notes first, or credit the rest.",
        )
