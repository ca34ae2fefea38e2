"""Taxes decided for a batch: what is read, what is remembered, and whose answer it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from subledger.core.errors import CoreError, MissingTaxRate
from subledger.core.tax import Decision, Place, Rate, Reason, Rounding, Ties
from subledger.platform import ids
from subledger.platform.db import Database, Tx, story
from subledger.services.billing.store import subscriptions
from subledger.services.billing.tax_provider import Answer, TaxRequest, TaxUnavailable
from subledger.services.billing.tax_terms import TaxMemory
from subledger.services.billing.usecases import tax_settings, taxes
from subledger.services.billing.usecases.taxes import Sale, TaxLocationMissing, taxes_for
from tests.billing.conftest import NEW, START, Shop

_DECIDE = story("tests.decide_taxes", reads=True)
_UNDO = story("tests.change_taxes_and_fail")
OWN = Rate("own", percent=Decimal(3), name="Own", place=Place("DE"))


async def put(shop: Shop, **fields: Any) -> None:
    answer = await shop.client.put("/v1/tax-settings", json={"country": "DE"} | fields)
    assert answer.status_code == 200, answer.text


async def rule(shop: Shop, code: str, percent: str, **more: Any) -> Any:
    rate = {"code": code, "name": code, "percent": percent, "country": "DE"}
    return await shop.post("/v1/tax-rules", {"rate": rate} | more)


def sale(shop: Shop, customer: Any, **more: Any) -> Sale:
    return Sale(shop.tenant_id, ids.parse("cus", customer["id"]), START, **more)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that transactions run from now on."""
    found: list[str] = []
    rows = Tx.rows

    async def counting(self: Tx, statement: Any, /, **values: Any) -> Any:
        found.append(str(statement))
        return await rows(self, statement, **values)

    monkeypatch.setattr(Tx, "rows", counting)
    return found


async def decide(
    database: Database, memory: TaxMemory, sales: Sequence[Sale], tenants: Sequence[UUID] = ()
) -> taxes.Taxes:
    async with database.transaction(_DECIDE, tenants=tenants or [sales[0].tenant_id]) as tx:
        return await taxes_for(tx, memory, sales)


async def test_a_tenant_without_taxes_pays_for_one_read(shop: Shop, counted: list[str]) -> None:
    ada, memory = await shop.customer(), TaxMemory()
    counted.clear()
    for _ in range(2):
        found = await decide(shop.database, memory, [sale(shop, ada)] * 500)
        assert found.of(sale(shop, ada)) is None
        assert found.parties(*_key(shop, ada)) is None
        assert (found.rounding(shop.tenant_id), found.ties(shop.tenant_id)) == (
            Rounding.PER_TAX,
            Ties.HALF_UP,
        )
    assert len(counted) == 2


def _key(shop: Shop, customer: Any) -> tuple[UUID, UUID]:
    return shop.tenant_id, ids.parse("cus", customer["id"])


