"""What the core refuses: a stable code, what is wrong, where, and how to mend it."""

from __future__ import annotations


class CoreError(ValueError):
    """Base of every refusal of the core.

    ``code`` is stable, ``pointer`` names the input concerned (a JSON pointer relative to it),
    ``fix`` says what to do instead.
    """

    code = "invalid_input"

    def __init__(self, detail: str, *, pointer: str = "", fix: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.fix = fix


class UnknownCurrency(CoreError):
    code = "unknown_currency"


class CurrencyMismatch(CoreError):
    code = "currency_mismatch"


class AmountOutOfRange(CoreError):
    code = "amount_out_of_range"


class InvalidQuantity(CoreError):
    code = "invalid_quantity"


class InvalidPrice(CoreError):
    code = "invalid_price"


class InvalidDiscount(CoreError):
    code = "invalid_discount"


class UnknownTimeZone(CoreError):
    code = "unknown_time_zone"


class InvalidInterval(CoreError):
    code = "invalid_interval"


class DateOutOfRange(CoreError):
    code = "date_out_of_range"


class IllegalTransition(CoreError):
    code = "illegal_transition"


class InvalidPolicy(CoreError):
    code = "invalid_policy"


class InvalidProration(CoreError):
    code = "invalid_proration"


class InvalidSequence(CoreError):
    code = "invalid_date_sequence"
