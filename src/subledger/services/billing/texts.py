"""An explained invoice in words, English and Russian.

The words are gettext catalogues (``locale/<language>/LC_MESSAGES/billing.po``), compiled when this
module is imported so that the readable file is the only source. English is the language of the
message ids.
"""

from __future__ import annotations

import ast
import gettext
import io
import struct
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from subledger.core import money
from subledger.core.calendar import parse_zone
from subledger.services.billing import facts
from subledger.services.billing.usecases.explain import Explained, ExplainedLine

Language = Literal["en", "ru"]
_PO = "locale/{}/LC_MESSAGES/billing.po"


def read_po(text: str) -> dict[str, str]:
    """Message id → text of a .po file without plural forms. Untranslated ones are left out."""
    found: dict[str, str] = {}
    parts: dict[str, str] = {"msgid": "", "msgstr": ""}
    field = "msgid"
    for line in [*text.splitlines(), 'msgid ""']:
        if line.startswith("msgid "):
            if parts["msgstr"]:
                found[parts["msgid"]] = parts["msgstr"]
            parts = {"msgid": "", "msgstr": ""}
        word, _, quoted = line.partition(" ")
        if word in parts:
            field = word
        elif line.startswith('"'):
            quoted = line
        else:
            continue
        parts[field] += ast.literal_eval(quoted)
    return found


def compiled(messages: Mapping[str, str]) -> gettext.GNUTranslations:
    """Messages as gettext wants them: the .mo format, in memory."""
    keys = [key.encode() for key in sorted(messages)]
    values = [messages[key.decode()].encode() for key in keys]
    table = 7 * 4
    offset = table + 16 * len(keys)
    index, data = b"", b""
    for each in (*keys, *values):
        index += struct.pack("<II", len(each), offset + len(data))
        data += each + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(keys), table, table + 8 * len(keys), 0, 0)
    return gettext.GNUTranslations(io.BytesIO(head + index + data))


def _load(language: str) -> gettext.NullTranslations:
    source = files("subledger.services.billing").joinpath(_PO.format(language))
    return compiled(read_po(source.read_text("utf-8")))


_CATALOGUES: Mapping[Language, gettext.NullTranslations] = {
    "en": gettext.NullTranslations(),
    "ru": _load("ru"),
}


# Directive 2006/112/EC, articles 44 and 196, and article 226 (11) and (11a) for what invoices say.
_NOTES: Mapping[str, str] = {
    "reverse_charge": "Reverse charge: the recipient owes the VAT (Directive 2006/112/EC,"
    " articles 44 and 196).",
    "exempt": "Exempt from tax: {reason}.",
    "zero_rated": "Taxed at zero percent.",
    "not_registered": "No tax is charged: the seller is not liable for tax where this is supplied.",
}


def say(message: str, language: Language) -> str:
    """A message in words of the language; as it is where no catalogue has it."""
    return _CATALOGUES[language].gettext(message)


def explanation(explained: Explained, language: Language) -> str:
    """The invoice line by line, as a text that ends with a newline. Moments are in the
    subscription's own time zone, amounts in the currency's major unit."""
    return _Teller(explained, language).text()


def tax_note(note: Mapping[str, Any], language: Language) -> str:
    """Why something is not taxed, as an invoice says it (a note of ``tax_data.summary``)."""
    said = _CATALOGUES[language].gettext(_NOTES[note["reason"]])
    return said.format(reason=note["exempt_reason"] or "")


class Words:
    """How amounts, numbers and moments are told in a language, a currency and a time zone."""

    def __init__(self, *, currency: str, timezone: str, language: Language) -> None:
        self._currency = currency
        self._comma = language == "ru"
        self._say = _CATALOGUES[language].gettext
        self._zone_name = timezone
        self._zone: ZoneInfo = parse_zone(timezone)

    def _times(self) -> str:
        return self._say("Times are those of {zone}.").format(zone=self._zone_name)

    def _heading(self, row: Row[Any]) -> str:
        return f"{row.n}. {facts.price_text(row.plan_name, row.price_code)}, " + self._say(
            "from {start} until {end}"
        ).format(start=self._moment(row.service_start_at), end=self._moment(row.service_end_at))

    def _sum(self, label: str, amount_minor: int) -> str:
        return f"{self._say(label)}: {self._amount(amount_minor)}"

    def _amount(self, minor: int | str) -> str:
        """Minor units (an integer, or exact text: ``12.5``, ``25/2``) with the currency."""
        if isinstance(minor, str):
            if "/" in minor:
                above, _, below = minor.partition("/")
                exact = Decimal(above) / Decimal(below)
            else:
                exact = Decimal(minor)
            if exact != exact.to_integral_value():
                major = exact.scaleb(-money.exponent(self._currency))
                return f"{self._number(facts.quantity_text(major))} {self._currency}"
            minor = int(exact)
        return f"{self._number(money.format_minor(minor, self._currency))} {self._currency}"

    def _number(self, text: str) -> str:
        return text.replace(".", ",") if self._comma else text

    def _moment(self, at: datetime) -> str:
        return at.astimezone(self._zone).strftime("%Y-%m-%d %H:%M")


