"""A payment link: what is due of its invoice now, and one hosted page, however many open it.

Billing decides who may collect, so of two payers who press the button at once one opens the page
and the other is led to the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.collections import Collections, DueInvoice
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.store import links, payments
from subledger.services.payments.usecases.collect import collect_manually

_READ = story("payments.read_link", reads=True)
_OPEN = story("payments.open_link")
PATIENCE_S = 8.0
"""How long a payer who pressed the button waits for the provider's page."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A link as it stands: its row, its invoice as billing has it, and the payment under way."""

    link: Row[Any]
    now: datetime
    invoice: DueInvoice | None
    live: Row[Any] | None

    @property
    def is_opening(self) -> bool:
        """Somebody has pressed the button, and the page is not there yet."""
        live = self.live
        return live is not None and live.status == "processing" and live.mode == "page"

    @property
    def state(self) -> str:
        """``revoked``, ``expired``, ``paid``, ``closed`` (nobody has to pay it any more), ``busy``
        (a payment is under way without a page), ``open`` (also while its page is being opened)."""
        if self.link.revoked_at is not None:
            return "revoked"
        if self.invoice is not None and self.invoice.status == "paid":
            return "paid"
        if self.invoice is None or self.invoice.due_minor <= 0:
            return "closed"
        if self.live is not None:
            return "open" if self.is_opening or self.live.status == "requires_action" else "busy"
        if self.link.expires_at is not None and self.now >= self.link.expires_at:
            return "expired"
        return "open"


class Linking:
    """Looks at links and opens their pages."""

    def __init__(self, *, database: Database, collections: Collections, waiting: Waiting) -> None:
        self._database = database
        self._collections = collections
        self._waiting = waiting

    async def due(self, tenant_id: UUID, invoice_id: UUID) -> DueInvoice | None:
        """What is open of an invoice now; None if there is none."""
        assert_no_transaction("due_invoices")
        found = await self._collections.due_invoices(Call(tenant_id), [invoice_id])
        return found[0] if found else None

    async def look(self, tenant_id: UUID, link_id: UUID) -> Opened | None:
        """The link as it stands; None if there is none."""
        key = (tenant_id, link_id)

        async def read(tx: Tx) -> tuple[Row[Any], datetime, Row[Any] | None] | None:
            link = (await links.links(tx, [key])).get(key)
            if link is None:
                return None
            live = await payments.live_of_invoice(tx, tenant_id, link.invoice_id)
            # One that has a page before one that still waits for its turn.
            ordered = sorted(live, key=lambda row: row.status == "processing")
            return link, await tx.now(tenant_id), ordered[0] if ordered else None

        found = await self._database.transact(_READ, read, tenants=[tenant_id])
        if found is None:
            return None
        link, now, live = found
        invoice = None
        if link.revoked_at is None:
            invoice = await self.due(tenant_id, link.invoice_id)
        return Opened(link, now, invoice, live)

    async def pay(self, opened: Opened, *, cause: UUID) -> str | None:
        """The address of the one page on which the invoice is paid: opened now, or the one that is
        open already. None if there is none: look again for what is true then."""
        link, live = opened.link, opened.live
        if opened.state != "open":
            return None
        if live is not None and not opened.is_opening:
            return str(live.redirect_url)
        payment_id = await self._wish(link, cause) if live is None else live.id
        # Whoever comes to it first opens it; who recorded the wish may have died.
        seen = await self._waiting.paid(link.tenant_id, payment_id, wait_s=PATIENCE_S)
        if seen.payment.status == "requires_action":
            return str(seen.payment.redirect_url)
        return await self._opened_by_other(link)

    async def _wish(self, link: Row[Any], cause: UUID) -> UUID:
        """Record that the invoice is to be paid on a page; the payment's id."""
        payment_id = self._database.ids.new()

        async def work(tx: Tx) -> None:
            await collect_manually(
                tx,
                tenant_id=link.tenant_id,
                payment_id=payment_id,
                invoice_id=link.invoice_id,
                method_id=None,
                connection_id=None,
                page=True,
                return_url=link.return_url,
                cause=cause,
            )

        await self._database.transact(_OPEN, work, tenants=[link.tenant_id])
        return payment_id

    async def _opened_by_other(self, link: Row[Any]) -> str | None:
        """The page that somebody else has opened, or is opening at this moment."""

        async def look() -> tuple[str | None] | None:
            again = await self.look(link.tenant_id, link.id)
            if again is None or again.live is None or again.live.status == "unknown":
                return (None,)
            opened = again.live.status == "requires_action"
            return (str(again.live.redirect_url),) if opened else None

        found = await self._waiting.until(look, PATIENCE_S)
        return found[0] if found else None
