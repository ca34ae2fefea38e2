"""Posting: the transfers of a batch and the customers' balances that follow from them.

Every posting is a set of transfers, each of which balances by itself (ARCHITECTURE 8). A
customer's accounts are ``receivable:{customer}``, ``credit:{customer}``, ``unapplied:{customer}``;
only those keep a balance, because one hot row per tenant would cap a whole run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from subledger.core.ledger import Transfer
from subledger.platform.db import Tx
from subledger.services.billing.store import postings

CUSTOMER_LEDGERS = ("receivable", "credit", "unapplied")


@dataclass(frozen=True, slots=True)
class Posting:
    """What one business fact does to the books. ``kind`` names the fact (``finalized``, ``paid``,
    ``unapplied``, ``voided``, ``written_off``, ``applied``, ``recognized``). What is recognized of
    many customers' lines at once has no ``account_id``."""

    tenant_id: UUID
    account_id: UUID | None
    invoice_id: UUID | None
    kind: str
    occurred_at: datetime
    transfers: Sequence[Transfer]


async def post(tx: Tx, given: Iterable[Posting]) -> None:
    """Write the transfers of all postings and add them to the customers' balances.

    The accounts are locked. A posting without transfers (a zero amount) leaves no trace.
    """
    rows: list[dict[str, Any]] = []
    changes: dict[tuple[UUID, UUID, str, str], int] = {}
    for posting in given:
        ledger_tx = tx.ids.new()
        for n, transfer in enumerate(posting.transfers, start=1):
            rows.append(
                {
                    "tenant_id": posting.tenant_id,
                    "ledger_tx": ledger_tx,
                    "n": n,
                    "kind": posting.kind,
                    "account_id": posting.account_id,
                    "invoice_id": posting.invoice_id,
                    "debit_account": transfer.debit,
                    "credit_account": transfer.credit,
                    "amount_minor": transfer.amount_minor,
                    "currency": transfer.currency,
                    "occurred_at": posting.occurred_at,
                }
            )
            for name, change in (
                (transfer.debit, transfer.amount_minor),
                (transfer.credit, -transfer.amount_minor),
            ):
                ledger = name.partition(":")[0]
                if ledger in CUSTOMER_LEDGERS:
                    assert posting.account_id is not None, "a customer's ledger has a customer"
                    key = (posting.tenant_id, posting.account_id, ledger, transfer.currency)
                    changes[key] = changes.get(key, 0) + change
    await postings.insert_transfers(tx, rows)
    await postings.add_to_balances(tx, changes)
