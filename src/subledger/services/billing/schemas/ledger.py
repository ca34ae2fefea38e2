"""The trial balance and work items."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from pydantic import ConfigDict, Field
from sqlalchemy import Row

from subledger.platform.http.fields import Strict, Timestamp
from subledger.services.billing.schemas.invoices import Reason
from subledger.services.billing.schemas.references import CustomerId, WorkItemId
from subledger.services.billing.usecases.trial_balance import CurrencySums


class LedgerAccount(Strict):
    """Debits and credits of one ledger account (minor units)."""

    account: str
    debit_minor: int
    credit_minor: int
    balance_minor: int = Field(description="debits − credits")


class TrialBalanceCurrency(Strict):
    """The accounts of one currency. Their balances sum to ``balance_minor``, which is zero."""

    currency: str
    accounts: list[LedgerAccount]
    debit_minor: int
    credit_minor: int
    balance_minor: int

    @classmethod
    def of(cls, sums: CurrencySums) -> TrialBalanceCurrency:
        return cls(
            currency=sums.currency,
            accounts=[
                LedgerAccount(
                    account=each.account,
                    debit_minor=each.debit_minor,
                    credit_minor=each.credit_minor,
                    balance_minor=each.debit_minor - each.credit_minor,
                )
                for each in sums.accounts
            ],
            debit_minor=sums.debit_minor,
            credit_minor=sums.credit_minor,
            balance_minor=sums.debit_minor - sums.credit_minor,
        )


class TrialBalance(Strict):
    """All ledger accounts by currency; customers' accounts of a kind are shown as one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "currencies": [
                        {
                            "currency": "EUR",
                            "accounts": [
                                {
                                    "account": "deferred_revenue",
                                    "debit_minor": 0,
                                    "credit_minor": 999,
                                    "balance_minor": -999,
                                },
                                {
                                    "account": "receivable",
                                    "debit_minor": 999,
                                    "credit_minor": 0,
                                    "balance_minor": 999,
                                },
                            ],
                            "debit_minor": 999,
                            "credit_minor": 999,
                            "balance_minor": 0,
                        }
                    ]
                }
            ]
        }
    )

    currencies: list[TrialBalanceCurrency]


class CloseWorkItem(Strict):
    """What was decided."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "money was sent back"}]})

    reason: Reason


class RepairWorkItem(Strict):
    """What is to be done; left out, it is the one right thing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"action": "succeeded", "reference": "statement of 2 March, line 7"}]
        }
    )

    action: Literal["ask", "succeeded", "failed", "assign", "reverse", "fail", "correct"] | None = (
        Field(
            default=None,
            description="`ask` the provider once more, or settle an unknown payment or refund by"
            " hand as `succeeded` or `failed` (with a reference); `assign` a capture to a customer;"
            " `reverse` a payment that never arrived; `fail` a refund that was never made;"
            " `correct` what is booked to what was captured.",
        )
    )
    reference: Reason | None = Field(default=None, description="What it is known from.")
    customer_id: CustomerId | None = Field(
        default=None, description="Whose money a capture without an owner is."
    )


class WorkItem(Strict):
    """Something that a person has to decide."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "wrk_01h455vb4pex5vsknk084sn02q",
                    "kind": "payment_unapplied",
                    "status": "open",
                    "customer_id": "cus_01h455vb4pex5vsknk084sn02q",
                    "data": {"amount_minor": 999, "currency": "EUR"},
                    "opened_at": "2026-03-01T12:00:00Z",
                    "closed_at": None,
                    "closed_by": None,
                    "close_reason": None,
                }
            ]
        }
    )

    id: WorkItemId
    kind: str
    status: str
    customer_id: CustomerId | None = Field(description="null: it is about the whole tenant.")
    data: dict[str, Any]
    opened_at: Timestamp
    closed_at: Timestamp | None
    closed_by: str | None
    close_reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> WorkItem:
        return cls(
            id=row.id,
            kind=row.kind,
            status="open" if row.closed_at is None else "closed",
            customer_id=row.account_id,
            data=msgspec.json.decode(row.data),
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            closed_by=row.closed_by,
            close_reason=row.close_reason,
        )
