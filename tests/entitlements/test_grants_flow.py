"""Subscriptions give and take access: exact events, and what the memory answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Database
from subledger.platform.eventlog.consumer import Consumer
from subledger.services.entitlements.consumers import GROUP
from subledger.services.entitlements.memory import Answer, Memory

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEW = ids.Ids()


@dataclass
class Cinema:
    """A sandbox tenant with two products, the entitlements' consumer, and one memory."""

    url: str
    database: Database
    tenant_id: UUID
    memory: Memory
    admin: Any
    emit: Any
    events_of: Any
    clock: datetime = START
    drama: UUID = field(default_factory=NEW.new)
    comedy: UUID = field(default_factory=NEW.new)

    async def at(self, moment: datetime) -> None:
        self.clock = moment
        connection = await self.admin(self.url)
        await connection.execute(
            "UPDATE identity.clocks SET now_at = $2 WHERE tenant_id = $1", self.tenant_id, moment
        )
        await connection.close()

    async def tell(self, kind: str, subject: UUID, **data: Any) -> None:
        event = Event(
            type=kind,
            tenant_id=self.tenant_id,
            subject=subject,
            data=data,
            occurred_at=self.clock,
        )
        await self.emit(self.database, event)

    async def product(self, product_id: UUID, *resources: str, kind: str = "created") -> None:
        await self.tell(
            f"product.{kind}",
            self.tenant_id,
            product_id=ids.text("prod", product_id),
            code="p",
            resources=list(resources),
        )

    async def customer(
        self, external_id: str, *, kind: str = "created", who: UUID | None = None
    ) -> UUID:
        who = who or NEW.new()
        await self.tell(
            f"customer.{kind}",
            who,
            customer_id=ids.text("cus", who),
            external_id=external_id,
            currency="EUR",
            timezone="UTC",
        )
        return who

    async def subscription(
        self,
        what: str,
        subscription: UUID,
        payer: UUID,
        product: UUID,
        *,
        until: datetime,
        beneficiary: UUID | None = None,
        **data: Any,
    ) -> None:
        await self.tell(
            f"subscription.{what}",
            payer,
            subscription_id=ids.text("sub", subscription),
            customer_id=ids.text("cus", payer),
            beneficiary_id=ids.text("cus", beneficiary or payer),
            product_id=ids.text("prod", product),
            current_period_end_at=until.isoformat(),
            **{"status": "past_due" if what == "past_due" else "active"} | data,
        )

    async def settle(self) -> None:
        consumer = Consumer(self.database, GROUP)
        while await consumer.step(500):
            pass
        await self.memory.catch_up()

    async def said(self, payer: UUID) -> list[tuple[str, str, str]]:
        """The account's entitlement events: type, reason, until when (or when it was taken)."""
        return [
            (kind, data["reason"], data["valid_until_at"])
            for kind, data in await self.events_of(self.url, self.tenant_id, payer)
            if kind.startswith("entitlement.")
        ]

    def check(self, customer: str | UUID, resource: str) -> Answer:
        text = customer if isinstance(customer, str) else ids.text("cus", customer)
        return self.memory.check(self.tenant_id, text, resource)


@pytest.fixture
async def cinema(
    database_url: str,
    service_database: Any,
    make_tenant: Any,
    admin: Any,
    emit: Any,
    events_of: Any,
) -> Cinema:
    database = service_database(database_url, "entitlements")
    made = Cinema(
        url=database_url,
        database=database,
        tenant_id=await make_tenant(database_url, now_at=START),
        memory=Memory(database),
        admin=admin,
        emit=emit,
        events_of=events_of,
    )
    await made.product(made.drama, "film-1", "film-2")
    await made.product(made.comedy, "film-2", "film-3")
    return made


