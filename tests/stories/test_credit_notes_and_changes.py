"""Credit notes and changes of the same charge: nothing is given back twice, goodwill stays."""

from __future__ import annotations

import pytest

from tests.stories.test_adjustments import credit_of
from tests.stories.test_changes import CHANGED, HALF, change
from tests.stories.test_credit_notes import note


async def cancel_now(shop, subscription):
    body = {"when": "now", "credit_unused": True}
    await shop.post(f"/v1/subscriptions/{subscription}/cancel", body, expect=200)


@pytest.mark.parametrize(
    ("noted", "given_back"), [(300, 1000), (1000, 1000), (1400, 600), (2000, 0)]
)
@pytest.mark.long
async def test_what_a_note_gave_back_is_not_given_back_by_the_end(seats, noted, given_back):
    """Half of the period is unused, 10.00 of 20.00: as much of it as notes left."""
    shop, viewer, subscription = seats
    first = await shop.last_invoice(viewer)
    await note(shop, first["id"], (1, noted))
    await shop.move_to(HALF)
    await cancel_now(shop, subscription)
    last = await shop.last_invoice(viewer)
    if given_back:
        assert (last["reason"], last["credited_minor"]) == ("subscription_end", given_back)
    else:
        assert last["id"] == first["id"], "there was nothing to put on an invoice"
    assert await credit_of(shop, viewer) == noted + given_back
    await shop.check()


async def test_goodwill_stays_through_changes_and_renewals(seats):
    shop, viewer, subscription = seats
    await note(shop, (await shop.last_invoice(viewer))["id"], (1, 300))
    await shop.new_events(viewer)
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="3")
    assert await shop.new_events(viewer) == CHANGED
    found = await shop.last_invoice(viewer)
    # As without the note: -10.00 and 15.00; its credit pays 3.00 of it.
    assert (found["total_minor"], found["credit_applied_minor"]) == (500, 300)
    await change(shop, subscription, quantity="1", settle="next_invoice")
    await shop.move_to("2026-03-01")
    renewal = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{renewal['id']}")
    assert sorted(line["net_minor"] for line in whole["lines"]) == [-1500, 500, 1000]
    await shop.check()


async def test_a_change_that_is_cut_by_a_note_is_cut_once(seats):
    """16.00 of 20.00 went back, so that a change at half time gives back 4.00 instead of 10.00,
    and no later one gives more."""
    shop, viewer, subscription = seats
    await note(shop, (await shop.last_invoice(viewer))["id"], (1, 1600))
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="3", settle="now")
    found = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{found['id']}")
    assert [(line["kind"], line["net_minor"]) for line in whole["lines"]] == [
        ("credit", -400), ("charge", 1500),
    ]  # fmt: skip
    told = await shop.raw(
        "GET", f"/v1/invoices/{found['id']}/explain", params={"format": "text", "locale": "en"}
    )
    assert "instead of -10.00 EUR: credit notes gave the rest back before" in told.text
    await shop.check()
    await shop.move_to("2026-02-21T10:00:00")
    await change(shop, subscription, quantity="2", settle="next_invoice")
    await shop.move_to("2026-03-01")
    renewal = await shop.last_invoice(viewer)
    whole = await shop.get(f"/v1/invoices/{renewal['id']}")
    assert sorted(line["net_minor"] for line in whole["lines"]) == [-750, 500, 2000]
    await shop.check()


async def test_what_a_change_took_back_is_not_credited_again(seats):
    shop, viewer, subscription = seats
    first = await shop.last_invoice(viewer)
    await shop.move_to(HALF)
    await change(shop, subscription, quantity="3", settle="now")
    upgrade = await shop.last_invoice(viewer)
    assert upgrade["total_minor"] == 500
    refused = await note(shop, first["id"], (1, 1001), expect=422)
    assert (refused["code"], refused["left_minor"]) == ("credit_exceeds_line", 1000)
    assert (await note(shop, first["id"]))["total_minor"] == 1000
    # The upgrade billed 5.00: its charge of 15.00 less 10.00. No more of it can go back.
    refused = await note(shop, upgrade["id"], (2, 501), expect=422)
    assert (refused["code"], refused["left_minor"]) == ("credit_exceeds_line", 500)
    refused = await note(shop, upgrade["id"], (1, 1), expect=422)
    assert (refused["code"], refused["left_minor"]) == ("credit_exceeds_line", 0)
    assert (await note(shop, upgrade["id"]))["total_minor"] == 500
    assert await credit_of(shop, viewer) == 1500
    await shop.check()
