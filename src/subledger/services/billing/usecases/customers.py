"""Customers: create, change, delete. Personal fields stay out of the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import accounts, subscriptions
from subledger.services.billing.usecases import customer_taxes
from subledger.services.billing.usecases.end import LIVE


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """``external_id`` None takes the public form of our own id. ``country``, ``region``, ``tax_id``
    and ``tax_exempt_reason`` may be empty; ``tax_rate_ids`` are rates agreed with the customer."""

    tenant_id: UUID
    customer_id: UUID
    external_id: str | None
    name: str
    email: str
    currency: str
    timezone: str
    locale: str
    country: str
    region: str = ""
    tax_id: str = ""
    tax_exempt_reason: str = ""
    tax_rate_ids: tuple[UUID, ...] = ()


def normalized(email: str) -> str:
    """An e-mail address in the form in which it is compared and searched."""
    return email.strip().casefold()


async def create_customers(tx: Tx, given: Sequence[NewCustomer], *, cause: UUID | None) -> None:
    """Open accounts. Raises external_id_taken, tax_id_invalid, unknown_reference (a tax rate), and
    then nothing is created."""
    clocks = await tx.clocks({each.tenant_id for each in given})
    rows: list[dict[str, Any]] = []
    for each in given:
        row = {
            "tenant_id": each.tenant_id,
            "id": each.customer_id,
            "external_id": each.external_id or ids.text("cus", each.customer_id),
            "name": each.name,
            "email": each.email,
            "email_normalized": normalized(each.email),
            "currency": each.currency,
            "timezone": each.timezone,
            "locale": each.locale,
            "country": each.country,
            "region": each.region,
            "tax_id": each.tax_id,
            "tax_id_check": "",
            "tax_id_checked_at": None,
            "tax_exempt_reason": each.tax_exempt_reason,
            "tax_rate_ids": list(each.tax_rate_ids),
            "last_occurred_at": clocks[each.tenant_id],
            "created_at": clocks[each.tenant_id],
        }
        said = {name: row[name] for name in customer_taxes.FIELDS if row[name]}
        row |= await customer_taxes.checked(tx, row, said, at=clocks[each.tenant_id])
        row["tax_rate_ids"] = customer_taxes.rates_text(each.tax_rate_ids)
        rows.append(row)
    if await accounts.insert_accounts(tx, rows) != len(rows):
        raise Problem(
            problems.EXTERNAL_ID_TAKEN,
            pointer="/external_id",
            detail="The external id belongs to another customer, or to a deleted one.",
        )
    tx.emit(_event(events.CUSTOMER_CREATED, row, row["created_at"], cause) for row in rows)


async def change_customer(
    tx: Tx,
    *,
    tenant_id: UUID,
    customer_id: UUID,
    changes: Mapping[str, Any],
    cause: UUID | None,
) -> None:
    """Replace fields of a customer (name, email, locale, timezone, country, currency, taxes).

    In a new time zone running periods keep their ends; from the next boundary on the customer's
    subscriptions are counted in it (``renew.py``). What is known for taxes decides on the next
    invoice; those that were made stay. Raises not_found, currency_in_use once anything was billed,
    tax_id_invalid, unknown_reference. Changing nothing tells nobody.
    """
    row, at = await _lock(tx, tenant_id, customer_id)
    changes = await _checked(tx, row, changes, at)
    changed = {name: value for name, value in changes.items() if getattr(row, name) != value}
    key = (tenant_id, customer_id)
    if "currency" in changed and await accounts.ever_billed(tx, [key]):
        raise Problem(
            problems.CURRENCY_IN_USE,
            pointer="/currency",
            detail=f"The customer is billed in {row.currency}.",
        )
    if not changed:
        return
    values = row._asdict() | changed
    values["tax_rate_ids"] = customer_taxes.rates_text(values["tax_rate_ids"])
    await accounts.update_accounts(
        tx, [{**values, "email_normalized": normalized(values["email"])}]
    )
    tx.emit([_event(events.CUSTOMER_UPDATED, values, at, cause)])


async def _checked(
    tx: Tx, row: Row[Any], changes: Mapping[str, Any], at: datetime
) -> dict[str, Any]:
    """The changes with what the check of the tax fields makes of them. An id that is given again
    was checked already."""
    said = {name: value for name, value in changes.items() if getattr(row, name) != value}
    found = await customer_taxes.checked(tx, row._asdict() | said, said, at=at)
    if found.get("tax_id", "") == row.tax_id:
        found = {name: getattr(row, name) for name in found}
    return {**changes, **found}


async def delete_customer(
    tx: Tx, *, tenant_id: UUID, customer_id: UUID, cause: UUID | None
) -> None:
    """Delete a customer: found no more, while invoices and books stay. Raises not_found, and
    customer_in_use while a subscription that it pays for or uses is alive."""
    row, at = await _lock(tx, tenant_id, customer_id)
    key = (tenant_id, customer_id)
    if await accounts.with_live_subscriptions(tx, [key], live=LIVE):
        raise Problem(
            problems.CUSTOMER_IN_USE, detail="The customer pays for or uses a live subscription."
        )
    await accounts.delete_accounts(
        tx, [{"tenant_id": tenant_id, "id": customer_id, "deleted_at": at}]
    )
    tx.emit([_event(events.CUSTOMER_DELETED, row._asdict(), at, cause)])


async def _lock(tx: Tx, tenant_id: UUID, customer_id: UUID) -> tuple[Row[Any], datetime]:
    key = (tenant_id, customer_id)
    locked = await subscriptions.lock_accounts(tx, [key])
    found = await accounts.customers(tx, [key])
    if key not in found:
        raise Problem("not_found", detail="There is no such customer.")
    at = await subscriptions.moments(tx, locked, locked)
    return found[key], at[key]


def _event(type_: str, row: Mapping[str, Any], at: datetime, cause: UUID | None) -> Event:
    return Event(
        type=type_,
        tenant_id=row["tenant_id"],
        subject=row["id"],
        data={
            "customer_id": ids.text("cus", row["id"]),
            "external_id": row["external_id"],
            "currency": row["currency"],
            "timezone": row["timezone"],
        },
        occurred_at=at,
        cause=cause,
    )
