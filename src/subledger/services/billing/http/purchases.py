"""Purchases: what is asked of payments ahead, and the transaction that those of one moment share.

A purchase alone takes some thirty statements and one fsync; so do thirty that share them
(docs/adr/0019-purchases-share-a-transaction.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from uuid import UUID

from subledger.contracts.calls import Call
from subledger.contracts.checkouts import Checkouts
from subledger.platform.db import Database, Tx
from subledger.platform.http.callers import Caller
from subledger.platform.http.idempotency import Answered, Claim, Keys
from subledger.platform.http.problems import Problem, foreign_return_url
from subledger.platform.together import Together
from subledger.services.billing.http.stories import READ, SUBSCRIBE
from subledger.services.billing.schemas.subscriptions import SubscriptionNew
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import subscribe
from subledger.services.billing.usecases.opening import Start

_Terms = tuple[UUID, UUID, Start]
"""Tenant, plan and start: whether such a purchase depends on a saved method."""


@dataclass(frozen=True, slots=True)
class Paying:
    """What payments says of a purchase: whether the method named can be charged, whether the payer
    may be sent back, and the method that would be charged, where the purchase depends on one."""

    is_usable: bool
    may_return: bool
    charged_id: UUID | None

    def checked(self) -> UUID | None:
        """Raises unknown_reference and return_url_not_allowed."""
        if not self.may_return:
            raise foreign_return_url()
        if not self.is_usable:
            raise Problem(
                "unknown_reference",
                pointer="/payment_method_id",
                detail="The customer has no such payment method, or it was detached.",
            )
        return self.charged_id


@dataclass(frozen=True, slots=True)
class _Asked:
    """One purchase as it was asked for, with what payments says of it."""

    body: SubscriptionNew
    paying: Paying
    claim: Claim

    def apart(self) -> set[Hashable]:
        """Of one payer one at a time, of one key too, and of those that name codes or discounts,
        whose limits a purchase is to find as the one before it left them."""
        found: set[Hashable] = {self.body.customer_id}
        key = self.claim.caller.idempotency_key
        if key is not None:
            found.add((self.claim.caller.principal.id, key))
        if self.body.promotion_codes or self.body.discount_ids:
            found.add("discounts")
        return found


class Purchases:
    """Makes subscriptions, those of one tenant that are asked for at one moment together."""

    def __init__(
        self, database: Database, checkouts: Checkouts, memory: TermsMemory, keys: Keys
    ) -> None:
        self._database = database
        self._checkouts = checkouts
        self._memory = memory
        self._keys = keys
        self._terms: Together[_Terms, bool] = Together(self._need_methods)
        self._made: Together[_Asked, Answered[bool]] = Together(self._make)

    async def paying(self, call: Call, body: SubscriptionNew) -> Paying:
        """Asked before the purchase's transaction, since payments may be another process."""
        method_id = body.payment_method_id
        usable = method_id is None or await self._checkouts.chargeable(
            call, body.customer_id, method_id
        )
        may_return = body.return_url is None or await self._checkouts.return_allowed(
            call, body.return_url
        )
        wanted = await self._terms.ask(
            (call.tenant_id, body.plan_id, body.start()), lane=call.tenant_id
        )
        if not wanted:
            return Paying(usable, may_return, None)
        charged_id = await self._checkouts.method_to_charge(call, body.customer_id, method_id)
        return Paying(usable, may_return, charged_id)

    async def make(self, caller: Caller, body: SubscriptionNew) -> Answered[bool]:
        """The new subscription, or the one that the same request made before; the value says that
        it was made just now and waits for its first payment. Raises the problems
        of ``subscribe``, of idempotency keys, and service_unavailable if too many wait."""
        paying = await self.paying(Call(caller.tenant_id), body)
        claim = Claim(caller, "subscriptions.create", body, self._database.ids.new())
        asked = _Asked(body, paying, claim)
        return await self._made.ask(asked, lane=caller.tenant_id, apart=asked.apart())

    async def _need_methods(self, asked: Sequence[_Terms]) -> list[bool]:
        async with self._database.transaction(READ, tenants={each[0] for each in asked}) as tx:
            known = {
                each: await subscribe.needs_method(
                    tx, self._memory, tenant_id=each[0], plan_id=each[1], start=each[2]
                )
                for each in dict.fromkeys(asked)
            }
        return [known[each] for each in asked]

    async def _make(self, asked: Sequence[_Asked]) -> list[Answered[bool]]:
        async def work(tx: Tx) -> list[Answered[bool]]:
            earlier = await self._keys.claim_all(tx, [each.claim for each in asked])
            # Checked here: a repeated request gets its first answer.
            new = [each for each, known in zip(asked, earlier, strict=True) if known is None]
            requests = [
                request(each.claim.caller, each.body, each.claim.resource_id, each.paying.checked())
                for each in new
            ]
            waiting = set()
            if requests:
                waiting = await subscribe.subscribe(tx, self._memory, requests)
            return [
                Answered(
                    each.claim.resource_id in waiting,
                    known is not None,
                    known or each.claim.resource_id,
                )
                for each, known in zip(asked, earlier, strict=True)
            ]

        tenants = {each.claim.caller.tenant_id for each in asked}
        return await self._database.transact(SUBSCRIBE, work, tenants=tenants)


def request(
    caller: Caller, body: SubscriptionNew, subscription_id: UUID, method_id: UUID | None
) -> subscribe.SubscribeRequest:
    """What the use case is asked; ``method_id`` is the one that would be charged."""
    return subscribe.SubscribeRequest(
        tenant_id=caller.tenant_id,
        subscription_id=subscription_id,
        customer_id=body.customer_id,
        beneficiary_id=body.beneficiary_id or body.customer_id,
        plan_id=body.plan_id,
        currency=body.currency,
        quantity=body.quantity,
        discount_ids=tuple(body.discount_ids),
        collection=body.collection,
        payment_method_id=body.payment_method_id,
        return_url=body.return_url,
        proration=body.mode(),
        start=body.start(),
        charged_method_id=method_id,
        cause=caller.request_id,
        promotion_codes=tuple(body.promotion_codes),
    )
