"""What was used, said by whoever measures it, and prices agreed with a customer."""

from __future__ import annotations

from uuid import UUID

import msgspec

from subledger.core.errors import CoreError
from subledger.core.parts import running_part
from subledger.core.pricing import PriceModel, Usage, kind_of, price, to_data
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import quantities, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases.conditions import NONE
from subledger.services.billing.usecases.end import lock_one
from subledger.services.billing.usecases.timelines import history, timeline

MOST_AGREED = 200
"""Agreements with one customer."""


async def put_used(
    tx: Tx,
    memory: TermsMemory,
    *,
    tenant_id: UUID,
    subscription_id: UUID,
    price_id: UUID,
    usage: Usage,
    data: str,
) -> None:
    """Say what the running period used of a metered price; its end bills the last word.

    Raises Problem: not_found, subscription_ended, unknown_reference where the price is not metered
    or not paid now; invalid_request where the price cannot read what was used.
    """
    row, at = await lock_one(tx, tenant_id, subscription_id)
    key = (tenant_id, subscription_id)
    terms = (await memory.load(tx, [(tenant_id, row.plan_version_id)]))[
        tenant_id, row.plan_version_id
    ]
    known = (await history(tx, memory, [row._asdict()], {key: at}))[key]
    part = running_part(timeline(row._asdict(), terms, (), NONE, known), str(price_id), at)
    if part is None or not part.item.metered:
        raise Problem(
            problems.UNKNOWN_REFERENCE,
            pointer="/price_id",
            detail="The subscription pays no such metered price now.",
        )
    try:
        price(part.item.model, usage)
    except CoreError as refused:
        raise Problem(
            "invalid_request", detail=refused.detail, pointer=refused.pointer, fix=refused.fix
        ) from refused
    await quantities.put_used(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "subscription_id": subscription_id,
                "price_id": price_id,
                "period_start_at": part.time.start_at,
                "used": data,
                "recorded_at": at,
            }
        ],
    )


async def agree(
    tx: Tx, *, tenant_id: UUID, customer_id: UUID, price_id: UUID, model: PriceModel
) -> None:
    """A customer pays this in place of a catalogue's price: at once in what it buys from now on,
    in running subscriptions from their next period on. (Stripe and Lago override a plan's charges
    for one customer so.)

    Raises Problem: not_found, unknown_reference, conflict beyond 200 agreements.
    """
    account: Key = (tenant_id, customer_id)
    locked = await subscriptions.lock_accounts(tx, [account])
    if account not in locked or locked[account].deleted_at is not None:
        raise Problem("not_found", detail="There is no such customer.")
    if (tenant_id, price_id) not in await quantities.prices(tx, [(tenant_id, price_id)]):
        raise Problem("not_found", detail="There is no such price.")
    found = await quantities.agreed(tx, [account])
    if sum(map(len, found.values())) >= MOST_AGREED:
        raise Problem("conflict", detail=f"At most {MOST_AGREED} prices are agreed with one.")
    at = (await subscriptions.moments(tx, locked, locked))[account]
    await quantities.put_agreed(
        tx,
        [
            {
                "tenant_id": tenant_id,
                "account_id": customer_id,
                "price_id": price_id,
                "from_at": at,
                "model": kind_of(model),
                "terms": msgspec.json.encode(to_data(model)).decode(),
            }
        ],
    )
