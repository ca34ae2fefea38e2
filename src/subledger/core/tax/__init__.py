"""Taxes of an invoice's lines: which rates hold, what they come to, what a credit gives back.

Three steps, each pure: ``decide`` picks the rates and says why, ``compute`` turns lines and rates
into whole minor units that add up, ``credit_tax`` gives a stored tax back bit by bit. Whether a
VAT id is valid is asked outside; the core takes the answer. A provider that decides by itself
(a port of the service, not of the core) returns the same ``Decision``, so that ``compute`` and
what is stored stay as they are.
"""

from __future__ import annotations

from subledger.core.tax.amounts import (
    DocumentTax,
    LineTax,
    RateTax,
    RateTotal,
    Rounding,
    TaxLine,
    Ties,
    compute,
)
from subledger.core.tax.credits import CreditTax, StoredTax, credit_tax
from subledger.core.tax.decisions import Buyer, Decision, Reason, Seller, decide
from subledger.core.tax.places import EU_MEMBERS, Place, in_eu
from subledger.core.tax.rates import Rate, RateTable, Rule, Treatment

__all__ = [
    "EU_MEMBERS",
    "Buyer",
    "CreditTax",
    "Decision",
    "DocumentTax",
    "LineTax",
    "Place",
    "Rate",
    "RateTable",
    "RateTax",
    "RateTotal",
    "Reason",
    "Rounding",
    "Rule",
    "Seller",
    "StoredTax",
    "TaxLine",
    "Ties",
    "Treatment",
    "compute",
    "credit_tax",
    "decide",
    "in_eu",
]
