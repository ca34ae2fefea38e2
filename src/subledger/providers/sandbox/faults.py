"""What can be made to go wrong, settable per merchant by ``POST /v1/faults``.

One table: a mode's number in the list of faults that a real provider shows (P1 to P18), where it
acts, and what it does. Of a merchant's modes that act at one place the first by name is spent
first, one at a time, so that a test decides which call goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

Place = Literal["request", "charge", "page", "refund", "webhook", "question", "capture"]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to go wrong. ``request`` modes act on any call of the merchant, before or after it
    was answered; the others on the next charge, try on a page, refund or webhook."""

    number: str
    name: str
    place: Place
    does: str


NO_REPLY: Final = "charge_no_reply"
HALF_REPLY: Final = "charge_reset"
DECLINED: Final = "charge_declined"
WEBHOOK_FIRST: Final = "charge_webhook_first"
KEY_EXPIRED: Final = "charge_key_expired"
IN_FLIGHT: Final = "charge_in_flight"
STORED_500: Final = "charge_stored_500"
ACTION_LATE: Final = "charge_action_late"
PHANTOM: Final = "charge_phantom"
SHORT: Final = "charge_short"
PAGE_DECLINED: Final = "page_declined"
REFUSED: Final = "request_refused"
SLOW: Final = "request_slow"
TOO_MANY: Final = "request_429"
ATTEMPTS_SILENT: Final = "attempts_silent"
REFUNDS_SILENT: Final = "refunds_silent"
CAPTURE_NO_REPLY: Final = "capture_no_reply"
CAPTURE_500: Final = "capture_500"
CAPTURE_LOST: Final = "capture_lost"
CAPTURE_DECLINED: Final = "capture_declined"

MODES: Final = (
    Mode("P1", NO_REPLY, "charge", "captured, no answer"),
    Mode("P2", "charge_500", "charge", "captured, answered 500"),
    Mode("P2", "charge_html", "charge", "captured, answered with HTML instead of JSON"),
    Mode("P2", "charge_unknown_status", "charge", "captured, answered with an unknown status"),
    Mode("P3", HALF_REPLY, "charge", "captured, the answer is cut off in the middle"),
    Mode("P4", DECLINED, "charge", "declined, whatever the method"),
    Mode("P4", PAGE_DECLINED, "page", "the try is declined, whatever the card"),
    Mode("P5", "webhook_twice", "webhook", "delivered twice"),
    Mode("P5", "webhook_thrice", "webhook", "delivered three times"),
    Mode("P5", "webhook_twenty", "webhook", "delivered twenty times"),
    Mode("P6", WEBHOOK_FIRST, "charge", "captured; its webhook is delivered before the answer"),
    Mode("P7", "webhook_out_of_order", "webhook", "delivered ten minutes later, after newer ones"),
    Mode("P8", "webhook_never", "webhook", "not delivered"),
    Mode("P9", "webhook_day_late", "webhook", "delivered a day later"),
    Mode("P9", "webhook_3_days_late", "webhook", "delivered three days later"),
    Mode("P10", KEY_EXPIRED, "charge", "captured, no answer, and the idempotency key is forgotten"),
    Mode("P11", IN_FLIGHT, "charge", "captured, answered 409: the key is in use"),
    Mode("P12", STORED_500, "charge", "not captured, answered 500; the key repeats that for ever"),
    Mode("P13", ACTION_LATE, "charge", "asks for 3-D Secure, and succeeds two hours later"),
    Mode("P14", "refund_no_reply", "refund", "given back, no answer"),
    Mode("P14", "refund_500", "refund", "given back, answered 500"),
    Mode("P14", "refund_html", "refund", "given back, answered with HTML instead of JSON"),
    Mode("P14", "refund_declined", "refund", "declined: nothing is given back"),
    Mode("P14", "refund_pending", "refund", "given back an hour later"),
    Mode("P14", "refund_pending_declined", "refund", "declined an hour later"),
    Mode("P15", "webhook_foreign", "webhook", "names an object that is none of the merchant's"),
    Mode("P16", "webhook_bad_signature", "webhook", "the first delivery is signed wrongly"),
    Mode("P16", "webhook_unsigned", "webhook", "the first delivery has no signature"),
    Mode("P18", TOO_MANY, "request", "not done, answered 429 with Retry-After"),
    Mode("P18", REFUSED, "request", "not done, the connection is refused"),
    Mode("P18", SLOW, "request", "done, answered a minute later"),
    Mode("–", PHANTOM, "charge", "answered as captured, and is not"),
    Mode("–", SHORT, "charge", "captured a minor unit less than answered"),
    Mode("P1", CAPTURE_NO_REPLY, "capture", "an authorization is captured, no answer"),
    Mode("P2", CAPTURE_500, "capture", "an authorization is captured, answered 500"),
    Mode("–", CAPTURE_LOST, "capture", "an authorization is not captured, no answer"),
    Mode("–", CAPTURE_DECLINED, "capture", "a capture is declined; the authorization stands"),
    Mode("–", ATTEMPTS_SILENT, "question", "a question about an attempt ends without an answer"),
    Mode("–", REFUNDS_SILENT, "question", "a question about refunds ends without an answer"),
)
"""In the order of their numbers. P17, a dispute during a refund, belongs to disputes."""

ALL: Final = {each.name: each for each in MODES}


def at(place: Place) -> tuple[str, ...]:
    """The names of the modes that act at this place."""
    return tuple(each.name for each in MODES if each.place == place)


REFUND_DECLINED: Final = ("refund_declined", "refund_pending_declined")
REFUND_LATER: Final = ("refund_pending", "refund_pending_declined")
DELIVERIES: Final = {
    "webhook_never": 0,
    "webhook_twice": 2,
    "webhook_thrice": 3,
    "webhook_twenty": 20,
}
DELAYS: Final = {
    "webhook_out_of_order": timedelta(minutes=10),
    "webhook_day_late": timedelta(days=1),
    "webhook_3_days_late": timedelta(days=3),
}
SIGNATURES: Final = {"webhook_bad_signature": "wrong", "webhook_unsigned": "none"}
SLOW_S: Final = 60.0
RETRY_AFTER_S: Final = 1
