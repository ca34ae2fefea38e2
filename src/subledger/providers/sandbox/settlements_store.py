"""SQL of settlements: the journal in order, what is not paid out, payouts, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Row

from subledger.platform.bulk import Insert
from subledger.platform.db import Tx, sql
from subledger.providers.sandbox import tables

PAYOUT = "provider_payout"
"""The kind of the due moment at which a merchant is paid out."""

SIGNS = {
    "capture": 1,
    "refund": -1,
    "dispute": -1,
    "dispute_won": 1,
    "dispute_fee": -1,
    "dispute_fee_back": 1,
}
"""What an entry adds to what is held for a merchant, before payouts."""

_ADDED = ", ".join(f"'{kind}'" for kind, sign in SIGNS.items() if sign > 0)
_ADD_SUBJECTS = Insert(
    tables.subjects,
    [c.name for c in tables.subjects.c],
    conflict="(tenant_id, attempt_id) DO NOTHING",
)
_SETTINGS = sql(
    "SELECT s.fee_basis_points, s.fee_fixed_minor, s.pays_out_daily, s.payout_difference_minor"
    " FROM sandbox.settings s WHERE s.tenant_id = :tenant"
)
_SET_SETTINGS = Insert(
    tables.settings,
    [c.name for c in tables.settings.c],
    conflict="(tenant_id) DO UPDATE SET fee_basis_points = excluded.fee_basis_points,"
    " fee_fixed_minor = excluded.fee_fixed_minor, pays_out_daily = excluded.pays_out_daily,"
    " payout_difference_minor = excluded.payout_difference_minor",
)
_ENTRY = (
    "e.id, e.kind, e.attempt_id, e.refund_id, e.amount_minor, e.currency, e.at,"
    " coalesce(o.fee_minor, p.fee_minor) AS fee_minor, o.payout_id, j.customer_id, j.invoice_id"
)
_JOINS = (
    " LEFT JOIN sandbox.paid_out o ON o.tenant_id = e.tenant_id AND o.entry_id = e.id"
    " LEFT JOIN sandbox.payouts p ON p.tenant_id = e.tenant_id AND p.id = e.id"
    " LEFT JOIN sandbox.subjects j ON j.tenant_id = e.tenant_id AND j.attempt_id = e.attempt_id"
)
_LISTED = sql(
    f"SELECT {_ENTRY} FROM (SELECT * FROM sandbox.entries r WHERE r.tenant_id = :tenant"
    " AND r.at >= :since AND r.at < :until AND r.at <= :now AND (r.at, r.id) > (:after_at,"
    f" :after_id) ORDER BY r.at, r.id LIMIT :limit) AS e{_JOINS} ORDER BY e.at, e.id"
)
_OF_PAYOUT = sql(
    f"SELECT {_ENTRY} FROM (SELECT r.* FROM sandbox.paid_out w JOIN sandbox.entries r"
    " ON r.tenant_id = w.tenant_id AND r.id = w.entry_id WHERE w.tenant_id = :tenant"
    " AND w.payout_id = :payout AND (r.at, r.id) > (:after_at, :after_id)"
    f" ORDER BY r.at, r.id LIMIT :limit) AS e{_JOINS} ORDER BY e.at, e.id"
)
_UNPAID = sql(
    "SELECT e.id, e.kind, e.amount_minor, e.currency FROM sandbox.entries e"
    " LEFT JOIN sandbox.paid_out o ON o.tenant_id = e.tenant_id AND o.entry_id = e.id"
    " WHERE e.tenant_id = :tenant AND e.kind <> 'payout' AND e.at < :until AND o.entry_id IS NULL"
    " ORDER BY e.at, e.id"
)
_BALANCE = sql(
    f"SELECT e.currency, sum(CASE WHEN e.kind IN ({_ADDED}) THEN e.amount_minor"
    " ELSE -e.amount_minor END)::bigint AS amount_minor FROM sandbox.entries e"
    " LEFT JOIN sandbox.paid_out o ON o.tenant_id = e.tenant_id AND o.entry_id = e.id"
    " LEFT JOIN sandbox.payouts p"
    " ON p.tenant_id = o.tenant_id AND p.id = o.payout_id AND p.at <= :until"
    " WHERE e.tenant_id = :tenant AND e.kind <> 'payout' AND e.at <= :until AND p.id IS NULL"
    " GROUP BY e.currency ORDER BY e.currency"
)
_ADD_PAYOUTS = Insert(tables.payouts, [c.name for c in tables.payouts.c])
_ADD_PAID_OUT = Insert(tables.paid_out, [c.name for c in tables.paid_out.c])
_PAYOUTS = sql(
    "SELECT p.id, p.amount_minor, p.fee_minor, p.currency, p.at FROM sandbox.payouts p"
    " WHERE p.tenant_id = :tenant ORDER BY p.at DESC, p.id DESC LIMIT :limit"
)


class Subject(Protocol):
    """A charge with what it is for."""

    @property
    def tenant_id(self) -> UUID: ...
    @property
    def attempt_id(self) -> str: ...
    @property
    def customer_id(self) -> str | None: ...
    @property
    def invoice_id(self) -> str | None: ...


async def add_subjects(tx: Tx, charged: Sequence[Subject]) -> None:
    """Keep what attempts are for, where the merchant said it."""
    rows = {
        (each.tenant_id, each.attempt_id): {
            "tenant_id": each.tenant_id,
            "attempt_id": each.attempt_id,
            "customer_id": each.customer_id,
            "invoice_id": each.invoice_id,
        }
        for each in charged
        if each.customer_id or each.invoice_id
    }
    await _ADD_SUBJECTS(tx, [rows[key] for key in sorted(rows)])


async def add_subject(
    tx: Tx, tenant: UUID, attempt: str, *, customer_id: str | None, invoice_id: str | None
) -> None:
    """Keep what one attempt is for."""
    if customer_id or invoice_id:
        about = {"customer_id": customer_id, "invoice_id": invoice_id}
        await _ADD_SUBJECTS(tx, [{"tenant_id": tenant, "attempt_id": attempt, **about}])


async def settings(tx: Tx, tenant: UUID) -> Row[Any] | None:
    """The merchant's fees and payouts; None: no fee, and nothing is paid out."""
    rows = await tx.rows(_SETTINGS, tenant=tenant)
    return rows[0] if rows else None


