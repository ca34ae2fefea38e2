"""A failed renewal payment is tried again by policy, and its last step is taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from subledger.contracts.events import Event
from subledger.core.dunning import FinalAction
from subledger.platform import ids
from subledger.platform.db import Database, story
from subledger.platform.eventlog.consumer import Consumer
from subledger.platform.http.idempotency import Keys
from subledger.services.scheduler import jobs
from subledger.services.scheduler.consumers import GROUP
from subledger.services.scheduler.invariants import INVARIANTS
from subledger.services.scheduler.policies import Terms
from subledger.services.scheduler.usecases.policies import put_default

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEW = ids.Ids()
_SETUP = story("tests.scheduler_setup")


@dataclass
class Shop:
    """A sandbox tenant with a movable clock, one account, and the scheduler's own steps."""

    url: str
    database: Database
    tenant_id: UUID
    admin: Any
    emit: Any
    events_of: Any
    account: UUID

    async def at(self, moment: datetime) -> None:
        connection = await self.admin(self.url)
        await connection.execute(
            "UPDATE identity.clocks SET now_at = $2 WHERE tenant_id = $1", self.tenant_id, moment
        )
        await connection.close()

    async def tell(self, kind: str, invoice: UUID, at: datetime, **data: Any) -> None:
        await self.emit(
            self.database,
            Event(
                type=kind,
                tenant_id=self.tenant_id,
                subject=self.account,
                data={
                    "invoice_id": ids.text("inv", invoice),
                    "customer_id": ids.text("cus", self.account),
                    "attempt_id": ids.text("att", NEW.new()),
                    **data,
                },
                occurred_at=at,
            ),
        )

    async def fails(self, invoice: UUID, at: datetime, **data: Any) -> None:
        """A payment of the invoice fails softly, unless ``data`` says otherwise."""
        said = {"dunning": True, "decline": "soft", "counted": True, "final": True}
        await self.tell("payment.failed", invoice, at, **(said | {"retry_not_before": None} | data))

    async def settle(self) -> None:
        consumer = Consumer(self.database, GROUP)
        announcing = jobs.announcing(self.database)
        while await consumer.step(500) + await announcing.run(500):
            pass

    async def said(self) -> list[tuple[str, Any]]:
        """The scheduler's own events: type, and retry number or final action."""
        return [
            (kind, data.get("number", data.get("action")))
            for kind, data in await self.events_of(self.url, self.tenant_id)
            if kind in ("payments.retry_required", "payments.final_step_required")
        ]

    async def due(self) -> list[tuple[str, datetime, int]]:
        connection = await self.admin(self.url)
        rows = await connection.fetch(
            "SELECT kind, due_at, number FROM scheduler.due ORDER BY due_at, number"
        )
        await connection.close()
        return [(row["kind"], row["due_at"], row["number"]) for row in rows]

    async def check_invariants(self) -> None:
        connection = await self.admin(self.url)
        for each in INVARIANTS:
            assert await connection.fetch(each.query) == [], each.name
        await connection.close()


@pytest.fixture
async def shop(
    database_url: str,
    service_database: Any,
    make_tenant: Any,
    admin: Any,
    emit: Any,
    events_of: Any,
) -> Shop:
    return Shop(
        url=database_url,
        database=service_database(database_url, "scheduler"),
        tenant_id=await make_tenant(database_url, now_at=START),
        admin=admin,
        emit=emit,
        events_of=events_of,
        account=NEW.new(),
    )


async def test_four_retries_then_the_subscription_is_to_be_canceled(shop: Shop) -> None:
    invoice, at = NEW.new(), START
    for number, days in enumerate((1, 3, 5, 7), start=1):
        await shop.fails(invoice, at)
        await shop.settle()
        assert await shop.due() == [("payment_retry", at + days * DAY, 1)]

        at += days * DAY
        await shop.at(at - timedelta(seconds=1))
        await shop.settle()
        assert len(await shop.said()) == number - 1  # not a second too early

        await shop.at(at)
        await shop.settle()
        assert (await shop.said())[-1] == ("payments.retry_required", number)
        assert await shop.due() == []

    await shop.fails(invoice, at)
    await shop.settle()

    assert await shop.said() == [
        *(("payments.retry_required", number) for number in (1, 2, 3, 4)),
        ("payments.final_step_required", "cancel"),
    ]
    assert at == START + 16 * DAY
    await shop.tell("invoice.uncollectible", invoice, at)
    await shop.settle()
    assert await shop.due() == []
    await shop.check_invariants()


async def test_a_paid_invoice_is_not_tried_again(shop: Shop) -> None:
    invoice = NEW.new()
    await shop.fails(invoice, START)
    await shop.settle()
    await shop.tell("invoice.paid", invoice, START + DAY / 2)
    await shop.settle()

    assert await shop.due() == []
    await shop.at(START + 30 * DAY)
    await shop.settle()
    assert await shop.said() == []
    await shop.check_invariants()


