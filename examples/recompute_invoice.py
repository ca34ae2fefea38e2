"""Recompute an invoice from GET /v1/invoices/{id}/explain, importing nothing of Subledger.

usage: python examples/recompute_invoice.py explained.json     (or - ; exit 1: a figure is wrong)
"""

import json
import sys
from fractions import Fraction


def half_up(exact):
    size = (2 * abs(exact.numerator) + exact.denominator) // (2 * exact.denominator)
    return size if exact >= 0 else -size


def check(computed, stated, what):
    if computed != stated:
        sys.exit(f"{what}: {computed} computed, {stated} stated")


def discounted(line):
    """Quantity × unit amount, tier by tier, × fraction of the period, rounded once; discounts."""
    exact, part, rest = (Fraction(line.get(name, 0)) for name in ("exact", "fraction", "rest"))
    whole = sum(
        Fraction(each["quantity"]) * Fraction(each["unit_amount"]) for each in line["steps"]
    )
    check(whole * part if line["steps"] else exact, exact, "exact amount")
    # With a rest it is the rest, which is given back, that was rounded.
    amount = half_up(whole * (part + rest)) - half_up(whole * rest) if rest else half_up(exact)
    check((amount, exact - amount), (line["gross_minor"], Fraction(line["residue"])), "rounding")
    for step in line["discounts"]:
        if "units" not in step:  # free units are taken off the quantity before
            check(amount, step["base_minor"], "base of a discount")
            if "percent" in step:
                taken = half_up(amount * Fraction(step["percent"]) / 100)
                check(taken, step["amount_minor"], "discount")
            amount -= step["amount_minor"]
    return amount


def taxed(line, amount):
    """Rate id → exact and rounded tax on an amount, or in it if the price contains its taxes."""
    taxes = {
        each["rate_id"]: (Fraction(each["exact"]), each["tax_minor"]) for each in line["taxes"]
    }
    net = amount - sum(exact for exact, _ in taxes.values()) * line["tax_inclusive"]
    below = sum(taxes[each["rate_id"]][0] for each in line["taxes"] if not each["compound"])
    for each in line["taxes"]:
        exact = Fraction(each["percent"]) / 100 * (net + below * each["compound"])
        check(exact, Fraction(each["exact"]), "exact tax")
        below += exact * each["compound"]
    return taxes


def main(invoice):
    total, taxes = 0, {}
    for n, line in enumerate(invoice["lines"], start=1):
        told = line["derivation"]
        amount, tax = discounted(told), sum(each["tax_minor"] for each in told["taxes"])
        net = amount - told["tax_included_minor"]
        check((net, tax), (line["net_minor"], line["tax_minor"]), f"line {n}")
        taxes[n] = taxed(told, amount) if line["kind"] == "charge" and told["taxes"] else {}
        total += net + tax
    for group in [group for run in invoice["inputs"].get("taxes", ()) for group in run["groups"]]:
        cells = [
            taxes[n][rate] for n in group["lines"] for rate in group["rate_ids"] if rate in taxes[n]
        ]
        exact, tax = sum(exact for exact, _ in cells), sum(rounded for _, rounded in cells)
        check(
            (tax, exact - tax), (group["tax_minor"], Fraction(group["residue"])), "taxes of a group"
        )
        check(abs(exact - tax) <= Fraction(1, 2), True, "rounding of a tax")
    stated = invoice["total_minor"] - invoice.get("credited_minor", 0)
    print(f"total {total} computed, {stated} stated")
    return 0 if total == stated else 1


if __name__ == "__main__":
    with sys.stdin if sys.argv[-1] == "-" else open(sys.argv[1], encoding="utf-8") as source:
        sys.exit(main(json.load(source)))
