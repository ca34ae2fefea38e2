"""What is known of a customer for taxes: the place, the VAT id, an exemption, agreed rates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from subledger.core.errors import InvalidTax
from subledger.core.tax import Place
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems, vat_ids
from subledger.services.billing.store import taxes

FIELDS = frozenset({"country", "region", "tax_id", "tax_exempt_reason", "tax_rate_ids"})
"""Columns of an account; empty text and no rates say that nothing is known."""


async def checked(
    tx: Tx, values: Mapping[str, Any], changed: Mapping[str, Any], *, at: datetime
) -> dict[str, Any]:
    """The columns to write for a customer of whom ``changed`` is new; ``values`` is the customer
    with it. The VAT id comes back in its normal form, with when and how it was checked.

    Raises tax_id_invalid, unknown_reference (a rate), and invalid_request for a country or region
    that is none.
    """
    if not FIELDS & changed.keys():
        return {}
    columns: dict[str, Any] = {}
    _check_place(values["country"], values["region"])
    if {"country", "tax_id"} & changed.keys() and values["tax_id"]:
        columns["tax_id"] = _check_id(values["tax_id"], values["country"], changed)
    if "tax_id" in changed:
        known = bool(values["tax_id"])
        columns["tax_id_check"] = vat_ids.FORMAT if known else ""
        columns["tax_id_checked_at"] = at if known else None
    if "tax_rate_ids" in changed:
        await _check_rates(tx, values["tenant_id"], values["tax_rate_ids"])
    return columns


def place_of(country: str, region: str | None, *, pointer: str = "") -> Place:
    """A place as the core sees it. Raises invalid_request with a pointer below ``pointer``."""
    try:
        return Place(country, region or None)
    except InvalidTax as refused:
        raise Problem(
            "invalid_request",
            pointer=f"{pointer}{refused.pointer}",
            detail=f"{refused.detail}.",
            fix=refused.fix,
        ) from refused


def vat_id_of(text: str, country: str, *, pointer: str) -> str:
    """A VAT id in its normal form. Raises tax_id_invalid, also for another country's."""
    try:
        found = vat_ids.normalized(text)
    except vat_ids.InvalidVatId as refused:
        raise Problem(
            problems.TAX_ID_INVALID, pointer=pointer, detail=f"The VAT id is not valid: {refused}."
        ) from refused
    of, home = vat_ids.country_of(found), Place(country).for_tax.country if country else ""
    if of != home:
        raise Problem(
            problems.TAX_ID_INVALID,
            pointer=pointer,
            detail=f"{found} is a VAT id of {of}, and the country is {home or 'not given'}.",
        )
    return found


def rates_text(rate_ids: Any) -> str:
    """Agreed rates as the store takes them."""
    return msgspec.json.encode([str(each) for each in rate_ids]).decode()


def _check_place(country: str, region: str) -> None:
    if not country and not region:
        return
    if not country:
        raise Problem(
            "invalid_request", pointer="/region", detail="A region comes with its country.",
            fix="Give country too, or remove the region.",
        )  # fmt: skip
    place_of(country, region)


def _check_id(text: str, country: str, changed: Mapping[str, Any]) -> str:
    return vat_id_of(text, country, pointer="/tax_id" if "tax_id" in changed else "/country")


async def _check_rates(tx: Tx, tenant_id: UUID, rate_ids: list[UUID]) -> None:
    wanted = [(tenant_id, each) for each in rate_ids]
    found = await taxes.rates(tx, wanted) if wanted else {}
    for n, key in enumerate(wanted):
        if key not in found:
            raise Problem(
                problems.UNKNOWN_REFERENCE,
                pointer=f"/tax_rate_ids/{n}",
                detail="There is no such tax rate.",
            )
