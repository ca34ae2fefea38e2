"""The provider's webhooks: signed, repeated on the tenant's clock, bounded, spoiled on demand."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from subledger.providers.port import HttpRequest, HttpResponse
from subledger.providers.sandbox import callbacks
from subledger.providers.sandbox.adapter import SIGNATURE, SandboxAdapter
from tests.providers.bank import Bank, Merchant

DUE_CHARGE = timedelta(hours=1)


async def pending(merchant: Merchant, n: int = 1) -> None:
    """Charges whose webhooks are due in an hour."""
    slow = await merchant.method("pending_ok")
    for i in range(n):
        await merchant.charge(slow, f"att_{i}")


def got(merchant: Merchant) -> list[HttpRequest]:
    return [each for each in merchant.bank.inbox.got if each.path == merchant.hook_path]


async def states(merchant: Merchant) -> dict[str, int]:
    rows = await merchant.bank.admin.fetch(
        "SELECT state, count(*) AS n FROM sandbox.callbacks WHERE tenant_id = $1 GROUP BY state",
        merchant.tenant,
    )
    return {row["state"]: row["n"] for row in rows}


async def test_a_webhook_is_signed_with_the_merchants_secret(merchant: Merchant) -> None:
    await pending(merchant)
    await merchant.advance(DUE_CHARGE)
    await merchant.bank.settle()
    (sent,) = got(merchant)
    adapter, now_s = SandboxAdapter(), int(time.time())
    assert merchant.connection.api_key.encode() not in sent.body
    secret = merchant.connection.webhook_secret
    assert adapter.verify(sent.headers, sent.body, secret, now_s) == "strong"
    assert adapter.verify(sent.headers, sent.body + b" ", secret, now_s) == "rejected"
    assert adapter.verify(sent.headers, sent.body, "whsec_guess", now_s) == "rejected"
    assert adapter.verify(sent.headers, sent.body, secret, now_s + 3600) == "rejected"
    (hint,) = adapter.parse(sent.body)
    assert (hint.kind, hint.attempt_id) == ("charge.succeeded", "att_0")
    assert SIGNATURE in sent.headers


async def test_it_comes_again_until_it_is_taken(merchant: Merchant) -> None:
    await pending(merchant)
    merchant.bank.inbox.statuses = [500, 302, 404]
    await merchant.advance(DUE_CHARGE)
    await merchant.bank.settle()
    assert (len(got(merchant)), await states(merchant)) == (1, {"waiting": 1})

    for minutes, tries in ((1, 2), (8, 3), (27, 4)):
        await merchant.advance(timedelta(minutes=minutes) - timedelta(seconds=1))
        await merchant.bank.settle()
        assert len(got(merchant)) == tries - 1
        await merchant.advance(timedelta(seconds=1))
        await merchant.bank.settle()
        assert len(got(merchant)) == tries
    assert await states(merchant) == {"delivered": 1}
    assert len({each.body for each in got(merchant)}) == 1
    await merchant.advance(timedelta(days=30))
    await merchant.bank.settle()
    assert len(got(merchant)) == 4


async def test_it_is_given_up_after_ten_tries(merchant: Merchant) -> None:
    await pending(merchant)
    merchant.bank.inbox.statuses = [503] * 10
    await merchant.advance(DUE_CHARGE)
    for _ in range(12):
        await merchant.bank.settle()
        await merchant.advance(timedelta(days=1))
    assert (len(got(merchant)), await states(merchant)) == (10, {"given_up": 1})
    assert merchant.bank.inbox.statuses == []


@pytest.mark.parametrize(
    ("mode", "deliveries"), [("webhook_never", 0), ("webhook_twice", 2), ("webhook_thrice", 3)]
)
async def test_webhooks_get_lost_and_repeated_on_demand(
    merchant: Merchant, mode: str, deliveries: int
) -> None:
    await merchant.fault(mode)
    await pending(merchant)
    await merchant.advance(DUE_CHARGE)
    await merchant.bank.settle()
    bodies = [each.body for each in got(merchant)]
    assert len(bodies) == deliveries
    assert len(set(bodies)) <= 1  # the same notification, under the same id
    # The next one is as it should be.
    await merchant.charge(await merchant.method("pending_decline"), "att_next")
    await merchant.advance(DUE_CHARGE)
    await merchant.bank.settle()
    assert len(got(merchant)) == deliveries + 1


async def test_a_fault_that_does_not_exist_is_refused(merchant: Merchant) -> None:
    for data in ({"mode": "earthquake", "remaining": 1}, {"mode": "charge_500", "remaining": -1}):
        assert await merchant.ask("POST", "/v1/faults", data) == (422, {"code": "unknown_fault"})
    assert (await merchant.ask("POST", "/v1/faults", {"mode": "charge_500"}))[0] == 400


async def test_a_slow_merchant_costs_no_one_a_try(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round ends in time; what was not sent goes back as it was."""
    monkeypatch.setattr(callbacks, "ROUND_S", 0.0)
    await pending(merchant, 3)
    await merchant.advance(DUE_CHARGE)
    due, deliver = merchant.bank.service.steps
    assert await due.run(10) == 3
    assert await deliver.run(10) == 3
    assert (got(merchant), await states(merchant)) == ([], {"ready": 3})
    monkeypatch.undo()
    await merchant.bank.settle()
    assert (len(got(merchant)), await states(merchant)) == (3, {"delivered": 3})
    tries = await merchant.bank.admin.fetch(
        "SELECT DISTINCT tries FROM sandbox.callbacks WHERE tenant_id = $1", merchant.tenant
    )
    assert [row["tries"] for row in tries] == [1]


