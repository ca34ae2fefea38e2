"""One-off charges: a price of the catalogue that is billed once, when it is asked for.

It makes an invoice of its own, with the taxes of its day and without the subscription's discounts,
and no later change takes it back: only a credit note does. (Stripe's invoice items, Lago's add-ons
and Kill Bill's external charges stand apart from what a plan bills in the same way.)
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from subledger.core import invoicing
from subledger.core.calendar import Anchor
from subledger.core.timeline import Draft, Item, Phase, Timeline, Timing
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import quantities
from subledger.services.billing.terms import PlanTerms, PriceTerms, TermsMemory
from subledger.services.billing.usecases import guard
from subledger.services.billing.usecases.conditions import conditions_of
from subledger.services.billing.usecases.end import lock_one
from subledger.services.billing.usecases.invoice_now import invoice_now

KIND = "one_off"
"""Of such a line: it belongs to no period, so that nothing is billed anew from it."""


async def charge_once(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    price_id: UUID,
    quantity: Decimal,
    cause: UUID | None,
) -> None:
    """Bill a price with timing ``once`` to a subscription's payer now.

    Raises Problem: not_found, subscription_ended, subscription_not_active, unknown_reference,
    price_missing_for_currency, billing_limit_exceeded; CoreError for what price or taxes refuse.
    """
    row, at = await lock_one(tx, tenant_id, subscription_id)
    if row.status not in {"active", "past_due"}:
        raise Problem(problems.SUBSCRIPTION_NOT_ACTIVE, detail=f"The subscription is {row.status}.")
    terms, price = await _price(tx, memory, tenant_id, price_id)
    if price.currency != row.currency:
        raise Problem(
            problems.PRICE_MISSING, pointer="/price_id",
            detail=f"The price is in {price.currency}, the subscription in {row.currency}.",
        )  # fmt: skip
    values = row._asdict()
    found_for = await conditions_of(tx, memory, values, [terms], at)
    item = Item(
        price_id=str(price_id),
        model=price.model,
        quantity=quantity,
        timing=Timing.ONCE,
        taxed=found_for.taxed(values, terms, price),
    )
    made = invoicing.draft(
        Timeline(
            anchor=Anchor(at, row.timezone),
            interval=price.interval,
            currency=row.currency,
            phases=(Phase(at, (item,)),),
            parties=found_for.parties(values),
            tax_rounding=found_for.taxes.rounding(tenant_id),
            tax_ties=found_for.taxes.ties(tenant_id),
        ),
        first_period=0,
        horizon_at=at,
    )
    await guard.refuse_large(
        tx, tenant_id=tenant_id, at=at, currency=made.currency, total_minor=made.total_minor,
        pointer="/price_id",
    )  # fmt: skip
    await invoice_now(
        tx, row, terms, _at_once(made), (),
        reason="one_off_charge", at=at, cause=cause, look_back_from=row.dirty_from_period,
    )  # fmt: skip


def _at_once(made: Draft) -> Draft:
    """Delivered the moment that it is charged; the subscription's period stays as it is."""
    lines = tuple(
        replace(each, kind=KIND, service_end_at=each.service_start_at) for each in made.lines
    )
    return replace(made, lines=lines, period=None)


async def _price(
    tx: Tx, memory: TermsMemory, tenant_id: UUID, price_id: UUID
) -> tuple[PlanTerms, PriceTerms]:
    """The price and the plan version that it is of. Raises unknown_reference."""
    key = (tenant_id, price_id)
    found = (await quantities.prices(tx, [key])).get(key)
    if found is not None:
        version = (tenant_id, found.plan_version_id)
        terms = (await memory.load(tx, [version]))[version]
        for each in terms.prices:
            if each.price_id == price_id and each.timing is Timing.ONCE:
                return terms, each
    raise Problem(
        problems.UNKNOWN_REFERENCE, pointer="/price_id",
        detail="There is no such price with timing once.",
    )  # fmt: skip