async def test_what_is_remembered_is_not_read_again(shop: Shop, counted: list[str]) -> None:
    await put(shop, rounding="per_line", ties="half_even", vat_id="DE136695976")
    await rule(shop, "de-19", "19")
    await rule(shop, "de-7", "7", category="books")
    book = await shop.product(code="book", tax_category="books")
    game = await shop.product(code="game")
    buyers = [await shop.customer(country="DE", external_id=str(n)) for n in range(5)]
    product = ids.parse("prod", book["id"])
    sales = [sale(shop, each, product_id=product) for each in buyers]
    sales += [sale(shop, each, product_id=ids.parse("prod", game["id"])) for each in buyers]
    memory = TaxMemory()
    counted.clear()

    first = await decide(shop.database, memory, sales)
    read = len(counted)
    again = await decide(shop.database, memory, sales)
    assert (read, len(counted) - read) == (4, 2), "editions, terms, accounts, categories"

    for found in (first, again):
        decisions = [found.of(each) for each in sales]
        percents = [str(d.rates[0].percent) for d in decisions if d is not None]
        assert percents == ["7"] * 5 + ["19"] * 5
        assert found.rounding(shop.tenant_id) is Rounding.PER_LINE
        assert found.ties(shop.tenant_id) is Ties.HALF_EVEN
        assert found.parties(*_key(shop, buyers[0])) == {
            "seller": {"country": "DE", "region": None, "vat_id": "DE136695976"},
            "buyer": {"country": "DE", "region": None, "vat_id": None},
        }
    # With the accounts locked, one statement.
    async with shop.database.transaction(_UNDO, tenants=[shop.tenant_id]) as tx:
        await subscriptions.lock_accounts(tx, [_key(shop, each) for each in buyers])
        counted.clear()
        await taxes_for(tx, memory, sales)
        assert len(counted) == 1
    # A new category of a product holds from the next batch on.
    changed = await shop.client.patch(f"/v1/products/{book['id']}", json={"tax_category": None})
    assert changed.status_code == 200
    decision = (await decide(shop.database, memory, sales)).of(sales[0])
    assert decision is not None
    assert str(decision.rates[0].percent) == "19"


async def test_what_was_rolled_back_is_not_remembered(shop: Shop) -> None:
    await put(shop)
    await rule(shop, "de-19", "19")
    ada, memory = await shop.customer(country="DE"), TaxMemory()
    settings = tax_settings.Settings("DE", "", "", False, False, "per_tax", "half_up", "builtin")

    async def reason() -> Reason:
        found = (await decide(shop.database, memory, [sale(shop, ada)])).of(sale(shop, ada))
        assert found is not None
        return found.reason

    async def change_and_crash(tx: Tx) -> None:
        await tax_settings.put_settings(
            tx, tenant_id=shop.tenant_id, settings=settings, providers=(), cause=None
        )
        seen = (await taxes_for(tx, memory, [sale(shop, ada)])).of(sale(shop, ada))
        assert seen is not None
        assert seen.reason is Reason.NOT_REGISTERED
        raise RuntimeError("crash")

    assert await reason() is Reason.STANDARD
    with pytest.raises(RuntimeError, match="crash"):
        await shop.database.transact(_UNDO, change_and_crash, tenants=[shop.tenant_id])
    assert await reason() is Reason.STANDARD


async def test_what_cannot_be_decided_is_refused_for_its_own_sale(shop: Shop) -> None:
    await put(shop)
    await rule(shop, "de-19", "19")
    german = await shop.customer(country="DE", external_id="german")
    french = await shop.customer(country="FR", external_id="french")
    nowhere = await shop.customer(external_id="nowhere")
    sales = [sale(shop, each) for each in (german, french, nowhere)]

    found = await decide(shop.database, TaxMemory(), sales)

    assert found.of(sales[0]) is not None
    told = []
    for each, kind in ((sales[1], MissingTaxRate), (sales[2], TaxLocationMissing)):
        with pytest.raises(kind) as refused:
            found.of(each)
        told.append(taxes.problem(refused.value))
    codes = [(each.code, each.status) for each in told if each is not None]
    assert codes == [("tax_rate_missing", 422), ("tax_location_missing", 422)]
    assert taxes.problem(CoreError("something else")) is None


class Outside:
    """A provider of somebody else: ``answer`` for each request, and what it was asked."""

    def __init__(self, answer: Callable[[Sequence[TaxRequest]], Sequence[Answer]]) -> None:
        self.answer = answer
        self.asked: list[TaxRequest] = []

    def decide(self, requests: Sequence[TaxRequest]) -> Sequence[Answer]:
        self.asked += requests
        return self.answer(requests)


def _down(requests: Sequence[TaxRequest]) -> Sequence[Answer]:
    raise TaxUnavailable("the provider does not answer")