async def set_settings(tx: Tx, tenant: UUID, values: Mapping[str, Any]) -> None:
    await _SET_SETTINGS(tx, [{"tenant_id": tenant, **values}])


async def listed(
    tx: Tx,
    tenant: UUID,
    *,
    since: datetime,
    until: datetime,
    after: tuple[datetime, UUID],
    limit: int,
) -> Sequence[Row[Any]]:
    """The journal's entries from ``since``, before ``until``, in order; none of the future."""
    return await tx.rows(
        _LISTED,
        tenant=tenant,
        since=since,
        until=until,
        now=await tx.now(tenant),
        after_at=after[0],
        after_id=after[1],
        limit=limit,
    )


async def of_payout(
    tx: Tx, tenant: UUID, payout: UUID, *, after: tuple[datetime, UUID], limit: int
) -> Sequence[Row[Any]]:
    """What a payout is made of, in order."""
    return await tx.rows(
        _OF_PAYOUT,
        tenant=tenant,
        payout=payout,
        after_at=after[0],
        after_id=after[1],
        limit=limit,
    )


async def unpaid(tx: Tx, tenant: UUID, *, until: datetime) -> Sequence[Row[Any]]:
    """What happened before ``until`` and is in no payout."""
    return await tx.rows(_UNPAID, tenant=tenant, until=until)


async def balance(tx: Tx, tenant: UUID, *, until: datetime) -> dict[str, int]:
    """What the provider held for the merchant at ``until``, before fees, by currency."""
    rows = await tx.rows(_BALANCE, tenant=tenant, until=until)
    return {row.currency: row.amount_minor for row in rows if row.amount_minor}


async def add_payouts(
    tx: Tx, payouts: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]
) -> None:
    """Pay out, and say which entries that was."""
    await _ADD_PAYOUTS(tx, payouts)
    await _ADD_PAID_OUT(tx, entries)


async def payouts(tx: Tx, tenant: UUID, *, limit: int) -> Sequence[Row[Any]]:
    """Payouts from the newest."""
    return await tx.rows(_PAYOUTS, tenant=tenant, limit=limit)
