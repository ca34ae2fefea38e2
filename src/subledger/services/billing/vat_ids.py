"""EU VAT ids: their form and check digits, without asking anyone (docs/adr/0008-tax.md)."""

from __future__ import annotations

from stdnum.eu import vat
from stdnum.exceptions import ValidationError

from subledger.core.tax import EU_MEMBERS

FORMAT = "format"
"""How an id was checked: by form and check digits, not whether it is in use."""
MOST_LETTERS = 40
_PREFIXES = {"GR": "EL"}
_COUNTRIES = {"EL": "GR", "XI": "GB"}


class InvalidVatId(ValueError):
    """The text is not a VAT id of an EU member or of Northern Ireland."""


def normalized(text: str) -> str:
    """The id without blanks and separators, in capitals, Greek ones with ``EL``: ``ATU57194903``.

    Raises InvalidVatId, with what is wrong.
    """
    if len(text) > MOST_LETTERS:
        raise InvalidVatId(f"it has more than {MOST_LETTERS} characters")
    letters = "".join(text.split()).upper()
    prefix = letters[:2]
    if prefix in {"EU", "IM"}:
        # Numbers of the one-stop shop: they are for filing, and no buyer is liable by them.
        raise InvalidVatId(f"{prefix} is not a member of the EU")
    if not prefix.isalpha() or country_of(prefix) not in {*EU_MEMBERS, "GB"} or prefix == "GB":
        raise InvalidVatId("it begins with the two letters of an EU member, such as DE or EL")
    try:
        found = vat.validate(letters)
    except ValidationError as refused:
        raise InvalidVatId(_said(refused)) from refused
    return _PREFIXES.get(found[:2], found[:2]) + found[2:]


def country_of(vat_id: str) -> str:
    """The ISO 3166 country of an id: GR of ``EL…``, GB of ``XI…`` (Northern Ireland)."""
    return _COUNTRIES.get(vat_id[:2], vat_id[:2])


def _said(refused: ValidationError) -> str:
    text = str(refused).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"
