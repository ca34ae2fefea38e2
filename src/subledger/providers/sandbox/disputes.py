"""Disputes of captured charges: money that the payer's bank takes back until they are decided.

Refunds and disputes of a capture together never exceed it. What a dispute took is out of the
balance from the moment it is opened; won, it comes back; lost after all, it is taken again. The fee
comes back only if the close says so. Each movement is an entry of the journal. A dispute that a
test card opens later holds its money against refunds from the capture on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row

from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.providers.sandbox import disputes_store, store
from subledger.providers.sandbox.callbacks import Owed, owe

EVIDENCE_WITHIN = timedelta(days=14)
FEE_MINOR = 1500


@dataclass(frozen=True, slots=True)
class Wanted:
    """A dispute as a test asks for it. ``amount_minor`` None is all that is left of the capture;
    ``evidence_due_at`` None is in a fortnight."""

    tenant_id: UUID
    attempt_id: str
    amount_minor: int | None
    reason: str
    fee_minor: int
    evidence_due_at: datetime | None


class NoCapture(Exception):
    """The attempt has captured nothing."""


class TooMuch(Exception):
    """More than is left of the capture."""


class Unknown(Exception):
    """There is no such dispute, or it is not opened yet."""


class Closed(Exception):
    """The dispute is decided so already."""


async def open_one(tx: Tx, wanted: Wanted) -> dict[str, Any]:
    """Dispute a capture now. Raises NoCapture, TooMuch."""
    tenant = wanted.tenant_id
    await store.lock_merchant(tx, tenant)
    now = await tx.now(tenant)
    charges = await store.charges_of(tx, tenant, wanted.attempt_id)
    charge = next((each for each in charges if _captured(each, now)), None)
    if charge is None:
        raise NoCapture
    left = await _left(tx, charge)
    amount = left if wanted.amount_minor is None else wanted.amount_minor
    if not 0 < amount <= left:
        raise TooMuch
    row = _row(charge._asdict(), tx.ids.new(), at=now) | {
        "amount_minor": amount,
        "reason": wanted.reason,
        "fee_minor": wanted.fee_minor,
        "evidence_due_at": wanted.evidence_due_at or now + EVIDENCE_WITHIN,
    }
    await disputes_store.add(tx, [row])
    await disputes_store.add_entries(tx, _moved(tx, None, row, now))
    await owe(tx, [_told(row, "dispute.opened", now)])
    return told(row)


async def _left(tx: Tx, charge: Row[Any]) -> int:
    """What neither a refund nor a dispute has taken of a charge."""
    refunds = await store.refunds_of(tx, charge.tenant_id, charge.attempt_id)
    gone = sum(each.amount_minor for each in refunds if each.status == "succeeded")
    held = held_minor(await disputes_store.of_attempt(tx, charge.tenant_id, charge.attempt_id))
    return int(charge.amount_minor - gone - held)


async def open_later(tx: Tx, charges: Sequence[tuple[Mapping[str, Any], timedelta]]) -> None:
    """Disputes of whole charges that were just captured, each opened after its time."""
    rows = [_row(charge, tx.ids.new(), at=charge["at"] + after) for charge, after in charges]
    await disputes_store.add(tx, rows)
    await disputes_store.add_entries(
        tx, [each for row in rows for each in _moved(tx, None, row, row["opened_at"])]
    )
    await owe(tx, [_told(row, "dispute.opened", row["opened_at"]) for row in rows])


async def close(
    tx: Tx,
    tenant_id: UUID,
    dispute_id: UUID,
    outcome: Literal["won", "lost"],
    *,
    fee_minor: int | None,
) -> dict[str, Any]:
    """Decide a dispute; ``fee_minor`` is what of the fee stands (None: all).

    The bank may decide again, with another outcome or fee. Raises Unknown, Closed (nothing would
    change), TooMuch (what was won has been refunded since).
    """
    await store.lock_merchant(tx, tenant_id)
    now = await tx.now(tenant_id)
    found = await disputes_store.lock(tx, tenant_id, dispute_id)
    if found is None or found.opened_at > now:
        raise Unknown
    fee = found.fee_minor if fee_minor is None else fee_minor
    if (found.outcome, found.fee_minor) == (outcome, fee):
        raise Closed
    if (found.outcome, outcome) == ("won", "lost"):
        charges = await store.charges_of(tx, tenant_id, found.attempt_id)
        (charge,) = [each for each in charges if each.id == found.charge_id]
        if found.amount_minor > await _left(tx, charge):
            raise TooMuch
    row = found._asdict() | {"outcome": outcome, "fee_minor": fee, "closed_at": now}
    await disputes_store.close(tx, [row])
    await disputes_store.add_entries(tx, _moved(tx, found._asdict(), row, now))
    await owe(tx, [_told(row, "dispute.closed", now)])
    return told(row)


async def listed(tx: Tx, tenant_id: UUID, attempt_id: str) -> list[dict[str, Any]]:
    """All opened disputes of an attempt's capture, the oldest first."""
    now = await tx.now(tenant_id)
    rows = await disputes_store.of_attempt(tx, tenant_id, attempt_id)
    return [told(row._mapping) for row in rows if row.opened_at <= now]


