"""Recompute an invoice's total from its explanation, importing nothing of Subledger.

usage: python examples/recompute_invoice.py explained.json     (or - for standard input)

The explanation is the answer of GET /v1/invoices/{id}/explain. Every figure is computed again from
the steps: quantity times unit amount, one rounding half up (away from zero), discounts in their
order, tax. Prints what it found; exits 1 if a line or the total differs.
"""

import json
import sys
from fractions import Fraction


def half_up(value):
    size = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return size if value >= 0 else -size


def recompute(derivation):
    """Net and tax of a line in minor units, from its steps."""
    if derivation["steps"]:
        exact = sum(
            Fraction(step["quantity"]) * Fraction(step["unit_amount"])
            for step in derivation["steps"]
        ) * Fraction(derivation["fraction"])
    else:
        exact = Fraction(derivation["exact"])
    amount = half_up(exact)
    for discount in derivation["discounts"]:
        if discount["base_minor"] != amount:
            raise ValueError(f"a discount was taken off {discount['base_minor']}, not {amount}")
        if "percent" in discount:
            taken = half_up(amount * Fraction(discount["percent"]) / 100)
            if min(taken, amount) != discount["amount_minor"]:
                raise ValueError(f"{discount['percent']} % of {amount} is {taken}")
        amount -= discount["amount_minor"]
    return amount, half_up(amount * Fraction(derivation["tax_rate"]) / 100)


def main(path):
    source = sys.stdin if path == "-" else open(path, encoding="utf-8")
    with source:
        invoice = json.load(source)
    total = 0
    for line in invoice["lines"]:
        net, tax = recompute(line["derivation"])
        total += net + tax
        stated = line["net_minor"], line["derivation"]["tax_minor"]
        if (net, tax) != stated:
            print(f"line {line.get('n')}: net and tax {(net, tax)} computed, {stated} stated")
            return 1
    print(f"total {total} computed, {invoice['total_minor']} stated")
    return 0 if total == invoice["total_minor"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "-"))
