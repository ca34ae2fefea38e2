"""An explained credit note in words, English and Russian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row

from subledger.services.billing import facts
from subledger.services.billing.texts import Language, Words
from subledger.services.billing.usecases.explain import ExplainedNote

_REASONS: Mapping[str, str] = {
    "duplicate": "billed twice",
    "fraudulent": "fraud",
    "order_change": "the order was changed",
    "cancellation": "cancellation",
    "unsatisfactory": "the service was not as promised",
    "pricing_error": "a wrong price",
    "goodwill": "goodwill",
    "other": "another one",
}


def explanation(explained: ExplainedNote, language: Language) -> str:
    """The note line by line, as a text that ends with a newline. Moments are in the subscription's
    own time zone, amounts in the currency's major unit."""
    return _Teller(explained, language).text()


class _Teller(Words):
    def __init__(self, explained: ExplainedNote, language: Language) -> None:
        super().__init__(
            currency=explained.note.currency, timezone=explained.timezone, language=language
        )
        self._explained = explained

    def text(self) -> str:
        note, to = self._explained.note, self._explained.settlement
        lines = [
            self._say("Credit note {number} of {day} for invoice {invoice}").format(
                number=facts.number_text(note.series, note.number),
                day=self._moment(note.issued_at),
                invoice=facts.number_text(note.invoice_series, note.invoice_number),
            ),
            self._times(),
            self._say("Reason: {reason}").format(reason=self._say(_REASONS[note.reason])),
        ]
        for each in self._explained.lines:
            lines += ["", *self._line(each)]
        lines += ["", self._sum("Total", note.total_minor)]
        for label, name in (
            ("taken off what was open of the invoice", "offset_minor"),
            ("to the customer’s credit", "credit_minor"),
            ("back as money", "refund_minor"),
        ):
            if to[name]:
                lines.append(self._sum(label, to[name]))
        if note.voided_at is not None:
            lines.append(self._say("Void since {day}").format(day=self._moment(note.voided_at)))
        return "\n".join(lines) + "\n"

    def _line(self, row: Row[Any]) -> list[str]:
        credit, split = msgspec.json.decode(row.derivation)
        told = [
            self._heading(row),
            "   "
            + self._say("{amount} of {line} is given back, {before} was before").format(
                amount=self._amount(credit["gross_minor"]),
                line=self._amount(credit["line_gross_minor"]),
                before=self._amount(credit["before_gross_minor"]),
            ),
        ]
        for label, share, whole in (
            ("its share of the discount of {whole}: {amount}", "discount_minor", -1),
            ("its share of the contained tax of {whole}: {amount}", "tax_included_minor", -1),
            ("its share of the tax of {whole}: {amount}", "tax_minor", 1),
        ):
            if credit.get(f"line_{share}"):
                told.append(
                    "   "
                    + self._say(label).format(
                        whole=self._amount(credit[f"line_{share}"]),
                        amount=self._amount(whole * credit[share]),
                    )
                )
        if split["revenue_minor"] and split["deferred_minor"]:
            said = self._say("{revenue} of it for service that was delivered by then")
            told.append("   " + said.format(revenue=self._amount(split["revenue_minor"])))
        told.append("   " + self._sum("given back", row.net_minor + row.tax_minor))
        return told
