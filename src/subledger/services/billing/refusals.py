"""Why a promo code may not be used, in words; ``texts.say`` has them in Russian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from subledger.core.promotions import Reason

UNKNOWN: Final = "unknown"
"""No such code in this tenant; another tenant's is as unknown."""

REFUSALS: Final[Mapping[str, str]] = {
    UNKNOWN: "There is no such promo code.",
    Reason.MALFORMED: "A promo code has 3 to 64 letters A to Z, digits and hyphens.",
    Reason.INACTIVE: "The promo code is not in use.",
    Reason.NOT_YOURS: "The promo code is for another customer.",
    Reason.NOT_STARTED: "The promo code is not valid yet.",
    Reason.EXPIRED: "The promo code is no longer valid.",
    Reason.USED_UP: "The promo code has been used as often as it may be.",
    Reason.USED_BY_CUSTOMER: "You have used the promo code already.",
    Reason.OTHER_PLAN: "The promo code is for another plan.",
    Reason.NOT_FIRST_PURCHASE: "The promo code is for a first purchase only.",
    Reason.OTHER_CURRENCY: "The promo code is not good in this currency.",
    Reason.BELOW_MINIMUM: "The purchase is too small for the promo code.",
}
"""By reason: every one of the core, and ``unknown``."""
