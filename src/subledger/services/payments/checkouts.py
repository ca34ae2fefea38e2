"""Payments' answer to ``contracts.checkouts``: what a payer has to do next."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import CollectionState
from subledger.platform.db import Database, Tx, story
from subledger.services.payments.store import methods, payments
from subledger.services.payments.usecases.returns import Returns

_READ = story("payments.read_collections", reads=True)
_READ_RETURN = story("payments.read_return", reads=True)
_READ_METHOD = story("payments.read_chargeable", reads=True)


class Checkouts:
    """Reads only."""

    def __init__(self, database: Database, returns: Returns) -> None:
        self._database = database
        self._returns = returns

    async def collection_states(
        self, call: Call, invoice_ids: Sequence[UUID]
    ) -> Sequence[CollectionState]:
        """The newest payment of each invoice, in the order asked."""

        async def read(tx: Tx) -> list[CollectionState]:
            found = await payments.newest_of_invoices(tx, call.tenant_id, invoice_ids)
            states = []
            for invoice_id in invoice_ids:
                row = found.get(invoice_id)
                if row is None:
                    states.append(CollectionState(invoice_id=invoice_id, status="none"))
                    continue
                states.append(
                    CollectionState(
                        invoice_id=invoice_id,
                        status=row.status,
                        payment_id=row.id,
                        redirect_url=row.redirect_url,
                        failure_code=row.failure_code,
                    )
                )
            return states

        return await self._database.transact(_READ, read, tenants=[call.tenant_id])

    async def chargeable(self, call: Call, customer_id: UUID, method_id: UUID) -> bool:
        """True if the method is an active one of the customer."""
        key = (call.tenant_id, method_id)

        async def read(tx: Tx) -> bool:
            row = (await methods.methods(tx, [key])).get(key)
            return row is not None and row.customer_id == customer_id and row.status == "active"

        return await self._database.transact(_READ_METHOD, read, tenants=[call.tenant_id])

    async def methods_to_try(self, call: Call, customer_id: UUID) -> Sequence[UUID]:
        """What the customer can be charged by now, in the customer's order."""
        owner = (call.tenant_id, customer_id)

        async def read(tx: Tx) -> list[UUID]:
            return [row.id for row in (await methods.in_order(tx, [owner])).get(owner, ())]

        return await self._database.transact(_READ_METHOD, read, tenants=[call.tenant_id])

    async def method_to_charge(
        self, call: Call, customer_id: UUID, method_id: UUID | None
    ) -> UUID | None:
        """The method named while it is active and the customer's own, else the default."""
        wanted = (call.tenant_id, customer_id, method_id)

        async def read(tx: Tx) -> UUID | None:
            found, _ = (await methods.to_charge(tx, [wanted]))[wanted]
            return found

        return await self._database.transact(_READ_METHOD, read, tenants=[call.tenant_id])

    async def return_allowed(self, call: Call, address: str) -> bool:
        """True if the tenant's payers may be sent to ``address``."""

        async def read(tx: Tx) -> bool:
            return await self._returns.allowed(tx, call.tenant_id, address)

        return await self._database.transact(_READ_RETURN, read, tenants=[call.tenant_id])
