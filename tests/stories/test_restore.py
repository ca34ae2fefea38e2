"""A backup of an hour ago is restored; what the provider took since is found and booked.

The provider is somebody else's system: its journal is not restored. It stays in the first
database, and the restored services live in another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from subledger.hosts.assembly import Options, assemble
from subledger.platform import migrate
from tests.postgres import Server
from tests.pump import Pump
from tests.stories.conftest import options_on
from tests.stories.reconciling import balance, charge, open_items, reconcile
from tests.stories.refund_world import paid, refund
from tests.stories.shop import Shop, open_shop, seats_plan
from tests.stories.test_adjustments import books

BEFORE, AFTER = "2026-02-28T09:30:00", "2026-02-28T10:30:00"
_BACKUP = "{}_backup"


@pytest.fixture
def options(module_database_url: str, secret_key: str, front_port: int | None) -> Options:
    """On a database of its own, which is copied while nobody is connected."""
    return options_on(module_database_url, secret_key, front_port)


@pytest.fixture
async def backup(
    module_database_url: str, pg_server: Server, admin: Any
) -> AsyncIterator[Callable[[], Any]]:
    """``await backup()``: a copy of the database as it is (nobody is connected); its URL."""
    name = str(make_url(module_database_url).database)
    copy = _BACKUP.format(name)
    connection = await admin(pg_server.admin_url)

    async def make() -> str:
        await connection.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{name}"')
        return pg_server.url(copy)

    yield make
    await connection.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
    await connection.close()


def services_of(options: Options, url: str, secret_key: str) -> Options:
    """All services on the restored database, the provider on its own."""

    def url_of(name: str) -> str:
        return (
            options.url_of(name)
            if name == "sandbox"
            else migrate.service_url(url, name, secret_key)
        )

    return dataclasses.replace(options, url_of=url_of)


async def goes_on(shop: Shop, options: Options) -> Shop:
    """The same shop, in a new process."""
    assembly = assemble(options)
    await assembly.memory.catch_up()
    api = httpx.AsyncClient(
        transport=httpx.ASGITransport(assembly.app), base_url="http://shop.test", timeout=60,
        headers=shop.api.headers,
    )  # fmt: skip
    return Shop(assembly, Pump(assembly), api, shop.tenant_id, shop.key, shop.live_key)


@pytest.mark.long
async def test_what_the_provider_took_since_the_backup_is_found_and_booked(
    options: Options, module_database_url: str, secret_key: str, admin: Any, backup: Any
) -> None:
    # Given a customer who paid 20.00, and a backup before the renewal.
    shop = await open_shop(assemble(options))
    plan, viewer = await seats_plan(shop), await shop.customer()
    await shop.card(viewer)
    await shop.subscribe(viewer, plan, quantity="2")
    await shop.move_to(BEFORE)
    await shop.assembly.close()
    restored_url = await backup()
    # An hour passes: the renewal is paid, 5.00 of the first payment goes back, and somebody takes
    # 3.00 more of the customer by hand.
    shop = await goes_on(shop, options)
    first = await paid(shop, viewer)
    await shop.move_to(AFTER)
    await refund(shop, first, amount_minor=500)
    await charge(shop, 300, "att_7zzzzzzzzzzzzzzzzzzzzzzzzz", customer_id=viewer)
    assert await shop.captured() == {"EUR": 2000 + 2000 - 500 + 300}
    lost = await shop.last_invoice(viewer)
    await shop.assembly.close()

    # When the services are restored, with collections stopped before anything else; time went on.
    connection = await admin(restored_url)
    await connection.execute(
        "UPDATE identity.clocks SET now_at = $1 WHERE tenant_id = $2",
        datetime.fromisoformat(f"{AFTER}+00:00"), shop.tenant_id,
    )  # fmt: skip
    await connection.close()
    shop = await goes_on(shop, services_of(options, restored_url, secret_key))
    stopped = await shop.api.put(
        "/v1/kill-switches/collections", json={"on": True, "reason": "restored"}
    )
    assert stopped.status_code == 200, stopped.text
    await shop.pump.quiet()
    # The renewal is billed anew, and nothing is charged.
    assert await shop.captured() == {"EUR": 3800}
    again = await shop.last_invoice(viewer)
    assert (again["status"], again["total_minor"]) == ("open", 2000)
    assert again["id"] != lost["id"]

    run = await reconcile(shop)

    # Then what was taken pays for it, what went back is booked, and the rest is the customer's.
    assert (run["counts"]["settled"], run["counts"]["adopted"]) == (1, 1)
    assert run["counts"]["refunds_asked"] == 1
    assert (await shop.last_invoice(viewer))["status"] == "paid"
    assert await open_items(shop) == [("payment_unapplied", 300), ("refund_outside", 500)]
    assert balance(await reconcile(shop)) == (3800, 3800, 0, 0)
    held = await books(shop)
    assert (held["provider_clearing"], held["unapplied"]) == (3800, -300)
    # And when collections go on, nobody is charged twice.
    let_go = await shop.api.put(
        "/v1/kill-switches/collections", json={"on": False, "reason": "reconciled"}
    )
    assert let_go.status_code == 200
    await shop.pump.quiet()
    assert await shop.captured() == {"EUR": 3800}
    await shop.check()
    await shop.assembly.close()
