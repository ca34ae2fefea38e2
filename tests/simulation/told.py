"""What an auditor reads: the public events, the provider's journal, and the API's answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import msgspec

from subledger.platform import ids

if TYPE_CHECKING:
    from tests.simulation.month import Month

_EVENTS = (
    "SELECT subject, type, occurred_at, data FROM eventlog.events WHERE tenant_id = $1"
    " ORDER BY partition, position"
)
_CAPTURES = (
    "SELECT attempt_id, amount_minor FROM sandbox.charges WHERE tenant_id = $1"
    " AND status = 'succeeded' ORDER BY at, id"
)
_REFUNDS = (
    "SELECT attempt_id, amount_minor FROM sandbox.refunds WHERE tenant_id = $1"
    " AND status = 'succeeded' ORDER BY at, id"
)


@dataclass(frozen=True)
class Fact:
    """One event of an account."""

    kind: str
    at: datetime
    data: dict[str, Any]

    @property
    def amount_minor(self) -> int:
        amount = self.data.get("amount_minor", self.data.get("total_minor"))
        return 0 if amount is None else int(amount)


@dataclass(frozen=True)
class Line:
    """A line of a document as the API shows it, what credit notes gave back taken off."""

    invoice_id: str
    status: str
    kind: str
    subscription_id: str
    price_id: str
    start_at: datetime
    end_at: datetime
    billed_at: datetime | None
    quantity: Fraction
    gross_minor: int
    net_minor: int
    tax_minor: int
    noted_gross_minor: int
    noted_net_minor: int
    noted_tax_minor: int


@dataclass(frozen=True)
class Papers:
    """Every document of a tenant."""

    invoices: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    lines: list[Line]


async def facts(
    admin: asyncpg.Connection[asyncpg.Record], tenant_id: UUID
) -> dict[UUID, list[Fact]]:
    """Every account's events in its own order."""
    found: dict[UUID, list[Fact]] = {}
    for row in await admin.fetch(_EVENTS, tenant_id):
        data = msgspec.json.decode(row["data"])
        found.setdefault(row["subject"], []).append(Fact(row["type"], row["occurred_at"], data))
    return found


async def captures(month: Month) -> list[tuple[str, int]]:
    """What the provider's own journal says was taken: attempt and amount."""
    rows = await month.life.admin.fetch(_CAPTURES, month.tenant_id)
    return [(row["attempt_id"], row["amount_minor"]) for row in rows]


async def refunds(month: Month) -> list[tuple[str, int]]:
    """What the provider's own journal says went back: attempt and amount."""
    rows = await month.life.admin.fetch(_REFUNDS, month.tenant_id)
    return [(row["attempt_id"], row["amount_minor"]) for row in rows]


async def held(month: Month) -> int:
    """What the provider says that it holds for the shop."""
    secret, _ = month.life.assembly.sandbox.credentials(month.tenant_id)
    answer = await month.life.http.get(
        "/sandbox/v1/balance", headers={"authorization": f"Bearer {secret}"}
    )
    if answer.status_code == 401:
        return 0  # payments never opened the merchant's account
    assert answer.status_code == 200, answer.text
    return int(answer.json()["amount_minor"].get("EUR", 0))


async def papers(month: Month) -> Papers:
    """Invoices and credit notes with their lines."""
    invoices = [
        await month.get(f"/v1/invoices/{each['id']}")
        for each in await month.get_all("/v1/invoices")
    ]
    notes = [
        await month.get(f"/v1/credit-notes/{each['id']}")
        for each in await month.get_all("/v1/credit-notes")
    ]
    noted: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for note in notes:
        for line in note["lines"] if note["status"] == "issued" else ():
            noted.setdefault((note["invoice_id"], line["n"]), []).append(line)
    lines = [
        _line(invoice, line, noted.get((invoice["id"], line["n"]), []))
        for invoice in invoices
        for line in invoice["lines"]
    ]
    return Papers(invoices, notes, lines)


def _line(invoice: dict[str, Any], line: dict[str, Any], noted: list[dict[str, Any]]) -> Line:
    billed_at = invoice["finalized_at"]
    amounts = {
        f"noted_{name}_minor": sum(each[f"{name}_minor"] for each in noted)
        for name in ("gross", "net", "tax")
    }
    return Line(
        invoice_id=invoice["id"],
        status=invoice["status"],
        kind=line["kind"],
        subscription_id=line["subscription_id"],
        price_id=line["price_id"],
        start_at=datetime.fromisoformat(line["service_start_at"]),
        end_at=datetime.fromisoformat(line["service_end_at"]),
        billed_at=datetime.fromisoformat(billed_at) if billed_at else None,
        quantity=Fraction(line["quantity"]),
        gross_minor=line["gross_minor"],
        net_minor=line["net_minor"],
        tax_minor=line["tax_minor"],
        **amounts,
    )


def diary(told: dict[UUID, list[Fact]]) -> dict[str, list[tuple[str, str, int]]]:
    """Every account's events with moments and amounts, to compare runs."""
    return {
        ids.text("cus", subject): [(x.kind, x.at.isoformat(), x.amount_minor) for x in account]
        for subject, account in told.items()
    }
