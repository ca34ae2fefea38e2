"""Recompute an invoice's total from its explanation, importing nothing of Subledger.

usage: python examples/recompute_invoice.py explained.json     (or - for standard input)

The explanation is the answer of GET /v1/invoices/{id}/explain. Every figure is computed again from
the steps: quantity times unit amount, one rounding half up (away from zero), discounts in their
order, taxes rounded in their groups. Prints what it found; exits 1 if a figure differs.
"""

import json
import sys
from fractions import Fraction


def half_up(value):
    size = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return size if value >= 0 else -size


def check(computed, stated, what):
    if computed != stated:
        raise ValueError(f"{what}: {computed} computed, {stated} stated")


def discounted(line):
    """What a line costs after its discounts (minor units)."""
    exact = Fraction(line["exact"])
    if line["steps"]:
        steps = (
            Fraction(each["quantity"]) * Fraction(each["unit_amount"]) for each in line["steps"]
        )
        check(sum(steps) * Fraction(line["fraction"]), exact, "exact amount")
    amount = half_up(exact)
    for each in line["discounts"]:
        if "base_minor" not in each:  # free units: taken off the quantity before
            continue
        check(amount, each["base_minor"], "base of a discount")
        if "percent" in each:
            taken = half_up(amount * Fraction(each["percent"]) / 100)
            check(min(taken, amount), each["amount_minor"], "discount")
        amount -= each["amount_minor"]
    return amount


def exact_taxes(amount, line):
    """Rate id → exact tax on (or, of a price that contains its taxes, in) an amount."""
    percents = [(each["rate_id"], Fraction(each["percent"]) / 100, each["compound"])
                for each in line["taxes"]]  # fmt: skip
    below, parts = sum(part for _, part, compound in percents if not compound), {}
    for rate, part, compound in percents:
        parts[rate] = part * (1 + below) if compound else part
        below += parts[rate] if compound else 0
    return {rate: amount * part / (1 + below if line["tax_inclusive"] else 1)
            for rate, part in parts.items()}  # fmt: skip


def check_groups(groups, charges):
    """Taxes that were rounded together: ``charges`` by line number, with amount and line."""
    for group in groups:
        exact, tax, gross = Fraction(0), 0, 0
        for n in group["lines"]:
            amount, line = charges[n]
            gross += amount
            for each in line["taxes"]:
                if each["rate_id"] in group["rate_ids"]:
                    exact += exact_taxes(amount, line)[each["rate_id"]]
                    tax += each["tax_minor"]
        whole = gross - half_up(gross - exact) if group["inclusive"] else half_up(exact)
        if abs(exact - int(exact)) != Fraction(1, 2):  # a tie may go to the even number
            check(whole, group["tax_minor"], "tax of a group")
        check(tax, group["tax_minor"], "taxes of a group")


def main(path):
    source = sys.stdin if path == "-" else open(path, encoding="utf-8")
    with source:
        invoice = json.load(source)
    total, charges = 0, {}
    for n, line in enumerate(invoice["lines"], start=1):
        told = line["derivation"]
        amount, tax = discounted(told), sum(each["tax_minor"] for each in told["taxes"])
        net = amount - told["tax_included_minor"]
        check((net, tax), (line["net_minor"], line["tax_minor"]), f"line {n}")
        total += net + tax
        if line["kind"] == "charge" and told["taxes"]:
            charges[n] = (amount, told)
    for rounded in invoice["inputs"].get("taxes", ()):
        check_groups(rounded["groups"], charges)
    stated = invoice["total_minor"] - invoice.get("credited_minor", 0)
    print(f"total {total} computed, {stated} stated")
    return 0 if total == stated else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "-"))
    except ValueError as wrong:
        print(wrong)
        sys.exit(1)
