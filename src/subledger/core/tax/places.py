"""Where tax is due: ISO 3166 places, and which of them are the EU's for VAT."""

from __future__ import annotations

from dataclasses import dataclass

from subledger.core.errors import InvalidTax

_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU_MEMBERS = frozenset(_MEMBERS.split())
"""The members since 1 January 2021, as ISO 3166-1 codes. Source: Treaty on European Union, article
52, less the United Kingdom, whose transition ended on 31 December 2020 (OJ L 29, 31.1.2020)."""

# Directive 2006/112/EC, article 7: Monaco counts as France, the Isle of Man as the United Kingdom.
_COUNTS_AS = {"MC": "FR", "IM": "GB"}

# Directive 2006/112/EC, article 6, as far as ISO 3166-2 has codes: the Canary Islands, Ceuta,
# Melilla, Åland, Mount Athos and the French overseas departments (older and newer codes).
# Büsingen, Heligoland, Livigno and Campione d'Italia have none.
_APART = {
    "ES": "CN CE ML",
    "FI": "01",
    "FR": "GP MQ GF RE YT MF 971 972 973 974 976 978",
    "GR": "69",
}
_NOT_VAT_TERRITORY = frozenset(
    (country, region) for country, regions in _APART.items() for region in regions.split()
)
_NOT_ISO = {"EL": "GR", "UK": "GB"}
_MOST_REGION = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A country (ISO 3166-1 alpha-2) and, where it matters, a region (what follows the hyphen in
    its ISO 3166-2 code: ``CA`` of ``US-CA``). Raises InvalidTax for anything else, also for no
    country at all: an unknown place is not a place without tax.
    """

    country: str
    region: str | None = None

    def __post_init__(self) -> None:
        if not _is_country(self.country):
            raise InvalidTax(
                f"{self.country!r} is not an ISO 3166 country code",
                pointer="/country",
                fix=f"Use {_NOT_ISO.get(self.country, 'an upper-case code such as DE')}.",
            )
        if self.region is not None and not _is_region(self.region):
            raise InvalidTax(
                f"{self.region!r} is not the regional part of an ISO 3166-2 code",
                pointer="/region",
                fix='Use "CA" for US-CA.',
            )

    @property
    def apart(self) -> bool:
        """True where a member's country-wide rates do not hold."""
        return (self.country, self.region) in _NOT_VAT_TERRITORY

    @property
    def for_tax(self) -> Place:
        """The place whose tax law holds here: France for Monaco."""
        return Place(_COUNTS_AS[self.country]) if self.country in _COUNTS_AS else self


def in_eu(place: Place) -> bool:
    """True if the place is the EU's for VAT. Northern Ireland, which is for goods only, is not."""
    law = place.for_tax
    return law.country in EU_MEMBERS and not law.apart


def _is_country(code: str | None) -> bool:
    return (
        isinstance(code, str)
        and len(code) == 2
        and code.isascii()
        and code.isalpha()
        and code.isupper()
        and code not in _NOT_ISO
    )


def _is_region(code: str) -> bool:
    return (
        0 < len(code) <= _MOST_REGION and code.isascii() and code.isalnum() and code == code.upper()
    )
