"""Every state machine as a table, and the order of work that is due at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from subledger.core.errors import IllegalTransition

Machine = Mapping[tuple[str, str], str]


def _machine(*rows: tuple[str, str, str]) -> Machine:
    return MappingProxyType({(state, trigger): to for state, trigger, to in rows})


SUBSCRIPTION: Final = _machine(
    ("pending", "started", "active"),
    ("pending", "trial_started", "trialing"),
    ("pending", "canceled", "canceled"),
    # A first payment that comes before anything (more) is served.
    ("pending", "first_due", "incomplete"),
    ("trialing", "first_due", "incomplete"),
    ("trialing", "trial_ended", "active"),
    ("trialing", "canceled", "canceled"),
    ("incomplete", "paid", "active"),
    ("incomplete", "expired", "incomplete_expired"),
    ("incomplete", "canceled", "canceled"),
    ("active", "paid", "active"),
    ("active", "payment_failed", "past_due"),
    ("active", "canceled", "canceled"),
    ("past_due", "paid", "active"),
    ("past_due", "payment_failed", "past_due"),
    ("past_due", "written_off", "active"),
    ("past_due", "canceled", "canceled"),
    ("active", "paused", "paused"),
    ("past_due", "paused", "paused"),
    # Resumed while an invoice is still owed, it is past due again.
    ("paused", "resumed", "active"),
    ("paused", "resumed_owing", "past_due"),
    ("paused", "canceled", "canceled"),
    # A new cycle waits for its first payment; what was paid before the end just goes on.
    ("canceled", "reactivated", "incomplete"),
    ("incomplete_expired", "reactivated", "incomplete"),
    ("canceled", "kept", "active"),
    ("canceled", "kept_owing", "past_due"),
)

INVOICE: Final = _machine(
    ("draft", "finalized", "open"),
    ("draft", "skipped", "skipped"),
    ("open", "paid", "paid"),
    ("open", "voided", "void"),
    ("open", "written_off", "uncollectible"),
    ("uncollectible", "paid", "paid"),
    # The payment that settled it turned out not to have arrived.
    ("paid", "reversed", "open"),
)

PAYMENT: Final = _machine(
    ("processing", "succeeded", "succeeded"),
    ("processing", "failed", "failed"),
    ("processing", "action_required", "requires_action"),
    ("processing", "lost", "unknown"),
    # The money is set aside at the provider: it is captured, let go, or expires there.
    ("processing", "authorized", "authorized"),
    ("requires_action", "authorized", "authorized"),
    ("unknown", "authorized", "authorized"),
    ("authorized", "succeeded", "succeeded"),
    ("authorized", "failed", "failed"),
    ("authorized", "canceled", "canceled"),
    ("authorized", "lost", "unknown"),
    ("processing", "canceled", "canceled"),
    ("requires_action", "succeeded", "succeeded"),
    ("requires_action", "failed", "failed"),
    ("requires_action", "canceled", "canceled"),
    ("unknown", "succeeded", "succeeded"),
    ("unknown", "failed", "failed"),
    ("unknown", "action_required", "requires_action"),
    ("unknown", "canceled", "canceled"),
    # Money that arrives is always booked, however late.
    ("failed", "succeeded", "succeeded"),
    ("canceled", "succeeded", "succeeded"),
    # The provider's own list does not have it: it never arrived.
    ("succeeded", "reversed", "failed"),
)

ATTEMPT: Final = _machine(
    ("reserving", "reserved", "ready"),
    ("reserving", "refused", "canceled"),
    ("ready", "claimed", "in_flight"),
    ("ready", "canceled", "canceled"),
    ("in_flight", "succeeded", "succeeded"),
    ("in_flight", "failed", "failed"),
    ("in_flight", "action_required", "requires_action"),
    ("in_flight", "lost", "unknown"),
    ("in_flight", "not_executed", "ready"),
    ("in_flight", "canceled", "canceled"),
    ("in_flight", "authorized", "authorized"),
    ("requires_action", "authorized", "authorized"),
    ("unknown", "authorized", "authorized"),
    ("authorized", "succeeded", "succeeded"),
    ("authorized", "failed", "failed"),
    ("authorized", "canceled", "canceled"),
    ("authorized", "lost", "unknown"),
    ("requires_action", "succeeded", "succeeded"),
    ("requires_action", "failed", "failed"),
    ("requires_action", "canceled", "canceled"),
    ("unknown", "succeeded", "succeeded"),
    ("unknown", "failed", "failed"),
    ("unknown", "action_required", "requires_action"),
    ("unknown", "canceled", "canceled"),
    ("failed", "succeeded", "succeeded"),
    ("canceled", "succeeded", "succeeded"),
    ("succeeded", "reversed", "failed"),
)

REFUND: Final = _machine(
    ("requested", "granted", "ready"),
    ("requested", "credited", "succeeded"),
    ("requested", "refused", "refused"),
    ("ready", "claimed", "in_flight"),
    ("in_flight", "succeeded", "succeeded"),
    ("in_flight", "failed", "failed"),
    ("in_flight", "lost", "unknown"),
    ("in_flight", "not_executed", "ready"),
    ("unknown", "succeeded", "succeeded"),
    ("unknown", "failed", "failed"),
    ("unknown", "not_executed", "ready"),
    # A bank may send back a refund that its provider called done.
    ("succeeded", "failed", "failed"),
    # Money that left is always booked, however late that is learnt.
    ("failed", "succeeded", "succeeded"),
)

DISPUTE: Final = _machine(
    ("opened", "won", "won"),
    ("opened", "lost", "lost"),
    # A bank may decide again.
    ("won", "lost", "lost"),
    ("lost", "won", "won"),
)

RESERVATION: Final = _machine(
    ("held", "consumed", "consumed"),
    ("held", "released", "released"),
    ("consumed", "reversed", "released"),
)

PLAN_MIGRATION: Final = _machine(
    ("running", "paused", "paused"),
    ("paused", "resumed", "running"),
    ("running", "canceled", "canceled"),
    ("paused", "canceled", "canceled"),
    ("running", "finished", "finished"),
)

MACHINES: Final[Mapping[str, Machine]] = MappingProxyType(
    {
        "subscription": SUBSCRIPTION,
        "invoice": INVOICE,
        "payment": PAYMENT,
        "attempt": ATTEMPT,
        "refund": REFUND,
        "dispute": DISPUTE,
        "reservation": RESERVATION,
        "plan_migration": PLAN_MIGRATION,
    }
)


def step(machine: Machine, state: str, trigger: str) -> str:
    """The state after ``trigger``. Raises IllegalTransition if the table has no such row."""
    try:
        return machine[state, trigger]
    except KeyError:
        raise IllegalTransition(f"{trigger!r} is not possible while {state!r}") from None


def can(machine: Machine, state: str, trigger: str) -> bool:
    """True if the table has a row for it."""
    return (state, trigger) in machine


def describe(machine: Machine) -> str:
    """The table as text, one row per transition."""
    return "\n".join(f"{state} --{trigger}--> {to}" for (state, trigger), to in machine.items())


DUE_RANK: Final[Mapping[str, int]] = MappingProxyType(
    {
        kind: rank
        for rank, kind in enumerate(
            (
                "trial_end",
                "scheduled_change",
                "pause_resume",
                "cancellation",
                "incomplete_expiry",
                "renewal",
                "credit_expiry",
                "invoice_finalization",
                "invoice_due",
                "payment_retry",
                "final_dunning_step",
                "provider_callback",
                "reconcile",
                "page_expiry",
                "reminder",
                "refund_reconcile",
                "dispute",
                "setup_look",
                "provider_payout",
                "reconciliation",
                "authorization",
            ),
            start=1,
        )
    }
)
"""At one moment an account's work is taken in this order (ARCHITECTURE 4, Time)."""