def held_minor(rows: Iterable[Row[Any]]) -> int:
    """What disputes keep of their capture: all that are not won."""
    return sum(row.amount_minor for row in rows if row.outcome != "won")


def _captured(charge: Row[Any], now: datetime) -> bool:
    return charge.status == "succeeded" and (charge.settles_at is None or charge.settles_at <= now)


def _row(charge: Mapping[str, Any], dispute_id: UUID, *, at: datetime) -> dict[str, Any]:
    """A dispute of the whole charge."""
    return {
        "tenant_id": charge["tenant_id"],
        "id": dispute_id,
        "charge_id": charge["id"],
        "attempt_id": charge["attempt_id"],
        "amount_minor": charge["amount_minor"],
        "currency": charge["currency"],
        "reason": "fraudulent",
        "fee_minor": FEE_MINOR,
        "outcome": None,
        "evidence_due_at": at + EVIDENCE_WITHIN,
        "opened_at": at,
        "closed_at": None,
    }


def _moved(
    tx: Tx, before: Mapping[str, Any] | None, row: Mapping[str, Any], at: datetime
) -> list[dict[str, Any]]:
    """The journal's entries of a dispute that was ``before`` and is ``row`` now."""
    kept = 0 if before is None or before["outcome"] == "won" else before["amount_minor"]
    keeps = 0 if row["outcome"] == "won" else row["amount_minor"]
    fee = row["fee_minor"] - (0 if before is None else before["fee_minor"])
    moved = {
        "dispute": keeps - kept,
        "dispute_won": kept - keeps,
        "dispute_fee": fee,
        "dispute_fee_back": -fee,
    }
    return [
        {
            "tenant_id": row["tenant_id"],
            "id": tx.ids.new(),
            "dispute_id": row["id"],
            "attempt_id": row["attempt_id"],
            "kind": kind,
            "amount_minor": amount,
            "currency": row["currency"],
            "at": at,
        }
        for kind, amount in moved.items()
        if amount > 0
    ]


def _told(row: Mapping[str, Any], kind: str, at: datetime) -> Owed:
    data = {
        "attempt_id": row["attempt_id"],
        "charge_id": ids.text("ch", row["charge_id"]),
        "dispute_id": ids.text("dp", row["id"]),
    }
    return Owed(row["tenant_id"], kind, row["id"], data, at)


def told(row: Any) -> dict[str, Any]:
    """A row as the interface says it."""
    return {
        "id": ids.text("dp", row["id"]),
        "attempt_id": row["attempt_id"],
        "status": row["outcome"] or "opened",
        "reason": row["reason"],
        "amount_minor": row["amount_minor"],
        "currency": row["currency"],
        "fee_minor": row["fee_minor"],
        "evidence_due_at": row["evidence_due_at"].isoformat(),
        "at": row["opened_at"].isoformat(),
    }
