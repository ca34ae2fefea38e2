"""Operations: cards, payments, hosted pages, the provider's faults, dunning, time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.simulation.operations.kinds import drawn_invoice, operation

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person

KINDS = (
    *("visa_ok",) * 14,
    *("pending_ok", "pending_decline", "timeout", "timeout_lost", "requires_action"),
    *("soft_decline", "hard_decline", "insufficient_funds:2", "soft_after:1", "hard_after:1"),
)
CARDS = ("4242 4242 4242 4242", "4242 4242 4242 4242", "4000 0000 0000 0002")
FAULTS = ("charge_no_reply", "charge_500", "webhook_never", "webhook_twice")
MOST_UNKNOWN = 3
"""More answers lost in a row would open the provider's breaker: then a charge waits for an hour."""
PAGE = {"return_url": "http://sim.test/thanks"}


async def card(month: Month, who: Person) -> None:
    body = {
        "customer_id": who.id,
        "test_kind": month.draw.choice(KINDS),
        "make_default": month.draw.random() < 0.8,
    }
    await month.ask("card", who, "/v1/payment-methods", body)


async def pay(month: Month, _: Person) -> None:
    found = await drawn_invoice(month, "open", "uncollectible")
    if found is None:
        return month.nothing("pay")
    who, invoice = found
    body: dict[str, Any] = {"invoice_id": invoice}
    how = "card"
    if who.cards and month.draw.random() < 0.7:
        body["payment_method_id"] = month.draw.choice(who.cards)
        if month.draw.random() < 0.3:
            how, body["capture_method"] = "in two stages", "manual"
    else:
        how, body = "page", body | {"mode": "page", **PAGE}
        if month.draw.random() < 0.3:
            how, body["capture_method"] = "page in two stages", "manual"
    await month.ask("pay", who, "/v1/payments", body, how=how)


async def capture(month: Month, _: Person) -> None:
    """What is authorized is taken, whole or in part, or let go."""
    found = await month.get_all("/v1/payments")
    waiting = [each for each in found if each["status"] == "authorized"]
    if not waiting:
        return month.nothing("capture")
    payment = month.draw.choice(sorted(waiting, key=lambda each: str(each["id"])))
    who, body = month.person(payment["customer_id"]), {}
    how = month.draw.choice(("whole", "whole", "part", "cancel"))
    if how == "part":
        body["amount_minor"] = month.draw.randrange(1, payment["amount_minor"] + 1)
    path = f"/v1/payments/{payment['id']}/{'cancel' if how == 'cancel' else 'capture'}"
    await month.ask("capture", who, path, body, how=how)


async def top_up(month: Month, who: Person) -> None:
    """Money into the account that no invoice asks for."""
    body: dict[str, Any] = {"amount_minor": month.draw.randrange(1, 1_500), "currency": "EUR"}
    how = "card"
    if who.cards and month.draw.random() < 0.8:
        body["payment_method_id"] = month.draw.choice(who.cards)
    else:
        how, body = "page", body | {"collection": "page", **PAGE}
    await month.ask("top up", who, f"/v1/customers/{who.id}/payments", body, how=how)


async def apply(month: Month, _: Person) -> None:
    """Unapplied money pays open invoices, the last one perhaps in part."""
    who = month.draw.choice(
        [each for each in month.people if any(name.startswith("top up") for name in each.asked)]
        or month.people
    )
    await month.ask("apply", who, f"/v1/customers/{who.id}/apply-unapplied", None)


async def visit_page(month: Month, _: Person) -> None:
    found = await month.get_all("/v1/payments")
    urls = sorted(each["next_action"]["redirect_url"] for each in found if each["next_action"])
    if not urls:
        return month.nothing("visit page")
    url, number = month.draw.choice(urls), month.draw.choice(CARDS)
    answer = await month.life.lives(
        month.life.http.post(urlsplit(url).path, data={"card_number": number, "keep": "on"})
    )
    month.heard("visit page", answer)
    month.outcomes["visit page", "ok" if answer.status_code < 400 else "refused"] += 1


async def fault(month: Month, _: Person) -> None:
    await set_fault(month, month.draw.choice(FAULTS), month.draw.randrange(1, MOST_UNKNOWN))


async def set_fault(month: Month, mode: str, times: int) -> None:
    """401 until payments opened the merchant's account."""
    secret, _ = month.life.assembly.sandbox.credentials(month.tenant_id)
    answer = await month.life.lives(
        month.life.http.post(
            "/sandbox/v1/faults", json={"mode": mode, "remaining": times},
            headers={"authorization": f"Bearer {secret}"},
        )
    )  # fmt: skip
    month.heard(f"fault {mode}", answer)


async def change_dunning(month: Month, _: Person) -> None:
    """How often a refused payment is tried again, and what then becomes of its invoice."""
    how = month.draw.choice(("cancel", "uncollectible", "pause", "none"))
    body = {
        "delays_s": month.draw.choice(([], [86_400], [86_400, 259_200])),
        "final_action": how,
        "hard_decline_stops": month.draw.random() < 0.5,
        "fallback_after": month.draw.choice(([], ["hard"], ["soft", "insufficient_funds"])),
        "preferred": month.draw.choice(({}, {"hour": 9})),
    }
    await month.ask("change dunning", None, "/v1/dunning-policy", body, how=how, method="PUT")


async def switch(month: Month, _: Person) -> None:
    """A job of the shop is stopped; what is stopped mostly goes on."""
    stopped = await stopped_jobs(month)
    if stopped and month.draw.random() < 0.7:
        await turn(month, month.draw.choice(stopped), on=False)
    else:
        await turn(month, month.draw.choice(("renewals", "collections", "dunning")), on=True)


async def stopped_jobs(month: Month) -> list[str]:
    switches = (await month.get("/v1/kill-switches"))["data"]
    return sorted(each["job"] for each in switches if each["on"])


async def turn(month: Month, job: str, *, on: bool) -> None:
    how, body = "on" if on else "off", {"on": on, "reason": "seen in a dream"}
    await month.ask("switch", None, f"/v1/kill-switches/{job}", body, how=how, method="PUT")


async def move_clock(month: Month, _: Person) -> None:
    clock = await month.get("/v1/clock")
    if clock["clock_move_id"] or month.waits("time"):
        return month.nothing("time")
    now_at = await month.now()
    hours = month.draw.choice((1, 6, 24, 72, 120, 168))
    to_at = min(now_at + timedelta(hours=hours), month.last_at)
    if to_at > now_at:
        await month.ask("time", None, "/v1/clock-moves", {"to_at": to_at.isoformat()})


OPERATIONS = (
    operation("card", 9, card),
    operation(
        "pay",
        6,
        pay,
        "payment_declined",
        "invoice_not_open",
        "invoice_already_reserved",
        "invoice_not_collectable",
    ),
    operation("capture", 5, capture, "payment_not_capturable", "payment_not_cancelable"),
    operation("top up", 4, top_up, "payment_declined"),
    operation("apply", 4, apply),
    operation("visit page", 8, visit_page),
    operation("fault", 4, fault),
    operation("change dunning", 2, change_dunning, is_shops=True),
    operation("switch", 3, switch, is_shops=True),
    operation("time", 40, move_clock, "clock_is_moving", "clock_backwards"),
)
