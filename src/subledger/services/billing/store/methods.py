"""Which customers have a payment method that can be charged, learnt from payments' events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from subledger.platform.bulk import Insert, split
from subledger.platform.db import Tx, sql
from subledger.services.billing import tables
from subledger.services.billing.store.subscriptions import Key

_SAVE = Insert(
    tables.saved_methods,
    ["tenant_id", "account_id", "id"],
    conflict="(tenant_id, account_id, id) DO NOTHING",
)
_FORGET = sql(
    "DELETE FROM billing.saved_methods AS m"
    " USING unnest(CAST(:tenants AS uuid[]), CAST(:accounts AS uuid[]), CAST(:ids AS uuid[]))"
    " AS w(tenant_id, account_id, id)"
    " WHERE m.tenant_id = w.tenant_id AND m.account_id = w.account_id AND m.id = w.id"
)
_PAYING = sql(
    "SELECT w.tenant_id, w.id"
    " FROM unnest(CAST(:tenants AS uuid[]), CAST(:ids AS uuid[])) AS w(tenant_id, id)"
    " WHERE EXISTS (SELECT FROM billing.saved_methods m"
    " WHERE m.tenant_id = w.tenant_id AND m.account_id = w.id)"
)

Method = tuple[UUID, UUID, UUID]
"""``(tenant_id, account_id, id)``"""


async def save_methods(tx: Tx, given: Iterable[Method]) -> None:
    """Remember methods; one that is known already stays. The accounts are locked."""
    ordered = sorted(set(given), key=lambda each: tuple(part.bytes for part in each))
    await _SAVE(
        tx,
        [
            {"tenant_id": tenant, "account_id": account, "id": id_}
            for tenant, account, id_ in ordered
        ],
    )


async def forget_methods(tx: Tx, given: Sequence[Method]) -> None:
    """Forget methods that were detached. The accounts are locked."""
    await tx.run(
        _FORGET,
        tenants=[tenant for tenant, _, _ in given],
        accounts=[account for _, account, _ in given],
        ids=[method for _, _, method in given],
    )


async def with_methods(tx: Tx, accounts: Iterable[Key]) -> set[Key]:
    """Which of these accounts have a method that can be charged."""
    rows = await tx.rows(_PAYING, **split(accounts))
    return {(row.tenant_id, row.id) for row in rows}
