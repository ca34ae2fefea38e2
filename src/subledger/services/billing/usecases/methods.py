"""Know who has a payment method: at a trial's end nobody is there to be asked."""

from __future__ import annotations

from collections.abc import Sequence

from subledger.contracts.events import PAYMENT_METHOD_ATTACHED, Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.billing.store import methods
from subledger.services.billing.store.methods import Method
from subledger.services.billing.terms import TermsMemory


async def know_methods(tx: Tx, _memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Payment methods that were attached or detached. The accounts are locked."""
    attached: list[Method] = []
    detached: list[Method] = []
    for event in given:
        method = (
            event.tenant_id,
            ids.parse("cus", event.data["customer_id"]),
            ids.parse("pm", event.data["payment_method_id"]),
        )
        (attached if event.type == PAYMENT_METHOD_ATTACHED else detached).append(method)
    # A method never comes back once it is detached, so the order inside a batch does not matter.
    await methods.save_methods(tx, attached)
    await methods.forget_methods(tx, detached)
