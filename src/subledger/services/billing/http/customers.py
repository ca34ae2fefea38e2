"""Customers, their balance and statement."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import ExternalId, Timestamp, moment_text
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageAsked, PageQuery, encode, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import before_id, foreign_cursor, id_key
from subledger.services.billing.http.stories import READ, SAVE_CUSTOMER
from subledger.services.billing.schemas.customers import (
    Balance,
    Balances,
    Customer,
    CustomerChange,
    CustomerNew,
    Statement,
    StatementEntry,
)
from subledger.services.billing.schemas.references import CustomerId
from subledger.services.billing.store import accounts
from subledger.services.billing.store.books import EntryKey
from subledger.services.billing.usecases import customers, statement


async def load(tx: Tx, tenant_id: UUID, customer_id: UUID) -> Customer:
    """A customer that is not deleted. Raises not_found."""
    found = await accounts.customers(tx, [(tenant_id, customer_id)])
    if not found:
        raise Problem("not_found", detail="There is no such customer.")
    return Customer.of(found[tenant_id, customer_id])


def router(database: Database, keys: Keys) -> APIRouter:
    """``/v1/customers``."""
    routes = APIRouter(prefix="/v1/customers", tags=["Customers"])
    _add_creation(routes, database, keys)
    _add_changes(routes, database)
    _add_reads(routes, database)
    _add_account(routes, database)
    return routes


def _add_creation(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Customer,
        summary="Create a customer",
        description="Opens a paying customer's account in one currency and time zone.",
        responses={
            **problems(
                "external_id_taken",
                "tax_id_invalid",
                "unknown_reference",
                "invalid_request",
                "forbidden",
            ),
        },
    )
    async def create_customer(
        body: CustomerNew, caller: CallerAdmin, response: Response
    ) -> Customer:
        async def work(tx: Tx, customer_id: UUID) -> Customer:
            new = customers.NewCustomer(
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                external_id=body.external_id,
                name=body.name,
                email=body.email,
                currency=body.currency,
                timezone=body.timezone,
                locale=body.locale,
                country=body.country or "",
                region=body.region or "",
                tax_id=body.tax_id or "",
                tax_exempt_reason=body.tax_exempt_reason or "",
                tax_rate_ids=tuple(body.tax_rate_ids),
            )
            await customers.create_customers(tx, [new], cause=caller.request_id)
            return await load(tx, caller.tenant_id, customer_id)

        async def again(tx: Tx, customer_id: UUID) -> Customer:
            return await load(tx, caller.tenant_id, customer_id)

        answered = await keys.run(
            database,
            SAVE_CUSTOMER,
            caller,
            operation="customers.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_changes(routes: APIRouter, database: Database) -> None:
    @routes.patch(
        "/{customer_id}",
        response_model=Customer,
        summary="Change a customer",
        description="Replaces the fields given. In a new time zone running periods keep their ends;"
        " from the next boundary on subscriptions are counted in it. What is known for taxes"
        " decides on the invoices from now on.",
        responses={
            **problems(
                "not_found",
                "currency_in_use",
                "tax_id_invalid",
                "unknown_reference",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def change_customer(
        customer_id: CustomerId, body: CustomerChange, caller: CallerAdmin
    ) -> Customer:
        async def work(tx: Tx) -> Customer:
            await customers.change_customer(
                tx,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                changes=body.changes(),
                cause=caller.request_id,
            )
            return await load(tx, caller.tenant_id, customer_id)

        return await database.transact(SAVE_CUSTOMER, work, tenants=[caller.tenant_id])

    @routes.delete(
        "/{customer_id}",
        status_code=204,
        summary="Delete a customer",
        description="The customer is found no more; invoices and books stay. Refused while a"
        " subscription that the customer pays for or uses is alive.",
        responses={**problems("not_found", "customer_in_use", "forbidden")},
    )
    async def delete_customer(customer_id: CustomerId, caller: CallerAdmin) -> None:
        async def work(tx: Tx) -> None:
            await customers.delete_customer(
                tx,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                cause=caller.request_id,
            )

        await database.transact(SAVE_CUSTOMER, work, tenants=[caller.tenant_id])


def _add_reads(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Customer],
        summary="List customers",
        description="Newest first; with `external_id` at most one.",
        responses={**problems("invalid_request")},
    )
    async def list_customers(
        caller: CallerRead,
        query: PageQuery,
        external_id: Annotated[ExternalId | None, Query(description="Your own id.")] = None,
    ) -> Page[Customer]:
        before = before_id(query, "cus")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await accounts.list_customers(
                tx,
                caller.tenant_id,
                external_id=external_id,
                before=before,
                limit=query.limit + 1,
            )
        found = page(rows, query, key=lambda row: id_key(row, "cus"))
        return Page(
            data=[Customer.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{customer_id}",
        response_model=Customer,
        summary="Get a customer",
        description="A deleted customer is not found.",
        responses={**problems("not_found")},
    )
    async def get_customer(customer_id: CustomerId, caller: CallerRead) -> Customer:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load(tx, caller.tenant_id, customer_id)


def _add_account(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "/{customer_id}/balance",
        response_model=Balances,
        summary="Get a customer's balance",
        description="What the customer owes and is owed, by currency (minor units).",
        responses={**problems("not_found")},
    )
    async def get_balance(customer_id: CustomerId, caller: CallerRead) -> Balances:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            standings = await statement.balance(
                tx, tenant_id=caller.tenant_id, customer_id=customer_id
            )
        return Balances(customer_id=customer_id, balances=[Balance.of(each) for each in standings])

    @routes.get(
        "/{customer_id}/statement",
        response_model=Statement,
        summary="Get a customer's statement",
        description="Opening balance, entries and closing balance of the personal account from"
        " `from` (the account's beginning) until before `to` (now). Give `to` when you page, so"
        " that all pages speak of the same span.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def get_statement(
        customer_id: CustomerId,
        caller: CallerRead,
        query: PageQuery,
        from_at: Annotated[Timestamp | None, Query(alias="from", description="Included.")] = None,
        to_at: Annotated[Timestamp | None, Query(alias="to", description="Not included.")] = None,
    ) -> Statement:
        after = _entry_key(query)
        async with database.transaction(
            READ, tenants=[caller.tenant_id], repeatable_read=True
        ) as tx:
            told = await statement.statement(
                tx,
                tenant_id=caller.tenant_id,
                customer_id=customer_id,
                from_at=from_at,
                to_at=to_at,
                after=after,
                limit=query.limit + 1,
            )
        return _statement(customer_id, told, query)


def _statement(customer_id: UUID, told: statement.Statement, query: PageAsked) -> Statement:
    shown = told.entries[: query.limit]
    more = len(told.entries) > query.limit
    return Statement(
        customer_id=customer_id,
        from_at=told.from_at,
        to_at=told.to_at,
        opening=[Balance.of(each) for each in told.opening],
        closing=[Balance.of(each) for each in told.closing],
        entries=[StatementEntry.of(each) for each in shown],
        has_more=more,
        next_cursor=encode(_key_texts(shown[-1].key)) if more else None,
    )


def _key_texts(key: EntryKey) -> tuple[str, ...]:
    return (
        moment_text(key.occurred_at),
        moment_text(key.recorded_at),
        str(key.ledger_tx),
        str(key.n),
        key.ledger_account,
    )


def _entry_key(query: PageAsked) -> EntryKey | None:
    """The entry after which the page begins. Raises invalid_request."""
    if query.after is None:
        return None
    try:
        occurred_at, recorded_at, ledger_tx, n, ledger = query.after
        key = EntryKey(
            datetime.fromisoformat(occurred_at),
            datetime.fromisoformat(recorded_at),
            UUID(ledger_tx),
            int(n),
            ledger,
        )
    except ValueError:
        raise foreign_cursor() from None
    moments = (key.occurred_at, key.recorded_at)
    if not 0 <= key.n < 1 << 15 or "\0" in ledger or any(each.tzinfo is None for each in moments):
        raise foreign_cursor()
    return key
