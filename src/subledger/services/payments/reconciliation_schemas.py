"""Bodies and answers of reconciliations and payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from pydantic import Field
from sqlalchemy import Row

from subledger.platform.http.fields import Flag, IdOf, Strict, Timestamp
from subledger.services.payments.schemas import ConnectionId

if TYPE_CHECKING:  # a type checker sees what a field holds
    ReconciliationId = UUID
    PayoutId = UUID
else:
    ReconciliationId = IdOf("rec")
    PayoutId = IdOf("po")

_ID = "01h455vb4pex5vsknk084sn02q"
_ASKED: Any = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
_BALANCE: Any = {
    "currency": "EUR",
    "provider_minor": 4998,
    "clearing_minor": 4998,
    "explained_minor": 0,
    "gap_minor": 0,
}
_RUN: Any = {
    "id": f"rec_{_ID}",
    "connection_id": f"conn_{_ID}",
    "origin": "daily",
    "since_at": "2026-03-01T00:00:00Z",
    "until_at": "2026-03-02T00:00:00Z",
    "status": "done",
    "counts": {"entries": 5, "settled": 0, "adopted": 0, "differences": 0},
    "balances": [_BALANCE],
    "code": None,
    "created_at": "2026-03-02T01:00:00Z",
    "finished_at": "2026-03-02T01:00:00Z",
}
_PAYOUT: Any = {
    "id": f"po_{_ID}",
    "connection_id": f"conn_{_ID}",
    "provider_ref": "po_1",
    "amount_minor": 1912,
    "currency": "EUR",
    "gross_minor": 2000,
    "fee_minor": 88,
    "difference_minor": 0,
    "paid_at": "2026-03-02T00:00:00Z",
    "booked_at": "2026-03-02T00:00:00Z",
}


class NewReconciliation(Strict):
    """The time to be compared."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_ASKED]}}
    since: Timestamp | None = Field(
        default=None, description="Left out: a day before the end of the last one that finished."
    )
    until: Timestamp | None = Field(default=None, description="Left out: now.")


class DailyReconciliation(Strict):
    """Whether a connection is compared with its provider's list every day."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [{"daily": True}]}}
    daily: Flag = Field(description="An hour after midnight (UTC), up to midnight.")


class Balance(Strict):
    """What the provider holds of one currency, and what the books say (minor units)."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_BALANCE]}}
    currency: str
    provider_minor: int = Field(description="What the provider says that it held, before fees.")
    clearing_minor: int = Field(description="What is booked as held by it.")
    explained_minor: int = Field(
        description="What its list has and ours has not, less the other way round: what is on its"
        " way, and open differences."
    )
    gap_minor: int = Field(
        description="What nothing explains. A gap that two comparisons find becomes a work item."
    )


class Reconciliation(Strict):
    """A comparison of the provider's list with ours."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_RUN]}}
    id: ReconciliationId
    connection_id: ConnectionId
    origin: Literal["daily", "asked", "payout"]
    since_at: Timestamp
    until_at: Timestamp
    status: Literal["running", "done", "failed"]
    counts: dict[str, int] = Field(
        description="`entries` that the provider listed, `compared` of ours, `settled` (open here,"
        " captured there: asked about), `adopted` (captured there, unknown here: booked),"
        " `refunds_asked`, `disputes_asked`, `payouts` booked, `differences` opened,"
        " `closed` because both agree."
    )
    balances: list[Balance]
    code: str | None = Field(description="Why it waits or failed.")
    created_at: Timestamp
    finished_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> Reconciliation:
        balances = msgspec.json.decode(row.balances)
        over = row.phase in {"done", "failed"}
        return cls(
            id=row.id,
            connection_id=row.connection_id,
            origin=row.origin,
            since_at=row.since_at,
            until_at=row.until_at,
            status=row.phase if over else "running",
            counts=msgspec.json.decode(row.counts),
            balances=[Balance(currency=name, **each) for name, each in sorted(balances.items())],
            code=row.code,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


class Payout(Strict):
    """Money that the provider sent to the bank, and what it is made of."""

    model_config = Strict.model_config | {"json_schema_extra": {"examples": [_PAYOUT]}}
    id: PayoutId
    connection_id: ConnectionId
    provider_ref: str
    amount_minor: int
    currency: str
    gross_minor: int | None = Field(description="Captures less what went back; null: not matched.")
    fee_minor: int | None
    difference_minor: int | None = Field(
        description="Rounding or exchange: gross less fees less what was paid out."
    )
    paid_at: Timestamp
    booked_at: Timestamp | None

    @classmethod
    def of(cls, row: Row[Any]) -> Payout:
        return cls(
            id=row.id,
            connection_id=row.connection_id,
            provider_ref=row.provider_ref,
            amount_minor=row.amount_minor,
            currency=row.currency,
            gross_minor=row.gross_minor,
            fee_minor=row.fee_minor,
            difference_minor=row.difference_minor,
            paid_at=row.paid_at,
            booked_at=row.booked_at,
        )
