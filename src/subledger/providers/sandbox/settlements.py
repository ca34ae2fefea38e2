"""What a merchant settles by: fees of captures, daily payouts, the listing's entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.providers.sandbox import settlements_store as settled
from subledger.providers.sandbox import store
from subledger.providers.sandbox.callbacks import Owed, owe

_DAY = timedelta(days=1)
_PREFIX = {
    "capture": "ch",
    "refund": "rf",
    "dispute": "de",
    "dispute_won": "de",
    "dispute_fee": "de",
    "dispute_fee_back": "de",
    "payout": "po",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What the provider keeps of a capture, and whether it pays out at each midnight (UTC, the
    tenant's clock). ``payout_difference_minor`` is what the next payouts are more than they should
    be, as after a conversion."""

    fee_basis_points: int = 0
    fee_fixed_minor: int = 0
    pays_out_daily: bool = False
    payout_difference_minor: int = 0

    def fee_minor(self, kind: str, amount_minor: int) -> int:
        """The fee of an entry, rounded half up; only captures cost anything."""
        if kind != "capture":
            return 0
        return (amount_minor * self.fee_basis_points + 5_000) // 10_000 + self.fee_fixed_minor


async def terms(tx: Tx, tenant_id: UUID) -> Terms:
    """The merchant's terms."""
    row = await settled.settings(tx, tenant_id)
    return Terms() if row is None else Terms(**row._mapping)


async def set_terms(tx: Tx, tenant_id: UUID, given: Mapping[str, Any]) -> Terms:
    """Change what is given; the first payout comes at the next midnight."""
    await store.lock_merchant(tx, tenant_id)
    before = await terms(tx, tenant_id)
    names = Terms.__dataclass_fields__
    values = {name: given.get(name, getattr(before, name)) for name in names}
    changed = Terms(
        fee_basis_points=int(values["fee_basis_points"]),
        fee_fixed_minor=int(values["fee_fixed_minor"]),
        pays_out_daily=bool(values["pays_out_daily"]),
        payout_difference_minor=int(values["payout_difference_minor"]),
    )
    if not 0 <= changed.fee_basis_points <= 10_000 or changed.fee_fixed_minor < 0:
        raise ValueError("a fee is between nothing and everything")
    await settled.set_settings(tx, tenant_id, {name: getattr(changed, name) for name in names})
    if changed.pays_out_daily and not before.pays_out_daily:
        await store.due.put(tx, [_next(tenant_id, await tx.now(tenant_id))])
    if before.pays_out_daily and not changed.pays_out_daily:
        await store.due.drop(tx, [(tenant_id, settled.PAYOUT, tenant_id)])
    return changed


def _next(tenant_id: UUID, now: datetime) -> Due:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    return Due(
        tenant_id=tenant_id,
        kind=settled.PAYOUT,
        id=tenant_id,
        account_id=tenant_id,
        due_at=midnight,
        rank=DUE_RANK[settled.PAYOUT],
    )


async def pay_out_due(tx: Tx, rows: Sequence[Due]) -> None:
    """Pay merchants out whose midnight has come, and set the next one."""
    for row in sorted(rows, key=lambda each: each.tenant_id):
        await store.lock_merchant(tx, row.tenant_id)
        now = await tx.now(row.tenant_id)
        agreed = await terms(tx, row.tenant_id)
        if not agreed.pays_out_daily:
            continue
        await _pay_out(tx, row.tenant_id, agreed, now=now, until=row.due_at)
        await store.due.put(tx, [_next(row.tenant_id, now)])


async def _pay_out(
    tx: Tx, tenant_id: UUID, agreed: Terms, *, now: datetime, until: datetime
) -> None:
    """One payout per currency of all that happened before ``until``; what would be nothing or less
    stays for the next one."""
    by_currency: dict[str, list[Row[Any]]] = {}
    for row in await settled.unpaid(tx, tenant_id, until=until):
        by_currency.setdefault(row.currency, []).append(row)
    payouts, entries, owed = [], [], []
    for currency, rows in sorted(by_currency.items()):
        fees = {row.id: agreed.fee_minor(row.kind, row.amount_minor) for row in rows}
        gross = sum(settled.SIGNS[row.kind] * row.amount_minor for row in rows)
        net = gross - sum(fees.values()) + agreed.payout_difference_minor
        if net <= 0:
            continue
        payout_id = tx.ids.new()
        payouts.append(
            {
                "tenant_id": tenant_id,
                "id": payout_id,
                "amount_minor": net,
                "fee_minor": sum(fees.values()),
                "currency": currency,
                "at": now,
            }
        )
        entries += [
            {
                "tenant_id": tenant_id,
                "entry_id": row.id,
                "payout_id": payout_id,
                "fee_minor": fees[row.id],
            }
            for row in rows
        ]
        owed.append(
            Owed(tenant_id, "payout.paid", payout_id, {"payout_id": ids.text("po", payout_id)}, now)
        )
    await settled.add_payouts(tx, payouts, entries)
    await owe(tx, owed)


def told(row: Row[Any], agreed: Terms) -> dict[str, Any]:
    """An entry as the interface says it; the fee of one that is not paid out is today's."""
    fee = row.fee_minor
    return {
        "id": ids.text(_PREFIX[row.kind], row.id),
        "kind": row.kind,
        "attempt_id": row.attempt_id,
        "refund_id": row.refund_id,
        "amount_minor": row.amount_minor,
        "fee_minor": agreed.fee_minor(row.kind, row.amount_minor) if fee is None else fee,
        "currency": row.currency,
        "at": row.at.isoformat(),
        "payout_id": None if row.payout_id is None else ids.text("po", row.payout_id),
        "metadata": {"customer_id": row.customer_id, "invoice_id": row.invoice_id},
    }
