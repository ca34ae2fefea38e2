"""Unapplied money pays open invoices."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.problems import problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.stories import SAVE_CREDIT_NOTE
from subledger.services.billing.schemas.customers import Balance, Balances
from subledger.services.billing.schemas.references import CustomerId
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import statement
from subledger.services.billing.usecases.apply_unapplied import apply_unapplied


def router(database: Database, keys: Keys, memory: TermsMemory) -> APIRouter:
    """``/v1/customers/{customer_id}/apply-unapplied``."""
    routes = APIRouter(prefix="/v1/customers", tags=["Customers"])

    async def shown(tx: Tx, tenant_id: UUID, customer_id: UUID) -> Balances:
        found = await statement.balance(tx, tenant_id=tenant_id, customer_id=customer_id)
        return Balances(customer_id=customer_id, balances=[Balance.of(each) for each in found])

    @routes.post(
        "/{customer_id}/apply-unapplied",
        response_model=Balances,
        summary="Pay open invoices with unapplied money",
        description="The oldest open invoice first, as far as the money goes, the last one perhaps"
        " in part; at most 100 invoices at once. An invoice that a payment holds is left to it."
        " Answers the balance that is left; the statement names the invoices.",
        responses={
            **problems(
                "forbidden", "not_found", "idempotency_in_progress", "idempotency_key_reused"
            )
        },
    )
    async def apply_unapplied_money(
        customer_id: CustomerId, caller: CallerAdmin, response: Response
    ) -> Balances:
        async def work(tx: Tx, _: UUID) -> Balances:
            await apply_unapplied(
                tx,
                memory,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                cause=caller.request_id,
            )
            return await shown(tx, caller.tenant_id, customer_id)

        async def again(tx: Tx, _: UUID) -> Balances:
            return await shown(tx, caller.tenant_id, customer_id)

        answered = await keys.run(
            database,
            SAVE_CREDIT_NOTE,
            caller,
            operation=f"apply_unapplied {customer_id}",
            body=None,
            work=work,
            load=again,
            new_id=customer_id,
        )
        return replayed(response, answered)

    return routes
