"""Explain: the computation behind an invoice, as data from which it can be recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing.store import credit_notes, discounts, reads


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """A stored line and the steps that made it."""

    row: Row[Any]
    derivation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explained:
    """An invoice with what it was computed from.

    ``inputs`` (engine, time zone data, plan versions, zone, discounts) together with the lines'
    derivations as its member ``lines`` hash to ``content_hash`` (SHA-256 of canonical JSON).
    """

    invoice: Row[Any]
    inputs: Mapping[str, Any]
    content_hash: str
    lines: Sequence[ExplainedLine]
    discount_names: Mapping[str, str]
    """Names of the discounts that took something off, by the id in the derivation."""
    tax: Mapping[str, Any] | None = None
    """The taxes by rate, with notes and VAT ids (``tax_data.summary``); None without any."""


@dataclass(frozen=True, slots=True)
class ExplainedNote:
    """A credit note with the steps that made its lines and its settlement."""

    note: Row[Any]
    lines: Sequence[Row[Any]]
    settlement: Mapping[str, Any]
    timezone: str


async def explain_note(tx: Tx, *, tenant_id: UUID, credit_note_id: UUID) -> ExplainedNote:
    """What was stored when the note was issued; nothing is computed anew. Raises not_found."""
    key = (tenant_id, credit_note_id)
    note = (await credit_notes.notes(tx, [key])).get(key)
    if note is None:
        raise Problem("not_found", detail="There is no such credit note.")
    invoice = (tenant_id, note.invoice_id)
    source = (await reads.inputs(tx, [invoice]))[invoice]
    return ExplainedNote(
        note=note,
        lines=(await credit_notes.note_lines(tx, [key])).get(key, []),
        settlement=msgspec.json.decode(note.derivation),
        timezone=msgspec.json.decode(source.inputs)["timezone"],
    )


async def explain(tx: Tx, *, tenant_id: UUID, invoice_id: UUID) -> Explained:
    """What was stored when the invoice was made; nothing is computed anew. Raises not_found."""
    key = (tenant_id, invoice_id)
    invoice = (await reads.invoices(tx, [key])).get(key)
    if invoice is None:
        raise Problem("not_found", detail="There is no such invoice.")
    source = (await reads.inputs(tx, [key]))[key]
    lines = [
        ExplainedLine(row, msgspec.json.decode(row.derivation))
        for row in (await reads.lines(tx, [key])).get(key, [])
    ]
    used = {
        (tenant_id, UUID(step["discount_id"]))
        for line in lines
        for step in line.derivation["discounts"]
        if step["discount_id"]
    }
    named = await discounts.discounts(tx, used) if used else {}
    inputs = msgspec.json.decode(source.inputs)
    return Explained(
        invoice=invoice,
        inputs={name: value for name, value in inputs.items() if name != "lines"},
        content_hash=source.content_hash,
        lines=lines,
        discount_names={str(row.id): row.name for row in named.values()},
        tax=None if invoice.tax is None else msgspec.json.decode(invoice.tax),
    )