class _Teller(Words):
    def __init__(self, explained: Explained, language: Language) -> None:
        super().__init__(
            currency=explained.invoice.currency,
            timezone=explained.inputs["timezone"],
            language=language,
        )
        self._explained = explained
        self._language: Language = language

    def text(self) -> str:
        invoice = self._explained.invoice
        number = facts.number_text(invoice.series, invoice.number)
        lines = [
            self._say("Invoice {number} of {day}").format(
                number=number, day=self._moment(invoice.finalized_at)
            ),
            self._times(),
        ]
        for each in self._explained.lines:
            lines += ["", *self._line(each)]
        lines += [
            "",
            self._sum("Subtotal", invoice.subtotal_minor),
            self._sum("Discount", -invoice.discount_minor),
            *self._taxes(),
            self._sum("Total", invoice.total_minor),
            *self._notes(),
        ]
        return "\n".join(lines) + "\n"

    def _taxes(self) -> list[str]:
        """The tax of each rate, or in one sum if the invoice does not tell them apart."""
        tax = self._explained.tax
        if tax is None or not tax["rates"]:
            return [self._sum("Tax", self._explained.invoice.tax_minor)]
        return [
            self._say("{name} {percent} % on {base}: {amount}").format(
                name=self._rate_name(each),
                percent=self._number(each["percent"]),
                base=self._amount(each["base_minor"]),
                amount=self._amount(each["tax_minor"]),
            )
            for each in tax["rates"]
        ]

    def _rate_name(self, rate: Mapping[str, Any]) -> str:
        """The tax's own name; what stands for no tax is plain VAT at zero."""
        return self._say("Tax") if rate["levy"] is None else str(rate["name"])

    def _notes(self) -> list[str]:
        tax = self._explained.tax
        if tax is None:
            return []
        told = [tax_note(each, self._language) for each in tax["notes"]]
        for label, party in (("Seller", tax["seller"]), ("Buyer", tax["buyer"])):
            if party["vat_id"]:
                told.append(
                    self._say("{party}, VAT id: {vat_id}").format(
                        party=self._say(label), vat_id=party["vat_id"]
                    )
                )
        return ["", *told] if told else []

    def _line(self, each: ExplainedLine) -> list[str]:
        row, derivation = each.row, each.derivation
        told = [self._heading(row)]
        if row.kind == "credit":
            told.append("   " + self._say("takes back what an earlier invoice charged"))
        told += ["   " + self._step(step) for step in derivation["steps"]]
        if "proration" in derivation:
            told.append("   " + self._proration(derivation["proration"]))
        if derivation["residue"] != "0":
            # Where the credit is rounded, what was used is what it leaves.
            said = (
                self._say("{amount}, since what is given back is rounded half up")
                if "rest" in derivation
                else self._say("rounded half up to {amount}")
            )
            told.append("   " + said.format(amount=self._amount(derivation["gross_minor"])))
        told += ["   " + self._discount(step) for step in derivation["discounts"]]
        if "capped" in derivation:
            said = self._say("instead of {amount}: credit notes gave the rest back before")
            told.append("   " + said.format(amount=self._amount(derivation["capped"]["net_minor"])))
        told += ["   " + self._tax(each) for each in derivation.get("taxes", ())]
        if derivation["tax_minor"] and "taxes" not in derivation:
            told.append(
                "   "
                + self._say("tax of {rate} % on {base}: {amount}").format(
                    rate=self._number(derivation["tax_rate"]),
                    base=self._amount(derivation["net_minor"]),
                    amount=self._amount(derivation["tax_minor"]),
                )
            )
        told.append("   " + self._sum("to pay", row.net_minor + row.tax_minor))
        return told

    def _step(self, step: Mapping[str, Any]) -> str:
        if step["kind"] == "flat":
            return self._say("fixed price {amount}").format(amount=self._amount(step["amount"]))
        return self._say("{quantity} × {unit} = {amount}").format(
            quantity=self._number(step["quantity"]),
            unit=self._amount(step["unit_amount"]),
            amount=self._amount(step["amount"]),
        )

    def _proration(self, share: Mapping[str, Any]) -> str:
        if share["unit"] == "day":
            said = self._say("for {part} of the {whole} days of the period")
            return said.format(part=share["part"], whole=share["whole"])
        return self._say("for {fraction} of the period").format(fraction=share["fraction"])

    def _discount(self, step: Mapping[str, Any]) -> str:
        name = self._explained.discount_names.get(step["discount_id"], "")
        taken = self._amount(-step["amount_minor"])
        if step["kind"] == "percent":
            return self._say("discount “{name}”, {percent} % of {base}: {amount}").format(
                name=name,
                percent=self._number(step["percent"]),
                base=self._amount(step["base_minor"]),
                amount=taken,
            )
        if step["kind"] == "fixed":
            return self._say("discount “{name}”: {amount}").format(name=name, amount=taken)
        return self._say("discount taken back: {amount}").format(amount=taken)

    def _tax(self, step: Mapping[str, Any]) -> str:
        """One tax of a line (``core.tax.LineTax``), named as the document names its rate."""
        rates = () if self._explained.tax is None else self._explained.tax["rates"]
        named = [self._rate_name(each) for each in rates if each["rate_id"] == step["rate_id"]]
        return self._say("{name} {percent} %: {amount}").format(
            name=named[0] if named else self._say("Tax"),
            percent=self._number(step["percent"]),
            amount=self._amount(step["tax_minor"]),
        )
