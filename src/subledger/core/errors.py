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


class InvalidTax(CoreError):
    code = "invalid_tax"


class MissingTaxRate(CoreError):
    code = "missing_tax_rate"


class CreditExceedsLine(CoreError):
    code = "credit_exceeds_line"


class InvalidPromotion(CoreError):
    """``reason`` is stable (``promotions.Reason``); ``malformed`` for a promotion that is none."""

    code = "invalid_promotion"

    def __init__(self, detail: str, *, reason: str, pointer: str = "", fix: str = "") -> None:
        super().__init__(detail, pointer=pointer, fix=fix)
        self.reason = reason


class NaiveInstant(CoreError):
    code = "naive_instant"


class InvalidPeriod(CoreError):
    code = "invalid_period"


class TooManyPeriods(CoreError):
    code = "too_many_periods"


class InvalidRecognition(CoreError):
    code = "invalid_recognition"


class InvalidCredit(CoreError):
    """``left_minor`` is what could still be credited, refunded or applied, where that is known."""

    code = "invalid_credit"

    def __init__(
        self, detail: str, *, pointer: str = "", fix: str = "", left_minor: int | None = None
    ) -> None:
        super().__init__(detail, pointer=pointer, fix=fix)
        self.left_minor = left_minor


class InvalidProration(CoreError):
    code = "invalid_proration"


class InvalidSequence(CoreError):
    code = "invalid_date_sequence"