async def test_a_hard_decline_goes_to_the_last_step_at_once(shop: Shop) -> None:
    await shop.fails(NEW.new(), START, decline="hard")
    await shop.settle()
    assert await shop.said() == [("payments.final_step_required", "cancel")]


async def test_failures_that_never_reached_the_bank_use_up_nothing(shop: Shop) -> None:
    invoice, at = NEW.new(), START
    await shop.fails(invoice, at)
    await shop.settle()
    at += DAY
    await shop.at(at)
    await shop.settle()

    await shop.fails(invoice, at, decline="config", counted=False)
    await shop.settle()
    assert await shop.due() == [("payment_retry", at + timedelta(hours=6), 1)]

    at += timedelta(hours=6)
    await shop.at(at)
    await shop.settle()
    await shop.fails(invoice, at)
    await shop.settle()
    assert await shop.due() == [("payment_retry", at + 3 * DAY, 1)]


async def test_the_provider_may_ask_for_patience_but_never_for_haste(shop: Shop) -> None:
    early, late = NEW.new(), NEW.new()
    await shop.fails(early, START, retry_not_before=(START + DAY / 2).isoformat())
    await shop.fails(late, START, retry_not_before=(START + 2 * DAY).isoformat())
    await shop.settle()
    assert await shop.due() == [
        ("payment_retry", START + DAY, 1),
        ("payment_retry", START + 2 * DAY, 2),
    ]


async def test_a_payers_own_try_in_between_changes_nothing(shop: Shop) -> None:
    invoice = NEW.new()
    await shop.fails(invoice, START)
    await shop.fails(invoice, START + DAY / 2, decline="hard")
    await shop.settle()
    assert await shop.due() == [("payment_retry", START + DAY, 1)]
    assert await shop.said() == []


async def test_an_announced_retry_that_was_canceled_is_planned_again(shop: Shop) -> None:
    invoice = NEW.new()
    await shop.fails(invoice, START)
    await shop.settle()
    await shop.at(START + DAY)
    await shop.settle()
    await shop.tell("payment.canceled", invoice, START + DAY, dunning=True)
    await shop.settle()
    assert await shop.due() == [("payment_retry", START + DAY + timedelta(hours=6), 1)]


async def test_what_is_not_dunning_or_not_over_is_left_alone(shop: Shop) -> None:
    await shop.fails(NEW.new(), START, dunning=False)
    await shop.fails(NEW.new(), START, final=False)
    await shop.tell("payment.canceled", NEW.new(), START, dunning=True)
    await shop.tell("invoice.paid", NEW.new(), START)
    await shop.settle()
    assert await shop.due() == []
    assert await shop.said() == []


async def test_a_tenants_own_policy_decides(shop: Shop) -> None:
    terms = Terms(
        delays_s=(7200,), final_action=FinalAction.UNCOLLECTIBLE, hard_decline_stops=False
    )
    async with shop.database.transaction(_SETUP, tenants=[shop.tenant_id]) as tx:
        await put_default(tx, shop.tenant_id, terms)

    invoice, at = NEW.new(), START + timedelta(hours=2)
    await shop.fails(invoice, START, decline="hard")
    await shop.settle()
    assert await shop.due() == [("payment_retry", at, 1)]
    await shop.at(at)
    await shop.settle()
    await shop.fails(invoice, at, decline="hard")
    await shop.settle()
    assert await shop.said() == [
        ("payments.retry_required", 1),
        ("payments.final_step_required", "uncollectible"),
    ]


async def test_segments_of_the_log_are_made_ahead_once(shop: Shop) -> None:
    step = jobs.segments(shop.database)
    connection = await shop.admin(shop.url)
    await connection.execute("UPDATE eventlog.heads SET position = 1000000 WHERE partition = 3")
    await connection.close()
    assert await step.run(1) == 1
    assert await step.run(1) == 0


async def test_idempotency_keys_are_forgotten_after_72_hours(
    shop: Shop, service_database: Any
) -> None:
    connection = await shop.admin(shop.url)
    for key, age in (("old", "72 hours 1 second"), ("young", "71 hours")):
        await connection.execute(
            "INSERT INTO identity.idempotency_keys (tenant_id, principal, key, operation,"
            " input_hash, resource_id, created_at) VALUES ($1, 'p', $2, 'o', '', $1,"
            f" clock_timestamp() - interval '{age}')",
            *(shop.tenant_id, key),
        )
    step = jobs.expiring("identity", service_database(shop.url, "identity"), Keys("identity"))
    assert [await step.run(100), await step.run(100)] == [1, 0]
    rows = await connection.fetch("SELECT key FROM identity.idempotency_keys")
    assert [row["key"] for row in rows] == ["young"]
    await connection.close()