@pytest.fixture
async def two_shops(shop: Shop, admin: Any) -> tuple[Shop, list[Sale]]:
    """Ours names another provider, the stranger's goes by its own rules; a sale of each."""
    await put(shop)
    await shop.rows(
        "UPDATE billing.tax_settings SET provider = 'outside' WHERE tenant_id = $1", shop.tenant_id
    )
    theirs = replace(shop, client=shop.stranger)
    await put(theirs)
    await rule(theirs, "de-19", "19")
    ours = sale(shop, await shop.customer(country="DE"))
    made = await theirs.customer(country="DE")
    [row] = await shop.rows(
        "SELECT tenant_id FROM billing.accounts WHERE id = $1", ids.parse("cus", made["id"])
    )
    return shop, [
        ours,
        Sale(UUID(str(row["tenant_id"])), ids.parse("cus", made["id"]), START, category="books"),
    ]


async def test_another_provider_decides_for_its_tenants(
    two_shops: tuple[Shop, list[Sale]],
) -> None:
    shop, sales = two_shops
    outside = Outside(lambda asked: [Decision(Reason.STANDARD, (OWN,), Place("DE"))] * len(asked))

    found = await decide(
        shop.database, TaxMemory({"outside": outside}), sales, [each.tenant_id for each in sales]
    )

    rates = [decision.rates[0].name for each in sales if (decision := found.of(each))]
    assert rates == ["Own", "de-19"]
    [asked] = outside.asked
    assert (asked.tenant_id, asked.buyer.place, asked.on) == (
        sales[0].tenant_id,
        Place("DE"),
        datetime(2026, 3, 1, tzinfo=UTC).date(),
    )


@pytest.mark.parametrize(
    "answer", [_down, lambda _: [], None], ids=["down", "too few answers", "unknown here"]
)
async def test_a_provider_that_fails_taxes_nobody_wrongly(
    two_shops: tuple[Shop, list[Sale]], answer: Any
) -> None:
    shop, sales = two_shops
    known = {} if answer is None else {"outside": Outside(answer)}

    found = await decide(shop.database, TaxMemory(known), sales, [each.tenant_id for each in sales])

    with pytest.raises(TaxUnavailable) as refused:
        found.of(sales[0])
    told = taxes.problem(refused.value)
    assert told is not None
    assert (told.code, told.status) == ("tax_unavailable", 503)
    assert found.of(sales[1]) is not None, "others go on"


async def test_the_invariants_see_what_is_wrong(shop: Shop) -> None:
    await put(shop)
    rates = [await rule(shop, f"de-{n}", "19", category=f"c{n}") for n in range(2)]
    ada = await shop.customer(country="DE", tax_rate_ids=[rates[0]["rate"]["id"]])
    await shop.check_invariants()

    async def broken(change: str, *values: Any) -> list[str]:
        await shop.rows(change, shop.tenant_id, *values)
        return [
            each.name
            for each in shop.service.invariants
            if any(row["tenant_id"] == shop.tenant_id for row in await shop.rows(each.query))
        ]

    change = "UPDATE billing.tax_rules SET category = {} WHERE tenant_id = $1"
    assert await broken(change.format("'same'")) == [
        "two tax rules never cover the same on one day"
    ]
    assert await broken(change.format("id::text")) == []
    agreed = (
        "UPDATE billing.accounts SET tax_rate_ids = ARRAY[$3::uuid]"
        " WHERE tenant_id = $1 AND id = $2"
    )
    assert await broken(agreed, ids.parse("cus", ada["id"]), NEW.new()) == [
        "the tax rates agreed with a customer exist"
    ]
    assert await broken(
        agreed, ids.parse("cus", ada["id"]), ids.parse("txr", rates[1]["rate"]["id"])
    ) == []  # fmt: skip
    plan = await shop.plan()
    await shop.post("/v1/subscriptions", {"customer_id": ada["id"], "plan_id": plan["id"]})
    taxed = "UPDATE billing.invoices SET tax = $2::jsonb WHERE tenant_id = $1"
    rate = '{"rates": [{"tax_minor": 191}]}'
    assert await broken(taxed, rate) == ["an invoice's taxes by rate are its tax"]
    await broken(taxed, None)
    await shop.check_invariants()
