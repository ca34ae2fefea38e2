"""Operations: money goes back, by the shop, at the provider and by the payer's bank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subledger.platform import ids
from tests.simulation.operations.kinds import operation

if TYPE_CHECKING:
    from tests.simulation.month import Month
    from tests.simulation.people import Person

DISPUTES = "/sandbox/v1/disputes"


async def refund(month: Month, _: Person) -> None:
    """All or a part of a payment, to the method or to credit, backed by its invoice or by credit,
    now and then with the end of the subscription."""
    found = await _drawn_payment(month)
    if found is None:
        return month.nothing("refund")
    who, payment = found
    draw = month.draw
    how, source = draw.choice(
        (("method", "invoice"), ("method", "invoice"), ("method", "credit"), ("credit", "invoice"))
    )
    body: dict[str, Any] = {"to": how, "source": source, "reason": "goodwill"}
    if draw.random() < 0.6:
        body["amount_minor"] = draw.randrange(1, payment["amount_minor"] + 1)
    if draw.random() < 0.15:
        body["cancel_subscription"] = True
    path = f"/v1/payments/{payment['id']}/refunds"
    await month.ask("refund", who, path, body, how=f"{how}, {source}")


async def refund_outside(month: Month, _: Person) -> None:
    """Somebody gives money back in the provider's own dashboard."""
    found = await _drawn_payment(month)
    if found is None:
        return month.nothing("refund outside")
    who, payment = found
    who.asked.add("refund outside")
    amount = month.draw.randrange(1, payment["amount_minor"] + 1)
    await at_the_provider(
        month, "refund outside", "/sandbox/v1/refunds",
        {"attempt_id": _captured(payment), "amount_minor": amount, "currency": "EUR"},
    )  # fmt: skip


async def dispute(month: Month, _: Person) -> None:
    """The payer's bank takes a payment back, or decides about one that it took."""
    open_ = sorted(
        ids.text("dp", row["id"])
        for row in await month.life.admin.fetch(
            "SELECT id FROM sandbox.disputes WHERE tenant_id = $1 AND outcome IS NULL",
            month.tenant_id,
        )
    )
    if open_ and month.draw.random() < 0.6:
        outcome = month.draw.choice(("won", "lost"))
        path = f"{DISPUTES}/{month.draw.choice(open_)}/close"
        return await at_the_provider(month, "dispute decided", path, {"outcome": outcome})
    found = await _drawn_payment(month)
    if found is None:
        return month.nothing("dispute")
    who, payment = found
    who.asked.add("dispute")
    body: dict[str, Any] = {"attempt_id": _captured(payment), "fee_minor": 150}
    if month.draw.random() < 0.4:
        body["amount_minor"] = month.draw.randrange(1, payment["amount_minor"] + 1)
    await at_the_provider(month, "dispute", DISPUTES, body)


async def change_dispute_policy(month: Month, _: Person) -> None:
    how = month.draw.choice(("keep", "suspend", "cancel"))
    body = {"on_dispute": how}
    await month.ask("change dispute policy", None, "/v1/dispute-policy", body, how=how,
                    method="PUT")  # fmt: skip


async def at_the_provider(month: Month, what: str, path: str, body: Any) -> None:
    """A request of somebody else to the sandbox provider; whatever it says is right. Raises
    Died."""
    secret, _ = month.life.assembly.sandbox.credentials(month.tenant_id)
    key = f"outside-{month.seed}-{len(month.trace)}"
    answer = await month.life.lives(
        month.life.http.post(
            path, json=body,
            headers={"authorization": f"Bearer {secret}", "idempotency-key": key},
        )
    )  # fmt: skip
    month.heard(what, answer)
    said = answer.json()
    month.outcomes[what, said.get("code") or "ok"] += 1


async def _drawn_payment(month: Month) -> tuple[Person, Any] | None:
    found = [
        each
        for each in await month.get_all("/v1/payments")
        if each["status"] == "succeeded" and each["customer_id"] is not None
    ]
    if not found:
        return None
    payment = month.draw.choice(sorted(found, key=lambda each: str(each["id"])))
    whole = await month.get(f"/v1/payments/{payment['id']}")
    return month.person(whole["customer_id"]), whole


def _captured(payment: Any) -> str:
    done = [each["id"] for each in payment["attempts"] if each["state"] == "succeeded"]
    return str(done[-1] if done else payment["attempts"][-1]["id"])


OPERATIONS = (
    operation(
        "refund",
        7,
        refund,
        "refund_exceeds_payment",
        "refund_unavailable",
        "refund_not_ready",
        "payment_not_refundable",
        "payment_disputed",
        "partial_refund_unavailable",
    ),
    operation("refund outside", 3, refund_outside),
    operation("dispute", 4, dispute),
    operation("change dispute policy", 2, change_dispute_policy, is_shops=True),
)
