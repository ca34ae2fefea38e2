"""How invoices are issued: a tenant's settings, a customer's terms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, ConfigDict, Field
from sqlalchemy import Row

from subledger.platform.http.fields import CurrencyCode, Strict

MOST_DRAFT_S = 30 * 86_400
MOST_NET_DAYS = 365
MOST_MINIMUM_MINOR = 10**9


def _few(minimums: dict[str, int]) -> dict[str, int]:
    if len(minimums) > 50:
        raise ValueError("at most 50 currencies")
    return minimums


_Minimum = Annotated[int, Field(strict=True, ge=0, le=MOST_MINIMUM_MINOR)]


class InvoiceSettings(Strict):
    """When renewals' invoices become final, and which are not worth a document."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"draft_s": 86400, "zero_invoices": "skip", "minimums_minor": {"EUR": 100}}
            ]
        }
    )

    draft_s: Annotated[int, Field(strict=True, ge=0, le=MOST_DRAFT_S)] = Field(
        0, description="How long (seconds) the invoice of a renewal waits as a draft."
    )
    zero_invoices: Literal["issue", "skip"] = Field(
        "issue",
        description="`skip`: an invoice of zero gets no number and is told to nobody.",
    )
    minimums_minor: Annotated[dict[CurrencyCode, _Minimum], AfterValidator(_few)] = Field(
        default_factory=dict,
        description="A renewal's invoice below this amount of its currency is carried forward:"
        " it waits as a draft for the next renewal.",
    )

    @classmethod
    def of(cls, row: Row[Any] | None) -> InvoiceSettings:
        if row is None:
            return cls.model_validate({})
        return cls(
            draft_s=row.draft_s,
            zero_invoices=row.zero_invoices,
            minimums_minor=msgspec.json.decode(row.minimums),
        )


class InvoiceTerms(Strict):
    """How a customer's invoices are issued and paid."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"net_days": 30, "consolidate": True}]}
    )

    net_days: Annotated[int, Field(strict=True, ge=0, le=MOST_NET_DAYS)] = Field(
        0,
        description="Days from the invoice to its due date. It is collected then; a subscription"
        " bought on terms is active at once.",
    )
    consolidate: bool = Field(False, description="Renewals that fall together share one invoice.")
