"""Products, plans and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy import Row

from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Code
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.services.billing.http.paging import before_id, before_number, id_key
from subledger.services.billing.http.stories import READ, SAVE_CATALOGUE
from subledger.services.billing.schemas.catalogue import (
    Plan,
    PlanNew,
    PlanVersion,
    PlanVersionNew,
    Product,
    ProductChange,
    ProductNew,
)
from subledger.services.billing.schemas.references import PlanId, ProductId
from subledger.services.billing.store import catalogue as store
from subledger.services.billing.store import subscriptions
from subledger.services.billing.usecases import catalogue

CodeFilter = Annotated[Code | None, Query(description="Only the one with this code.")]


async def load_product(tx: Tx, tenant_id: UUID, product_id: UUID) -> Product:
    """Raises not_found."""
    found = await store.products(tx, [(tenant_id, product_id)])
    if not found:
        raise Problem("not_found", detail="There is no such product.")
    return Product.of(found[tenant_id, product_id])


async def load_plan(tx: Tx, tenant_id: UUID, plan_id: UUID) -> Plan:
    """Raises not_found."""
    found = await store.plans(tx, [(tenant_id, plan_id)])
    if not found:
        raise Problem("not_found", detail="There is no such plan.")
    row = found[tenant_id, plan_id]
    return Plan.of(row, (await _prices(tx, [row]))[row.plan_version_id])


async def _prices(tx: Tx, rows: Sequence[Row[Any]]) -> dict[UUID, list[Row[Any]]]:
    """The prices of each plan version."""
    found: dict[UUID, list[Row[Any]]] = {row.plan_version_id: [] for row in rows}
    keys = [(row.tenant_id, row.plan_version_id) for row in rows]
    for price in await subscriptions.plan_terms(tx, keys) if keys else ():
        found[price.plan_version_id].append(price)
    return found


def routers(database: Database, keys: Keys) -> list[APIRouter]:
    """``/v1/products``, ``/v1/plans``."""
    products = APIRouter(prefix="/v1/products", tags=["Products"])
    plans = APIRouter(prefix="/v1/plans", tags=["Plans"])
    _write_products(products, database, keys)
    _read_products(products, database)
    _add_create_plan(plans, database, keys)
    _add_version(plans, database, keys)
    _read_plans(plans, database)
    return [products, plans]


def _write_products(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Product,
        summary="Create a product",
        description="A product and the resources that it gives access to (at most 5,000).",
        responses={**problems("code_taken", "invalid_request", "forbidden")},
    )
    async def create_product(body: ProductNew, caller: CallerAdmin, response: Response) -> Product:
        async def work(tx: Tx, product_id: UUID) -> Product:
            await catalogue.create_product(
                tx,
                tenant_id=caller.tenant_id,
                product_id=product_id,
                code=body.code,
                name=body.name,
                resources=body.resources,
                tax_category=body.tax_category or "",
                cause=caller.request_id,
            )
            return await load_product(tx, caller.tenant_id, product_id)

        async def again(tx: Tx, product_id: UUID) -> Product:
            return await load_product(tx, caller.tenant_id, product_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="products.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)

    @routes.patch(
        "/{product_id}",
        response_model=Product,
        summary="Change a product",
        description="Replaces the fields given. Whoever holds the product gains and loses access"
        " to its resources at once. A new tax category decides on the invoices from now on.",
        responses={**problems("not_found", "invalid_request", "forbidden")},
    )
    async def change_product(
        product_id: ProductId, body: ProductChange, caller: CallerAdmin
    ) -> Product:
        async def work(tx: Tx) -> Product:
            await catalogue.change_product(
                tx,
                tenant_id=caller.tenant_id,
                product_id=product_id,
                name=body.name,
                resources=body.resources,
                tax_category=body.category(),
                cause=caller.request_id,
            )
            return await load_product(tx, caller.tenant_id, product_id)

        return await database.transact(SAVE_CATALOGUE, work, tenants=[caller.tenant_id])


def _read_products(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Product],
        summary="List products",
        description="Newest first.",
        responses={**problems("invalid_request")},
    )
    async def list_products(
        caller: CallerRead, query: PageQuery, code: CodeFilter = None
    ) -> Page[Product]:
        before = before_id(query, "prod")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_products(
                tx, caller.tenant_id, code=code, before=before, limit=query.limit + 1
            )
        found = page(rows, query, key=lambda row: id_key(row, "prod"))
        return Page(
            data=[Product.of(row) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{product_id}",
        response_model=Product,
        summary="Get a product",
        description="A product with its resources.",
        responses={**problems("not_found")},
    )
    async def get_product(product_id: ProductId, caller: CallerRead) -> Product:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load_product(tx, caller.tenant_id, product_id)


def _add_create_plan(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Plan,
        summary="Create a plan",
        description="A plan of a product with the prices of its first version. A subscription"
        " pays every price in its currency, so these share one interval.",
        responses={
            **problems(
                "code_taken",
                "unknown_reference",
                "mixed_intervals",
                "duplicate_price",
                "invalid_request",
                "forbidden",
            )
        },
    )
    async def create_plan(body: PlanNew, caller: CallerAdmin, response: Response) -> Plan:
        async def work(tx: Tx, plan_id: UUID) -> Plan:
            new = catalogue.NewPlan(
                tenant_id=caller.tenant_id,
                plan_id=plan_id,
                product_id=body.product_id,
                code=body.code,
                name=body.name,
                access=catalogue.Access(
                    body.grace_days,
                    body.trial_days,
                    body.trial_requires_payment_method,
                    body.grace_at_start,
                ),
                prices=[each.new() for each in body.prices],
            )
            await catalogue.create_plan(tx, new, cause=caller.request_id)
            return await load_plan(tx, caller.tenant_id, plan_id)

        async def again(tx: Tx, plan_id: UUID) -> Plan:
            return await load_plan(tx, caller.tenant_id, plan_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="plans.create",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _add_version(routes: APIRouter, database: Database, keys: Keys) -> None:
    @routes.post(
        "/{plan_id}/versions",
        status_code=201,
        response_model=Plan,
        summary="Add a version to a plan",
        description="New prices for new subscriptions. Existing subscriptions keep their version.",
        responses={
            **problems(
                "not_found", "mixed_intervals", "duplicate_price", "invalid_request", "forbidden"
            )
        },
    )
    async def add_version(
        plan_id: PlanId, body: PlanVersionNew, caller: CallerAdmin, response: Response
    ) -> Plan:
        async def work(tx: Tx, version_id: UUID) -> Plan:
            await catalogue.add_version(
                tx,
                tenant_id=caller.tenant_id,
                plan_id=plan_id,
                version_id=version_id,
                access=catalogue.AccessChange(
                    body.grace_days,
                    body.trial_days,
                    body.trial_requires_payment_method,
                    body.grace_at_start,
                ),
                prices=[each.new() for each in body.prices],
                cause=caller.request_id,
            )
            return await load_plan(tx, caller.tenant_id, plan_id)

        async def again(tx: Tx, _version_id: UUID) -> Plan:
            return await load_plan(tx, caller.tenant_id, plan_id)

        answered = await keys.run(
            database,
            SAVE_CATALOGUE,
            caller,
            operation="plans.add_version",
            body=body,
            work=work,
            load=again,
        )
        return replayed(response, answered)


def _read_plans(routes: APIRouter, database: Database) -> None:
    @routes.get(
        "",
        response_model=Page[Plan],
        summary="List plans",
        description="Newest first, each with its latest version.",
        responses={**problems("invalid_request")},
    )
    async def list_plans(
        caller: CallerRead, query: PageQuery, code: CodeFilter = None
    ) -> Page[Plan]:
        before = before_id(query, "plan")
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.list_plans(
                tx, caller.tenant_id, code=code, before=before, limit=query.limit + 1
            )
            found = page(rows, query, key=lambda row: id_key(row, "plan"))
            prices = await _prices(tx, found.data)
        return Page(
            data=[Plan.of(row, prices[row.plan_version_id]) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )

    @routes.get(
        "/{plan_id}",
        response_model=Plan,
        summary="Get a plan",
        description="A plan with its latest version and prices.",
        responses={**problems("not_found")},
    )
    async def get_plan(plan_id: PlanId, caller: CallerRead) -> Plan:
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            return await load_plan(tx, caller.tenant_id, plan_id)

    @routes.get(
        "/{plan_id}/versions",
        response_model=Page[PlanVersion],
        summary="List a plan's versions",
        description="Newest first, each with its prices.",
        responses={**problems("not_found", "invalid_request")},
    )
    async def list_versions(
        plan_id: PlanId, caller: CallerRead, query: PageQuery
    ) -> Page[PlanVersion]:
        before = before_number(query)
        async with database.transaction(READ, tenants=[caller.tenant_id]) as tx:
            await load_plan(tx, caller.tenant_id, plan_id)
            rows = await store.list_versions(
                tx, caller.tenant_id, plan_id, before=before, limit=query.limit + 1
            )
            found = page(rows, query, key=lambda row: (str(row.version),))
            prices = await _prices(tx, found.data)
        return Page(
            data=[PlanVersion.of(row, prices[row.plan_version_id]) for row in found.data],
            has_more=found.has_more,
            next_cursor=found.next_cursor,
        )
