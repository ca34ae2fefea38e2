"""The collection protocol as pure functions: what a finding about an attempt changes.

A finding is what is known after a call, a refetch or a lease that ran out. ``decide`` is the only
place where attempts and payments change state; every path (executor, webhook, reconciler, page)
goes through it, so whatever comes first is applied once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from subledger.contracts import events
from subledger.core.states import ATTEMPT, PAYMENT, can, step

RECONCILE: Final = (
    timedelta(minutes=5),
    timedelta(hours=1),
    *(timedelta(days=1) for _ in range(5)),
)
"""When an unknown attempt is looked up again, each from the look before (Kill Bill's janitor)."""
PAGE_POLLS: Final = (timedelta(hours=1), timedelta(hours=6))
"""When what waits for its payer (a page, 3-D Secure) is looked up although no webhook came."""
PAGE_OPEN: Final = timedelta(hours=23)
"""What waits for its payer is closed before billing gives up the purchase (24 hours)."""
EXPIRE_AGAIN: Final = timedelta(hours=1)
HORIZON: Final = timedelta(minutes=5)
"""A provider that does not know the attempt this long after it was lost never executed it."""
MOST_TRIES: Final = 5
"""Calls that reached nobody, before the attempt fails without counting."""
MOST_EXPIRIES: Final = 30
LET_GO_BEFORE: Final = timedelta(days=1)
"""What nobody captured is voided so long before its provider would let it expire."""
HELD_BACK: Final = frozenset({"circuit_open", "rate_limited", "busy"})
HELD_BACK_S: Final = 10.0
"""While a connection's calls are held back its attempts wait; waiting uses up no try."""
TERMINAL: Final = frozenset({"succeeded", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Saved:
    """A method as the provider keeps it. ``reference`` names it in the provider's notifications
    (empty: nothing does); ``expires_on`` is its last day, if that is known; ``mandate`` is what
    its payer agreed to, encrypted."""

    token: str
    brand: str
    last_four: str
    reference: str = ""
    expires_on: date | None = None
    mandate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Captured:
    """The money moved. ``amount_minor`` is what the provider says, if it says it."""

    provider_ref: str | None = None
    amount_minor: int | None = None
    saved: Saved | None = None


@dataclass(frozen=True, slots=True)
class ActionNeeded:
    """The payer has to go to ``redirect_url``."""

    redirect_url: str
    provider_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Authorized:
    """The money is set aside at the provider, until ``expires_at`` or, where that is not said, for
    ``keeps_s`` seconds. ``saved``: the payer let the method be kept."""

    provider_ref: str
    amount_minor: int
    expires_at: datetime | None = None
    keeps_s: int = 7 * 86_400
    saved: Saved | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite no. ``counted`` is false if the bank never saw it."""

    decline: str
    code: str
    retry_not_before: datetime | None = None
    counted: bool = True
    provider_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """It may or may not have happened, or the provider is still working on it."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Certainly not executed; worth another call no sooner than ``retry_after_s`` (wall clock)."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider, asked, does not know the attempt."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The page is closed at the provider and took nothing."""


NOT_CONFIRMED: Final = Refused(decline="action", code="authentication_expired")
"""A charge whose payer had to confirm it with the bank, and did not."""

Finding = Captured | Authorized | ActionNeeded | Refused | Lost | NotSent | Absent | Closed


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an attempt stands. ``kind`` is ``charge`` or ``page``; ``action`` is why we looked:
    ``call`` (its own call ended), ``fetch`` (a hint), ``reconcile`` or ``expire`` (it was due),
    ``cancel`` (a person's wish). ``asked_at`` is when the provider was asked: its answer is no
    newer than that. ``is_current`` is false if another has claimed the attempt since: then only
    what did happen counts."""

    kind: str
    state: str
    payment_status: str
    tries: int
    fetches: int
    lost_at: datetime | None
    action: str = "call"
    asked_at: datetime | None = None
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What changes. Moments are durations from now on the tenant's clock; ``back_off_s`` is
    wall-clock time until the call is made again."""

    state: str
    payment_status: str
    event: str | None = None
    refused: Refused | None = None
    captured: Captured | None = None
    authorized: Authorized | None = None
    redirect_url: str | None = None
    provider_ref: str | None = None
    reconcile_in: timedelta | None = None
    expire_in: timedelta | None = None
    let_go_in: timedelta | None = None
    """When what nobody captured is voided."""
    back_off_s: float = 0
    tries: int = 0
    fetches: int = 0
    lost: bool = False
    exhausted: bool = False
    note: str | None = None


_EVENTS: Final[Mapping[str, str]] = {
    "succeeded": events.PAYMENT_SUCCEEDED,
    "failed": events.PAYMENT_FAILED,
    "canceled": events.PAYMENT_CANCELED,
    "action_required": events.PAYMENT_REQUIRES_ACTION,
    "lost": events.PAYMENT_UNKNOWN,
    "authorized": events.PAYMENT_AUTHORIZED,
}


def decide(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """What ``finding`` changes, or None if it changes nothing (it was applied, or says nothing).

    A terminal state never changes, except that money which arrives late is still a success.
    """
    decided: Decision | None = None
    match finding:
        case Captured():
            decided = _move(
                now,
                "succeeded",
                # Nothing was sent, we thought; the provider knows better.
                state="in_flight" if now.state == "ready" else now.state,
                captured=finding,
                provider_ref=finding.provider_ref,
            )
        case Closed() if now.state == "ready" and now.action == "cancel":
            decided = _move(now, "canceled")  # nothing was asked of a provider
        case _ if _says_nothing(now, finding):
            pass
        case _ if now.state == "authorized" or isinstance(finding, Authorized):
            decided = _in_two_stages(now, finding, at)
        # A try that a page refused is not the page's end: only its opening can be refused.
        case Refused() if now.kind == "charge" or (now.state, now.action) == ("in_flight", "call"):
            decided = _move(now, "failed", refused=finding, provider_ref=finding.provider_ref)
        case ActionNeeded() if now.state != "requires_action":
            decided = _move(
                now,
                "action_required",
                redirect_url=finding.redirect_url,
                provider_ref=finding.provider_ref,
                reconcile_in=PAGE_POLLS[0],
                expire_in=PAGE_OPEN,
            )
        case Closed() if now.state in {"requires_action", "unknown"}:
            # A page is an offer that nobody took; a charge was wanted, and its payer never came.
            if now.kind == "charge":
                decided = _move(now, "failed", refused=NOT_CONFIRMED)
            else:
                decided = _move(now, "canceled")
        case Lost() | NotSent() if now.state == "in_flight" and now.action == "call":
            decided = _not_done(now, finding)
        case _ if now.state in {"unknown", "requires_action"}:
            decided = _look_again(now, finding, at)
    return decided


def _says_nothing(now: Standing, finding: Finding) -> bool:
    """Whether all but money that moved is without a meaning: it is over or not begun; another has
    claimed it since; or what was refused was a capture or a void, whose authorization stands as it
    was, whatever is known of it."""
    if now.state in TERMINAL or now.state in {"reserving", "ready"}:
        return True
    if isinstance(finding, Refused) and now.action in {"capture", "void"}:
        return True
    return not now.is_current and not isinstance(finding, ActionNeeded)


def expiry(finding: Authorized, at: datetime) -> datetime:
    """When the provider lets an authorization go that was made or seen at ``at``."""
    return finding.expires_at or at + timedelta(seconds=finding.keeps_s)


def _in_two_stages(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """The money is set aside; or what is set aside is let go, or a capture of it may have
    happened."""
    match finding:
        case Authorized() if now.state != "authorized":
            return _move(
                now,
                "authorized",
                authorized=finding,
                provider_ref=finding.provider_ref,
                let_go_in=expiry(finding, at) - LET_GO_BEFORE - at,
            )
        case Closed():
            return _move(now, "canceled")
        case Lost() if now.action == "capture":
            return _move(now, "lost", lost=True, reconcile_in=RECONCILE[0], note=finding.reason)
        case Refused():
            return _move(now, "failed", refused=finding)
    return None


def _move(now: Standing, trigger: str, *, state: str | None = None, **rest: Any) -> Decision | None:
    before = now.state if state is None else state
    if not can(ATTEMPT, before, trigger) or not can(PAYMENT, now.payment_status, trigger):
        return None
    return Decision(
        state=step(ATTEMPT, before, trigger),
        payment_status=step(PAYMENT, now.payment_status, trigger),
        event=_EVENTS[trigger],
        tries=now.tries,
        **rest,
    )


def _not_done(now: Standing, finding: Lost | NotSent) -> Decision | None:
    """A call without an answer. Opening a page moves no money and has one key: it is asked again;
    a charge is never asked again unless nothing was sent."""
    if isinstance(finding, NotSent) and finding.reason in HELD_BACK:
        return Decision(
            state=step(ATTEMPT, now.state, "not_executed"),
            payment_status=now.payment_status,
            tries=now.tries,
            back_off_s=max(finding.retry_after_s or HELD_BACK_S, 0.2),
            note=finding.reason,
        )
    tries = now.tries + 1
    repeatable = isinstance(finding, NotSent) or now.kind == "page"
    if repeatable and tries < MOST_TRIES:
        return Decision(
            state=step(ATTEMPT, now.state, "not_executed"),
            payment_status=now.payment_status,
            tries=tries,
            back_off_s=0.2 * 2**tries,
            note=finding.reason,
        )
    if isinstance(finding, NotSent):
        refused = Refused(decline="soft", code=finding.reason, counted=False)
        return _move(now, "failed", refused=refused)
    return _move(now, "lost", lost=True, reconcile_in=RECONCILE[0], note=finding.reason)


def _beyond_horizon(now: Standing, at: datetime) -> bool:
    # Who asked early and comes back late knows nothing of the time between.
    asked_at = at if now.asked_at is None else min(at, now.asked_at)
    return now.lost_at is not None and asked_at - now.lost_at >= HORIZON


def _look_again(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """It was certainly never executed; or nothing definite was learnt: when to look next. A look
    that was due has used up its row."""
    if isinstance(finding, Absent) and now.state == "unknown" and _beyond_horizon(now, at):
        refused = Refused(decline="soft", code="not_executed", counted=False)
        return _move(now, "failed", refused=refused)
    fetches = now.fetches + 1
    same = Decision(
        state=now.state, payment_status=now.payment_status, tries=now.tries, fetches=fetches
    )
    if now.action == "expire":
        over = fetches > MOST_EXPIRIES
        return replace(same, exhausted=over, expire_in=None if over else EXPIRE_AGAIN)
    if now.action == "reconcile":
        plan = RECONCILE if now.state == "unknown" else PAGE_POLLS
        over = fetches >= len(plan)
        return replace(
            same,
            exhausted=over and now.state == "unknown",
            reconcile_in=None if over else plan[fetches],
        )
    if now.action == "fetch" and isinstance(finding, Lost | NotSent):
        return replace(same, fetches=now.fetches, reconcile_in=RECONCILE[0])
    return None
