"""Collections that billing asked for: a payment with its attempt, ready or still to be reserved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.contracts.events import Recorded
from subledger.core.dunning_choice import method_to_try
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.services.payments.store import methods, payments


async def collect_finalized(tx: Tx, given: Sequence[Recorded]) -> None:
    """Open the collection of finalized invoices that carry their reservation.

    An invoice without one (nothing to pay) and an attempt that exists already are skipped. The
    method is the one named, while it can be charged, else the customer's default; without
    either the attempt is made all the same and the executor refuses it.
    """
    wanted = [
        (event, ids.parse("att", event.data["collection"]["attempt_id"]))
        for event in given
        if event.data["collection"] is not None
    ]
    if not wanted:
        return
    known = await payments.known_attempts(
        tx, ((event.tenant_id, attempt) for event, attempt in wanted)
    )
    wanted = [each for each in wanted if (each[0].tenant_id, each[1]) not in known]
    named = [
        (event.tenant_id, event.subject, _method_of(event.data["collection"]))
        for event, _ in wanted
    ]
    chosen = await methods.to_charge(tx, named)
    rows, attempts = [], []
    for (event, attempt_id), name in zip(wanted, named, strict=True):
        collection = event.data["collection"]
        page = collection["mode"] == "page"
        method_id, connection_id = (None, None) if page else chosen[name]
        payment = _payment(
            tx,
            event,
            invoice_id=ids.parse("inv", event.data["invoice_id"]),
            method_id=method_id,
            connection_id=connection_id,
        ) | {
            "mode": collection["mode"],
            "dunning": collection["dunning"],
            "amount_minor": collection["amount_minor"],
            "currency": event.data["currency"],
            "return_url": collection["return_url"],
        }
        rows.append(payment)
        attempts.append(
            _attempt(payment, attempt_id, kind="page" if page else "charge", state="ready")
        )
    await payments.insert(tx, rows, attempts)


async def collect_retries(tx: Tx, given: Sequence[Recorded]) -> None:
    """Try again what dunning wants tried again; the reservation is asked for first.

    The same retry announced twice is one payment. It is made by the method that is named while it
    can be charged, else by the first in the customer's order that is not to be avoided.
    """
    numbered = {
        (event.tenant_id, ids.parse("inv", event.data["invoice_id"]), event.data["number"]): event
        for event in given
    }
    known = await payments.known_retries(tx, numbered)
    numbered = {key: event for key, event in numbered.items() if key not in known}
    owners = {(event.tenant_id, event.subject) for event in numbered.values()}
    in_order = await methods.in_order(tx, owners)
    rows, attempts, retries = [], [], []
    for (tenant_id, invoice_id, number), event in sorted(
        numbered.items(), key=lambda item: item[0]
    ):
        method_id, connection_id = _to_try(event, in_order.get((tenant_id, event.subject), []))
        payment = _payment(
            tx, event, invoice_id=invoice_id, method_id=method_id, connection_id=connection_id
        ) | {
            "mode": "automatic",
            "dunning": True,
            "amount_minor": None,
            "currency": None,
            "return_url": None,
        }
        rows.append(payment)
        attempts.append(_attempt(payment, tx.ids.new(), kind="charge", state="reserving"))
        retries.append(
            {
                "tenant_id": tenant_id,
                "invoice_id": invoice_id,
                "number": number,
                "payment_id": payment["id"],
            }
        )
    await payments.insert(tx, rows, attempts)
    await payments.insert_retries(tx, retries)


async def collect_manually(
    tx: Tx,
    *,
    tenant_id: UUID,
    payment_id: UUID,
    invoice_id: UUID,
    method_id: UUID | None,
    connection_id: UUID | None,
    page: bool,
    return_url: str | None,
    cause: UUID,
    capture_method: str = "automatic",
) -> UUID:
    """Record the wish to pay an invoice, or only to authorize it (``manual``); billing decides
    whether it may be. Returns the attempt."""
    now = await tx.now(tenant_id)
    payment = {
        "tenant_id": tenant_id,
        "id": payment_id,
        "customer_id": None,
        "invoice_id": invoice_id,
        "connection_id": connection_id,
        "method_id": method_id,
        "mode": "page" if page else "manual",
        "dunning": False,
        "amount_minor": None,
        "currency": None,
        "status": "processing",
        "return_url": return_url,
        "cause": cause,
        "occurred_at": now,
        "created_at": now,
        "subscription_ids": "[]",
        "capture_method": capture_method,
    }
    attempt_id = tx.ids.new()
    attempt = _attempt(payment, attempt_id, kind="page" if page else "charge", state="reserving")
    await payments.insert(tx, [payment], [attempt])
    return attempt_id


def _to_try(event: Recorded, in_order: Sequence[Row[Any]]) -> tuple[UUID | None, UUID | None]:
    """The method of a retry and its connection; two Nones for a customer without any."""
    connections = {row.id: row.connection_id for row in in_order}
    named, avoid = event.data.get("payment_method_id"), event.data.get("avoid_method_ids", ())
    chosen = None if named is None else ids.parse("pm", named)
    if chosen not in connections:
        chosen = method_to_try(list(connections), [ids.parse("pm", each) for each in avoid])
    return chosen, None if chosen is None else connections[chosen]


def _method_of(collection: dict[str, Any]) -> UUID | None:
    named = collection["payment_method_id"]
    return None if named is None else ids.parse("pm", named)


def _payment(
    tx: Tx,
    event: Recorded,
    *,
    invoice_id: UUID,
    method_id: UUID | None,
    connection_id: UUID | None,
) -> dict[str, Any]:
    return {
        "tenant_id": event.tenant_id,
        "id": tx.ids.new(),
        "customer_id": event.subject,
        "invoice_id": invoice_id,
        "connection_id": connection_id,
        "method_id": method_id,
        "status": "processing",
        "cause": event.id,
        "occurred_at": event.occurred_at,
        "created_at": event.occurred_at,
        "subscription_ids": _subscriptions(event),
    }


def _subscriptions(event: Recorded) -> str:
    billed = [ids.parse("sub", each) for each in event.data.get("subscription_ids", ())]
    return msgspec.json.encode(billed).decode()


def _attempt(payment: dict[str, Any], attempt_id: UUID, *, kind: str, state: str) -> dict[str, Any]:
    return {
        "tenant_id": payment["tenant_id"],
        "id": attempt_id,
        "payment_id": payment["id"],
        "kind": kind,
        "state": state,
        "created_at": payment["created_at"],
    }