async def test_access_lives_with_its_subscription(cinema: Cinema) -> None:
    viewer, sub = await cinema.customer("viewer/7"), NEW.new()
    april, may = START + 31 * DAY, START + 61 * DAY

    await cinema.subscription("activated", sub, viewer, cinema.drama, until=april)
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(True, "active", april.timestamp())
    assert cinema.check("viewer/7", "film-1") == Answer(True, "active", april.timestamp())
    assert cinema.check(viewer, "film-3") == Answer(False, "no_entitlement")
    assert cinema.check("someone", "film-1") == Answer(False, "unknown_customer")

    await cinema.at(april)
    grace = april + 16 * DAY
    await cinema.subscription(
        "past_due", sub, viewer, cinema.drama, until=may, grace_until_at=grace.isoformat()
    )
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(True, "grace", grace.timestamp())

    await cinema.subscription("renewed", sub, viewer, cinema.drama, until=may)
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(True, "active", may.timestamp())

    await cinema.subscription(
        "canceled",
        sub,
        viewer,
        cinema.drama,
        until=may,
        reason="requested",
        ended_at=april.isoformat(),
    )
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(False, "no_entitlement")
    assert await cinema.said(viewer) == [
        ("entitlement.granted", "active", april.isoformat()),
        ("entitlement.granted", "grace", grace.isoformat()),
        ("entitlement.granted", "active", may.isoformat()),
        ("entitlement.revoked", "requested", april.isoformat()),
    ]


async def test_a_renewal_in_flight_has_three_days_and_grace_has_none(cinema: Cinema) -> None:
    viewer, sub = await cinema.customer("v"), NEW.new()
    end = START + 31 * DAY
    await cinema.subscription("activated", sub, viewer, cinema.drama, until=end)
    for moment, answer in (
        (end - timedelta(seconds=1), Answer(True, "active", end.timestamp())),
        (end, Answer(True, "active", (end + 3 * DAY).timestamp())),
        (end + 3 * DAY, Answer(False, "expired", end.timestamp())),
    ):
        await cinema.at(moment)
        await cinema.settle()
        assert cinema.check(viewer, "film-1") == answer

    grace = end + 16 * DAY
    await cinema.subscription(
        "past_due", sub, viewer, cinema.drama, until=end, grace_until_at=grace.isoformat()
    )
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(True, "grace", grace.timestamp())
    await cinema.at(grace)
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(False, "expired", grace.timestamp())


async def test_an_end_of_what_never_gave_access_takes_nothing(cinema: Cinema) -> None:
    viewer, sub = await cinema.customer("v"), NEW.new()
    await cinema.subscription(
        "canceled", sub, viewer, cinema.drama, until=START, reason="incomplete_expired"
    )
    await cinema.subscription("changed", sub, viewer, cinema.drama, until=START, changed=["x"])
    await cinema.settle()
    assert await cinema.said(viewer) == []


async def test_only_a_change_of_product_beneficiary_or_period_moves_access(
    cinema: Cinema,
) -> None:
    payer, child, sub = await cinema.customer("p"), await cinema.customer("c"), NEW.new()
    end = START + 31 * DAY
    await cinema.subscription("activated", sub, payer, cinema.drama, until=end)
    await cinema.subscription("changed", sub, payer, cinema.drama, until=end, changed=["cancel_at"])
    await cinema.settle()
    assert len(await cinema.said(payer)) == 1

    await cinema.subscription(
        "changed", sub, payer, cinema.comedy, until=end, beneficiary=child, changed=["plan_id"]
    )
    await cinema.settle()
    assert [(kind, reason) for kind, reason, _ in await cinema.said(payer)] == [
        ("entitlement.granted", "active"),
        ("entitlement.revoked", "changed"),
        ("entitlement.granted", "active"),
    ]
    assert cinema.check(payer, "film-2") == Answer(False, "no_entitlement")
    assert cinema.check(child, "film-3") == Answer(True, "active", end.timestamp())


async def test_grace_ends_when_the_invoice_was_written_off(cinema: Cinema) -> None:
    viewer, sub = await cinema.customer("v"), NEW.new()
    end, grace = START + 31 * DAY, START + 16 * DAY
    await cinema.subscription(
        "past_due", sub, viewer, cinema.drama, until=end, grace_until_at=grace.isoformat()
    )
    await cinema.subscription(
        "changed", sub, viewer, cinema.drama, until=end, changed=["cancel_at"], status="past_due"
    )
    await cinema.settle()
    assert cinema.check(viewer, "film-1") == Answer(True, "grace", grace.timestamp())
    await cinema.subscription(
        "changed", sub, viewer, cinema.drama, until=end, changed=["status"], status="active"
    )
    await cinema.settle()
    assert [(reason, until) for _, reason, until in await cinema.said(viewer)] == [
        ("grace", grace.isoformat()),
        ("active", end.isoformat()),
    ]


