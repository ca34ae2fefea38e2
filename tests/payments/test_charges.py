"""Stories of saved-method charges: exact facts, exact captures by the provider's own journal."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from subledger.platform import ids
from subledger.providers.port import ChargeRequest, Connection
from tests.payments.world import World


async def test_a_finalized_invoice_is_charged_once(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    invoice, attempt = await shop.invoice(viewer, 999)

    await world.settle()

    assert await shop.told(viewer) == ["payment.succeeded"]
    _, data = (await shop.facts(viewer))[-1]
    assert data["invoice_id"] == ids.text("inv", invoice)
    assert data["attempt_id"] == ids.text("att", attempt)
    assert (data["amount_minor"], data["currency"], data["dunning"]) == (999, "EUR", True)
    assert data["captured_at"] == "2026-03-01T00:00:00+00:00"
    assert await shop.journal() == {"captured_minor": {"EUR": 999}, "captures": 1, "doubles": 0}
    assert await shop.unquiet() == []


async def test_a_hundred_charges_share_transactions_and_none_is_double(world: World) -> None:
    shop = await world.shop()
    viewers = [await shop.customer("visa_ok") for _ in range(5)]
    for viewer in viewers:
        for _ in range(20):
            await shop.invoice(viewer, 100)

    await world.payments.consumers[0].step(500)
    charge = next(step for step in world.payments.steps if step.name == "payments.charge")
    done = await asyncio.gather(charge.run(60), charge.run(60), charge.run(60))
    await world.settle()

    assert sum(done) <= 100
    assert await shop.journal() == {
        "captured_minor": {"EUR": 10_000},
        "captures": 100,
        "doubles": 0,
    }
    for viewer in viewers:
        assert await shop.told(viewer) == ["payment.succeeded"] * 20


async def test_declines_tell_their_class(world: World) -> None:
    shop = await world.shop()
    for kind, decline, code in (
        ("soft_decline", "soft", "do_not_honor"),
        ("hard_decline", "hard", "stolen_card"),
        ("insufficient_funds", "insufficient_funds", "insufficient_funds"),
    ):
        viewer = await shop.customer(kind)
        await shop.invoice(viewer)
        await world.settle()

        assert await shop.told(viewer) == ["payment.failed"]
        _, data = (await shop.facts(viewer))[-1]
        assert (data["decline"], data["code"]) == (decline, code)
        assert (data["counted"], data["final"], data["retry_not_before"]) == (True, True, None)
    assert (await shop.journal())["captures"] == 0


async def test_without_a_method_nothing_is_asked_and_the_payer_has_to_act(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer()
    await shop.invoice(viewer)

    await world.settle()

    (kind, data) = (await shop.facts(viewer))[-1]
    assert (kind, data["decline"], data["code"]) == (
        "payment.failed",
        "action",
        "no_payment_method",
    )
    assert data["connection_id"] is None


async def test_retries_until_there_is_enough_money(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("insufficient_funds:3")
    invoice, _ = await shop.invoice(viewer, 1500)
    await world.settle()
    for number in (1, 2):
        await shop.advance(timedelta(days=1))
        await shop.retry(viewer, invoice, number)
        await world.settle()

    assert await shop.told(viewer) == ["payment.failed", "payment.failed", "payment.succeeded"]
    assert await shop.journal() == {"captured_minor": {"EUR": 1500}, "captures": 1, "doubles": 0}


async def test_a_retry_announced_twice_is_one_payment(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("soft_decline")
    invoice, _ = await shop.invoice(viewer)
    await world.settle()

    await shop.retry(viewer, invoice, 1)
    await shop.retry(viewer, invoice, 1)
    await world.settle()

    assert await shop.told(viewer) == ["payment.failed", "payment.failed"]


async def test_a_retry_of_a_held_invoice_fails_without_counting(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("soft_decline")
    invoice, _ = await shop.invoice(viewer)
    await world.settle()
    await shop.retry(viewer, invoice, 1)
    world.billing.held[invoice] = invoice  # somebody else's attempt

    await world.settle()

    kind, data = (await shop.facts(viewer))[-1]
    assert (kind, data["code"], data["counted"]) == ("payment.failed", "reserved", False)
    assert (await shop.journal())["captures"] == 0


async def test_a_retry_of_a_closed_invoice_is_canceled(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("soft_decline")
    invoice, _ = await shop.invoice(viewer)
    await world.settle()
    await shop.retry(viewer, invoice, 1)
    del world.billing.open[invoice]

    await world.settle()

    assert await shop.told(viewer) == ["payment.failed", "payment.canceled"]


async def test_a_lost_answer_is_unknown_until_the_provider_was_asked(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("timeout")
    await shop.invoice(viewer, 700)
    await world.settle()
    assert await shop.told(viewer) == ["payment.unknown"]
    assert await shop.unquiet() == []

    await shop.advance(timedelta(minutes=4))
    await world.settle()
    assert await shop.told(viewer) == ["payment.unknown"]

    await shop.advance(timedelta(minutes=1))
    await world.settle()
    assert await shop.told(viewer) == ["payment.unknown", "payment.succeeded"]
    assert await shop.journal() == {"captured_minor": {"EUR": 700}, "captures": 1, "doubles": 0}


async def test_a_charge_that_never_happened_fails_without_counting(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("timeout_lost")
    await shop.invoice(viewer, 700)
    await world.settle()
    await shop.advance(timedelta(minutes=5))
    await world.settle()

    assert await shop.told(viewer) == ["payment.unknown", "payment.failed"]
    _, data = (await shop.facts(viewer))[-1]
    assert (data["code"], data["counted"], data["final"]) == ("not_executed", False, True)
    assert (await shop.journal())["captures"] == 0


async def test_a_500_after_the_capture_is_unknown_too(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    await shop.fault("charge_500", 1)
    await shop.invoice(viewer, 400)
    await world.settle()
    await shop.advance(timedelta(minutes=5))
    await world.settle()

    assert await shop.told(viewer) == ["payment.unknown", "payment.succeeded"]
    assert await shop.journal() == {"captured_minor": {"EUR": 400}, "captures": 1, "doubles": 0}


async def test_a_caller_that_vanished_after_the_call_is_asked_about_not_repeated(
    world: World,
) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    _, attempt = await shop.invoice(viewer, 300)
    await world.payments.consumers[0].step(100)
    await _vanish(world, attempt, called=True)

    await world.settle()

    assert await shop.told(viewer) == ["payment.unknown", "payment.succeeded"]
    assert await shop.journal() == {"captured_minor": {"EUR": 300}, "captures": 1, "doubles": 0}


async def test_a_caller_that_vanished_before_the_call_never_charges(world: World) -> None:
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    _, attempt = await shop.invoice(viewer, 300)
    await world.payments.consumers[0].step(100)
    await _vanish(world, attempt, called=False)
    await world.settle()
    assert await shop.told(viewer) == ["payment.unknown"]

    await shop.advance(timedelta(minutes=5))
    await world.settle()

    assert await shop.told(viewer) == ["payment.unknown", "payment.failed"]
    assert (await shop.journal())["captures"] == 0


async def _vanish(world: World, attempt: object, *, called: bool) -> None:
    """A worker claims the attempt, perhaps calls, and is never seen again."""
    await world.admin.execute(
        "UPDATE payments.attempts SET state = 'in_flight',"
        " claimed_at = clock_timestamp() - interval '1 hour' WHERE id = $1",
        attempt,
    )
    if not called:
        return
    row = await world.admin.fetchrow(
        "SELECT a.tenant_id, a.id, p.amount_minor, p.connection_id, m.token"
        " FROM payments.attempts a JOIN payments.payments p ON p.id = a.payment_id"
        " JOIN payments.methods m ON m.id = p.method_id WHERE a.id = $1",
        attempt,
    )
    assert row is not None
    api_key, _ = world.provider.credentials(row["tenant_id"])
    await world.gateway.charge_saved(
        Connection("test", "sandbox", api_key),
        ChargeRequest(ids.text("att", row["id"]), row["token"], row["amount_minor"], "EUR"),
    )


async def test_money_that_arrives_after_a_failure_is_told(world: World) -> None:
    """A hint makes us ask about an attempt that was given up; the provider has the money."""
    shop = await world.shop()
    viewer = await shop.customer("visa_ok")
    _, attempt = await shop.invoice(viewer, 300)
    await world.payments.consumers[0].step(100)
    await _vanish(world, attempt, called=False)
    await world.settle()
    await shop.advance(timedelta(minutes=5))
    await world.settle()
    assert await shop.told(viewer) == ["payment.unknown", "payment.failed"]

    await world.admin.execute(
        "UPDATE payments.attempts SET state = 'in_flight', finished_at = NULL,"
        " claimed_at = clock_timestamp() WHERE id = $1",
        attempt,
    )
    await _vanish(world, attempt, called=True)
    await world.admin.execute(
        "UPDATE payments.attempts SET state = 'failed', finished_at = clock_timestamp()"
        " WHERE id = $1",
        attempt,
    )
    await shop.emit(
        "webhook.received",
        shop.tenant,
        {
            "webhook_id": ids.text("whr", shop.tenant),
            "endpoint_id": ids.text("whe", shop.tenant),
            "connection_id": ids.text("conn", shop.tenant),
            "hints": [
                {
                    "kind": "charge.succeeded",
                    "attempt_id": ids.text("att", attempt),
                    "provider_ref": None,
                }
            ],
        },
    )
    await world.settle()

    assert (await shop.told(viewer))[-1] == "payment.succeeded"
    assert await shop.journal() == {"captured_minor": {"EUR": 300}, "captures": 1, "doubles": 0}


async def test_a_hint_at_something_unknown_is_kept_and_let_go_in_the_end(world: World) -> None:
    shop = await world.shop()
    await shop.emit(
        "webhook.received",
        shop.tenant,
        {
            "webhook_id": ids.text("whr", shop.tenant),
            "endpoint_id": ids.text("whe", shop.tenant),
            "connection_id": ids.text("conn", shop.tenant),
            "hints": [{"kind": "x", "attempt_id": None, "provider_ref": "page_unheard_of"}],
        },
    )
    count = "SELECT count(*) FROM payments.hints WHERE tenant_id = $1"
    await world.settle()
    assert await world.admin.fetchval(count, shop.tenant) == 1
    for _ in range(5):
        await shop.advance(timedelta(days=1))
        await world.settle()
    assert await world.admin.fetchval(count, shop.tenant) == 0