async def test_a_merchant_that_hangs_is_cut_off(
    bank: Bank, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging:
        async def send(self, request: HttpRequest) -> HttpResponse:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(callbacks, "SEND_S", 0.05)
    slow = callbacks.Callbacks(bank.service.database, bank.app.credentials, Hanging())
    await pending(merchant)
    await merchant.advance(DUE_CHARGE)
    assert (await slow.become_due(10), await slow.deliver(10)) == (1, 1)
    assert await states(merchant) == {"waiting": 1}


async def test_a_sender_that_died_is_replaced_after_its_lease(merchant: Merchant) -> None:
    class Died(BaseException):
        pass

    class Dying:
        async def send(self, request: HttpRequest) -> HttpResponse:
            raise Died

    bank = merchant.bank
    dying = callbacks.Callbacks(bank.service.database, bank.app.credentials, Dying())
    await pending(merchant)
    await merchant.advance(DUE_CHARGE)
    await dying.become_due(10)
    with pytest.raises(Died):
        await dying.deliver(10)
    assert await states(merchant) == {"sending": 1}
    await bank.settle()
    assert got(merchant) == []  # the lease still runs
    await bank.admin.execute(
        "UPDATE sandbox.callbacks SET claimed_at = claimed_at - interval '21 s'"
        " WHERE tenant_id = $1",
        merchant.tenant,
    )
    await bank.settle()
    assert (len(got(merchant)), await states(merchant)) == (1, {"delivered": 1})


async def test_what_is_under_way_keeps_the_tenant_busy(merchant: Merchant) -> None:
    (quiet,) = merchant.bank.service.quiet
    due, _ = merchant.bank.service.steps

    async def busy() -> list[Any]:
        query = quiet.query.replace(":tenant", "$1")
        return [tuple(row) for row in await merchant.bank.admin.fetch(query, merchant.tenant)]

    await pending(merchant)
    assert await busy() == []  # a due row, which clock moves see by themselves
    await merchant.advance(DUE_CHARGE)
    await due.run(10)
    assert await busy() == [("provider callbacks", 1)]
    await merchant.bank.settle()
    assert await busy() == []
