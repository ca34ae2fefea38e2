"""The shares of a line's discount and taxes that go back with a part of its gross.

Cumulative rounding: the share of all that is given back so far, less what was given back before
(``core.credit_notes`` says why).
"""

from __future__ import annotations

from subledger.core.amounts import Amounts
from subledger.core.recognition import share_minor

Step = dict[str, str | int]


def share(line: Amounts, before: Amounts, gross_minor: int) -> Amounts:
    """What goes back with ``gross_minor`` of a line of which ``before`` was given back.

    The bounds bind only where a note between others was made void, whose unit of rounding may
    now be missing, or where a later invoice took back in another proportion: no part of the
    result is negative, and what is left of the line is not either. The caller has seen to it that
    the gross is above zero and at most what is left.
    """
    left = line - before
    discount = (
        share_minor(line.discount_minor, before.gross_minor + gross_minor, line.gross_minor)
        - before.discount_minor
    )
    least = max(0, gross_minor - left.priced_minor)
    discount = min(max(discount, least), max(min(gross_minor, left.discount_minor), 0))
    priced = gross_minor - discount
    through = before.priced_minor + priced
    included = _taxed(line, line.tax_included_minor, before.tax_included_minor, through)
    most = max(min(priced, left.tax_included_minor), 0)
    included = min(max(included, priced - left.net_minor), most)
    return Amounts(
        gross_minor=gross_minor,
        discount_minor=discount,
        net_minor=priced - included,
        tax_minor=_taxed(line, line.tax_minor, before.tax_minor, through),
    )


def _taxed(line: Amounts, tax: int, before: int, through: int) -> int:
    """The share of a stored tax once ``through`` of the line's price is given back, less what was
    given back ``before``; all that is left of it at the line's end."""
    left = max(tax - before, 0)
    if through == line.priced_minor:
        return left
    return min(max(share_minor(tax, through, line.priced_minor) - before, 0), left)


def step_of(line_id: str, line: Amounts, before: Amounts, given: Amounts) -> Step:
    """The step of a derivation: enough to recompute ``given``."""
    step: Step = {
        "kind": "credit",
        "line_id": line_id,
        "rounding": "half_up_cumulative",
        "line_gross_minor": line.gross_minor,
        "line_discount_minor": line.discount_minor,
        "line_tax_minor": line.tax_minor,
        "before_gross_minor": before.gross_minor,
        "before_discount_minor": before.discount_minor,
        "before_tax_minor": before.tax_minor,
        "gross_minor": given.gross_minor,
        "discount_minor": given.discount_minor,
        "tax_minor": given.tax_minor,
    }
    if line.tax_included_minor:
        step["line_tax_included_minor"] = line.tax_included_minor
        step["before_tax_included_minor"] = before.tax_included_minor
        step["tax_included_minor"] = given.tax_included_minor
    return step