async def test_a_film_added_to_a_product_opens_at_once(cinema: Cinema) -> None:
    viewer, sub = await cinema.customer("v"), NEW.new()
    await cinema.subscription("activated", sub, viewer, cinema.drama, until=START + DAY)
    await cinema.settle()
    assert not cinema.check(viewer, "film-9").allowed
    await cinema.product(cinema.drama, "film-9", kind="updated")
    await cinema.settle()
    assert cinema.check(viewer, "film-9").allowed
    assert cinema.check(viewer, "film-1") == Answer(False, "no_entitlement")


async def test_external_ids_may_be_swapped_and_customers_deleted(cinema: Cinema) -> None:
    one, two = await cinema.customer("a"), await cinema.customer("b")
    await cinema.subscription("activated", NEW.new(), one, cinema.drama, until=START + DAY)
    await cinema.settle()
    # Between two accounts no order is promised: the taker may be heard before the giver.
    await cinema.customer("a", kind="updated", who=two)
    await cinema.customer("c", kind="updated", who=one)
    await cinema.settle()
    for memory in (cinema.memory, Memory(cinema.database)):
        await memory.catch_up()
        assert memory.check(cinema.tenant_id, "a", "film-1").reason == "no_entitlement"
        assert memory.check(cinema.tenant_id, "b", "film-1").reason == "unknown_customer"
        assert memory.check(cinema.tenant_id, "c", "film-1").reason == "active"

    await cinema.customer("c", kind="deleted", who=one)
    await cinema.settle()
    for memory in (cinema.memory, Memory(cinema.database)):
        await memory.catch_up()
        assert memory.check(cinema.tenant_id, "c", "film-1").reason == "unknown_customer"


async def test_a_snapshot_taken_at_any_moment_answers_like_one_that_heard_it_all(
    cinema: Cinema,
) -> None:
    """Also while the consumer lags: what its tables lack is read from the log."""
    consumer = Consumer(cinema.database, GROUP)
    viewers = [await cinema.customer(f"v{n}") for n in range(12)]
    end = START + 31 * DAY
    subs = [NEW.new() for _ in viewers]
    for viewer, sub in zip(viewers, subs, strict=True):
        await cinema.subscription("activated", sub, viewer, cinema.drama, until=end)
    memories = [cinema.memory]
    while await consumer.step(5):
        memories.append(Memory(cinema.database))
        await memories[-1].catch_up()
    for viewer, sub in list(zip(viewers, subs, strict=True))[::2]:
        await cinema.subscription(
            "canceled", sub, viewer, cinema.drama, until=end, reason="requested"
        )
    while await consumer.step(3):
        memories.append(Memory(cinema.database))
        await memories[-1].catch_up()

    assert len(memories) > 6
    for memory in memories:
        await memory.catch_up()
        answers = [
            memory.check(cinema.tenant_id, ids.text("cus", each), "film-1").reason
            for each in viewers
        ]
        assert answers == ["no_entitlement", "active"] * 6


async def test_other_tenants_know_nothing_of_it(cinema: Cinema, make_tenant: Any) -> None:
    viewer = await cinema.customer("v")
    await cinema.subscription("activated", NEW.new(), viewer, cinema.drama, until=START + DAY)
    await cinema.settle()
    other = await make_tenant(cinema.url)
    await cinema.settle()
    text = ids.text("cus", viewer)
    assert cinema.memory.check(other, text, "film-1") == Answer(False, "unknown_customer")
    assert cinema.memory.check(other, "v", "film-1") == Answer(False, "unknown_customer")


async def test_a_restored_log_is_noticed_and_read_anew(cinema: Cinema) -> None:
    viewer = await cinema.customer("v")
    await cinema.settle()
    assert cinema.memory.age_s() < 60
    connection = await cinema.admin(cinema.url)
    await connection.execute("UPDATE eventlog.log SET epoch = 2")
    await connection.execute(
        "UPDATE entitlements.customers SET external_id = 'restored' WHERE id = $1", viewer
    )
    await connection.close()
    await cinema.settle()
    assert cinema.check("restored", "film-1").reason == "no_entitlement"
