"""What can be made to go wrong, settable per merchant by ``POST /v1/faults``.

A ``charge_`` fault captures the money and spoils the answer; a ``webhook_`` fault loses or repeats
a notification.
"""

from __future__ import annotations

NO_REPLY = "charge_no_reply"
CHARGE = (NO_REPLY, "charge_500", "charge_html", "charge_unknown_status")
DELIVERIES = {"webhook_never": 0, "webhook_twice": 2, "webhook_thrice": 3}
WEBHOOK = tuple(DELIVERIES)
ALL = frozenset({*CHARGE, *WEBHOOK})
