"""One invoice, a few attempts, a provider, billing: what may happen to them, step by step.

Every decision is production's own: ``payments.protocol.decide`` for attempts, for billing
``core.reservations``, ``core.states`` for the rest. The model adds what surrounds them:
transactions as single moves with a possible death between any two, and a provider that executes or
does not, answers or does not, now or minutes later. Time is told apart only where a rule looks at
it: whether an attempt was lost at least ``HORIZON`` ago, and whether its next look is due.

What is assumed of the world: a request that left arrives within ``HORIZON`` or never, one key is
executed once, and a caller whose lease is over begins no call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from subledger.contracts import events
from subledger.core import reservations
from subledger.core.reservations import Claim
from subledger.core.states import ATTEMPT, INVOICE, PAYMENT, step
from subledger.services.payments import protocol
from subledger.services.payments.protocol import (
    HORIZON,
    TERMINAL,
    Absent,
    ActionNeeded,
    Captured,
    Closed,
    Decision,
    Finding,
    Lost,
    NotSent,
    Refused,
    Standing,
)
from tests.model.search import Move

AT = datetime(2026, 3, 1, tzinfo=UTC)
AMOUNT = 100
WAITING = frozenset({"unknown", "requires_action"})
STRONGER = {"": 0, "fetch": 1, "reconcile": 2, "expire": 3}
CAPTURED, OPEN = Captured("ref", AMOUNT), ActionNeeded("page", "ref")
DECLINED, LOST, UNSENT = Refused("soft", "no", provider_ref="ref"), Lost("?"), NotSent("?")
ABSENT, CLOSED = Absent(), Closed()
ANSWER: dict[str, Finding] = {
    "": ABSENT, "captured": CAPTURED, "declined": DECLINED, "open": OPEN, "closed": CLOSED,
}  # fmt: skip


class Look(NamedTuple):
    """Somebody who asks the provider, or holds its answer."""

    action: str
    closes: bool
    was_old: bool
    """Whether the attempt was lost long ago when it was asked about."""
    answer: Finding | None = None
    asked_again: bool = False


class Call(NamedTuple):
    """A caller: before its call, or with what it was answered."""

    answer: Finding | None = None
    is_current: bool = True
    """False if another has claimed the attempt since."""


class Attempt(NamedTuple):
    """An attempt as the database has it, and those who work on it."""

    kind: str
    state: str
    status: str = "processing"
    tries: int = 0
    fetches: int = 0
    lost: str = ""
    """``fresh`` or ``old`` once it was lost."""
    reconcile: bool = False
    expire: bool = False
    exhausted: bool = False
    known_there: bool = False
    intent: str = ""
    looks: tuple[Look, ...] = ()
    calls: tuple[Call, ...] = ()
    answer: str = ""
    """What billing answered, not written down yet."""


class There(NamedTuple):
    """The same attempt at the provider."""

    state: str = ""
    travelling: bool = False
    captures: int = 0


class State(NamedTuple):
    """Everything."""

    attempts: tuple[Attempt, ...]
    there: tuple[There, ...]
    invoice: str
    claims: tuple[Claim, ...]
    received: frozenset[int]
    unapplied: int
    queue: tuple[tuple[str, int], ...]
    faults: int


@dataclass(frozen=True)
class Rules:
    """Production's decisions and guards; a test takes one of them away."""

    decide: Callable[[Standing, Finding, datetime], Decision | None] = protocol.decide
    refusal: Callable[[str | None, Iterable[Claim], Hashable], str | None] = reservations.refusal
    is_held: Callable[[Iterable[Claim]], bool] = reservations.is_held
    one_per_key: bool = True
    """The provider executes a key once."""
    fenced: bool = True
    """A caller whose lease is over begins no call."""
    by_claim: bool = True
    """Who was overtaken by another caller says only what did happen."""
    receipts: bool = True
    """Billing books an attempt once."""
    releases: frozenset[str] = frozenset({"failed", "canceled"})
    """The outcomes that give the reservation back."""


@dataclass
class Collecting:
    """The model. ``kinds`` of attempts: the first is born with its reservation, as a finalized
    invoice's is; the others (retries, manual payments) ask for theirs at any time. ``faults``: how
    many things may go wrong in one life."""

    kinds: tuple[str, ...] = ("charge", "charge")
    faults: int = 2
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self._decided: dict[Any, Decision | None] = {}

    def start(self) -> State:
        first, *others = self.kinds
        return State(
            attempts=(Attempt(first, "ready"), *(Attempt(each, "") for each in others)),
            there=tuple(There() for _ in self.kinds),
            invoice="open",
            claims=(Claim(0, "held"),),
            received=frozenset(),
            unapplied=0,
            queue=(),
            faults=self.faults,
        )

    # --- what has to hold ------------------------------------------------------------------------

    def wrong(self, s: State) -> str | None:
        captures = [each.captures for each in s.there]
        if max(captures) > 1:
            return "one reservation captured twice"
        if sum(captures) > 1:
            return "two attempts captured one invoice"
        if s.unapplied:
            return "money that pays nothing"
        may = [n for n in range(len(s.attempts)) if _may_take(s, n)]
        if len(may) + sum(captures) > 1:
            return "two attempts may take money for one invoice"
        if s.invoice == "void" and (may or sum(captures)):
            return "a void invoice that somebody may collect"
        return None

    def unsettled(self, s: State) -> str | None:
        for n, (mine, there) in enumerate(zip(s.attempts, s.there, strict=True)):
            if mine.state in {"reserving", "ready", "in_flight", *WAITING} and not mine.exhausted:
                return f"attempt {n} stays {mine.state}"
            if (there.captures > 0) != (n in s.received) and not mine.exhausted:
                return f"what attempt {n} captured is not known"
        if any(each.exhausted for each in s.attempts):
            return None  # a person was called
        if self.rules.is_held(s.claims):
            return "the invoice stays reserved"
        return "a paid invoice is not closed" if bool(s.received) != (s.invoice == "paid") else None

    # --- what may happen -------------------------------------------------------------------------

    def moves(self, s: State) -> Iterator[Move[State]]:
        for n, mine in enumerate(s.attempts):
            if mine.state == "":
                yield Move(f"{n} wished", False, _with(s, n, mine._replace(state="reserving")))
                continue
            yield from self._reserving(s, n, mine)
            yield from self._calling(s, n, mine)
            yield from self._asking(s, n, mine)
            yield from self._world(s, n, mine)
        yield from self._billing(s)
        if any(each.lost == "fresh" for each in s.attempts) and not any(
            each.travelling for each in s.there
        ):
            older = tuple(
                self._too_late(each)._replace(lost="old") if each.lost == "fresh" else each
                for each in s.attempts
            )
            yield Move("minutes pass", True, s._replace(attempts=older))

    def _reserving(self, s: State, n: int, mine: Attempt) -> Iterator[Move[State]]:
        if mine.state != "reserving":
            return
        if not mine.answer:
            refusal = self.rules.refusal(s.invoice, s.claims, n)
            answered = _with(s, n, mine._replace(answer=refusal or "granted"))
            if refusal is None and all(each.attempt != n for each in s.claims):
                answered = answered._replace(claims=(*s.claims, Claim(n, "held")))
            yield Move(f"{n} asks billing", True, answered)
            return
        if s.faults:
            died = _with(s, n, mine._replace(answer=""))
            yield Move(f"{n} dies with billing's answer", False, _fault(died))
        if mine.answer == "granted":
            now = mine._replace(state=step(ATTEMPT, mine.state, "reserved"), answer="")
            yield Move(f"{n} is ready", True, _with(s, n, now))
            return
        outcome = "failed" if mine.answer == "reserved" else "canceled"
        now = mine._replace(
            state=step(ATTEMPT, mine.state, "refused"),
            status=step(PAYMENT, mine.status, outcome),
            answer="",
        )
        to = _with(s, n, now)
        yield Move(f"{n} is refused", True, to._replace(queue=(*s.queue, (outcome, n))))

    def _calling(self, s: State, n: int, mine: Attempt) -> Iterator[Move[State]]:
        if mine.state == "ready":
            others = tuple(each._replace(is_current=False) for each in mine.calls)
            claimed = mine._replace(
                state=step(ATTEMPT, mine.state, "claimed"), calls=(*others, Call())
            )
            yield Move(f"{n} claimed", True, _with(s, n, claimed))
        for at, call in enumerate(mine.calls):
            gone = mine.calls[:at] + mine.calls[at + 1 :]
            if s.faults:
                died = _with(s, n, mine._replace(calls=gone))
                yield Move(f"{n}'s caller dies", False, _fault(died))
            if call.answer is None:
                yield from self._sending(s, n, mine, call, gone)
                continue
            to = self._settle(
                s, n, mine._replace(calls=gone), call.answer, "call", is_current=call.is_current
            )
            yield Move(f"{n}'s call recorded", True, to)
            if s.faults:
                to = self._settle(s, n, mine, call.answer, "call", is_current=call.is_current)
                yield Move(f"{n}'s call recorded, told otherwise", False, _fault(to))
        if mine.state == "in_flight" and (not mine.calls or s.faults):
            to = self._settle(s, n, self._too_late(mine), Lost("lease_expired"), "call")
            if mine.kind == "charge":
                to = _with(to, n, _ask(to.attempts[n], "fetch"))
            heals = not mine.calls
            yield Move(f"{n}'s lease ends", heals, to if heals else _fault(to))

    def _too_late(self, mine: Attempt) -> Attempt:
        """Its lease is over: who has not called yet will not."""
        late = tuple(
            each._replace(answer=UNSENT) if each.answer is None and self.rules.fenced else each
            for each in mine.calls
        )
        return mine._replace(calls=late)

    def _sending(
        self, s: State, n: int, mine: Attempt, call: Call, others: tuple[Call, ...]
    ) -> Iterator[Move[State]]:
        for there in self._executed(mine, s.there[n]):
            told = _with(
                s,
                n,
                mine._replace(calls=(*others, call._replace(answer=ANSWER[there.state]))),
                there,
            )
            yield Move(f"{n} sent: {there.state}", True, told)
            if s.faults:
                told = _with(
                    s, n, mine._replace(calls=(*others, call._replace(answer=LOST))), there
                )
                yield Move(f"{n} sent: {there.state}, reply lost", False, _fault(told))
        if s.faults:
            for answer in (LOST, UNSENT):
                told = _with(s, n, mine._replace(calls=(*others, call._replace(answer=answer))))
                yield Move(f"{n} not sent: {type(answer).__name__}", False, _fault(told))
            there = s.there[n]._replace(travelling=True)
            told = _with(s, n, mine._replace(calls=(*others, call._replace(answer=LOST))), there)
            yield Move(f"{n} on its way, reply lost", False, _fault(told))

    def _executed(self, mine: Attempt, there: There) -> Iterator[There]:
        """What the provider makes of a request: once for a key."""
        if there.state and (self.rules.one_per_key or there.state != "captured"):
            yield there
            return
        if mine.kind == "page":
            yield there._replace(state="open")
        else:
            yield there._replace(state="captured", captures=there.captures + 1)
        yield there._replace(state="declined")

    def _asking(self, s: State, n: int, mine: Attempt) -> Iterator[Move[State]]:
        if mine.reconcile and mine.lost != "fresh":
            due = mine._replace(reconcile=False)
            asked = _ask(due, "reconcile") if mine.state in WAITING else due
            yield Move(f"{n} due", True, _with(s, n, asked))
        if mine.expire:
            due = mine._replace(expire=False)
            asked = _ask(due, "expire") if mine.state in WAITING else due
            yield Move(f"{n}'s page due to close", True, _with(s, n, asked))
        if mine.intent and (not mine.looks or (s.faults and len(mine.looks) < 2)):
            closes = mine.intent == "expire" and mine.kind == "page" and mine.known_there
            look = Look(mine.intent, closes, mine.lost == "old")
            to = _with(s, n, mine._replace(looks=(*mine.looks, look)))
            yield Move(f"{n} looked at", not mine.looks, _fault(to) if mine.looks else to)
        for at, look in enumerate(mine.looks):
            others = mine.looks[:at] + mine.looks[at + 1 :]
            if s.faults:
                died = _with(s, n, mine._replace(looks=others))
                yield Move(f"{n}'s looker dies", False, _fault(died))
            if look.answer is None:
                yield from self._answering(s, n, mine, look, others)
                continue
            rest = mine._replace(looks=others)
            if not look.asked_again:
                rest = rest._replace(intent="")
            elif rest.intent == look.action:
                rest = rest._replace(intent="fetch")
            to = self._settle(s, n, rest, look.answer, look.action, was_old=look.was_old)
            yield Move(f"{n}'s look recorded", True, to)

    def _answering(
        self, s: State, n: int, mine: Attempt, look: Look, others: tuple[Look, ...]
    ) -> Iterator[Move[State]]:
        there = s.there[n]
        if look.closes and there.state == "open":
            there = there._replace(state="closed")
        told = mine._replace(looks=(*others, look._replace(answer=ANSWER[there.state])))
        yield Move(f"{n} there: {there.state or 'absent'}", True, _with(s, n, told, there))
        if s.faults:
            for seen in {there, s.there[n]}:
                told = mine._replace(looks=(*others, look._replace(answer=LOST)))
                yield Move(f"{n} there: no answer", False, _fault(_with(s, n, told, seen)))
            if there.state == "open":
                told = mine._replace(looks=(*others, look._replace(answer=DECLINED)))
                yield Move(f"{n} there: a decline", False, _fault(_with(s, n, told)))

    def _world(self, s: State, n: int, mine: Attempt) -> Iterator[Move[State]]:
        there = s.there[n]
        if there.travelling:
            for now in self._executed(mine, there._replace(travelling=False)):
                yield Move(f"{n} arrives: {now.state}", True, _with(s, n, mine, now))
            gone = there._replace(travelling=False)
            yield Move(f"{n} never arrives", True, _with(s, n, mine, gone))
        if there.state:
            yield Move(f"{n}'s webhook", False, _with(s, n, _ask(mine, "fetch")))
        if there.state == "open":
            paid = there._replace(state="captured", captures=there.captures + 1)
            yield Move(f"{n}'s page paid", False, _with(s, n, mine, paid))
            shut = there._replace(state="closed")
            yield Move(f"{n}'s page runs out", False, _with(s, n, mine, shut))
        if mine.kind == "page" and mine.state == "requires_action":
            yield Move(f"{n} canceled", False, _with(s, n, _ask(mine, "expire")))

    def _billing(self, s: State) -> Iterator[Move[State]]:
        if s.invoice == "open" and not self.rules.is_held(s.claims):
            voided = s._replace(invoice=step(INVOICE, s.invoice, "voided"))
            yield Move("voided", False, voided)
        if s.queue:
            to = self._booked(s, *s.queue[0])
            yield Move(f"billing reads {s.queue[0]}", True, to._replace(queue=s.queue[1:]))
            if s.faults:
                yield Move(f"billing reads {s.queue[0]} and forgets", False, _fault(to))

    def _booked(self, s: State, outcome: str, n: int) -> State:
        if outcome != "succeeded":
            closed = (
                reservations.when_not_paid(s.claims, n) if outcome in self.rules.releases else []
            )
            return s._replace(claims=_closed(s.claims, closed))
        if n in s.received and self.rules.receipts:
            return s
        open_minor = AMOUNT if s.invoice == "open" else 0
        received = s.received | {n}
        if not reservations.applied_minor(s.invoice, open_minor, AMOUNT):
            return s._replace(received=received, unapplied=s.unapplied + 1)
        return s._replace(
            invoice=step(INVOICE, s.invoice, "paid"),
            claims=_closed(s.claims, reservations.when_paid(s.claims, n)),
            received=received,
        )

    # --- production's decision, applied as the database would ------------------------------------

    def _settle(
        self,
        s: State,
        n: int,
        mine: Attempt,
        finding: Finding,
        action: str,
        *,
        was_old: bool | None = None,
        is_current: bool = True,
    ) -> State:
        is_current = is_current or not self.rules.by_claim
        key = (mine.kind, mine.state, mine.status, mine.tries, mine.fetches, mine.lost, finding,
               action, was_old, is_current)  # fmt: skip
        if key not in self._decided:
            self._decided[key] = self.rules.decide(
                _standing(mine, action, was_old, is_current), finding, AT
            )
        decision = self._decided[key]
        if decision is None:
            return _with(s, n, mine)
        over = decision.state in TERMINAL
        now = mine._replace(
            state=decision.state,
            status=decision.payment_status,
            tries=decision.tries,
            fetches=decision.fetches,
            lost="fresh" if decision.lost else mine.lost,
            reconcile=decision.reconcile_in is not None or (mine.reconcile and not over),
            expire=decision.expire_in is not None or (mine.expire and not over),
            exhausted=mine.exhausted or decision.exhausted,
            known_there=mine.known_there or decision.provider_ref is not None,
        )
        to = _with(s, n, now)
        if decision.event in OUTCOMES:
            to = to._replace(queue=(*s.queue, (OUTCOMES[decision.event], n)))
        return to


OUTCOMES: dict[str | None, str] = {
    events.PAYMENT_SUCCEEDED: "succeeded",
    events.PAYMENT_FAILED: "failed",
    events.PAYMENT_CANCELED: "canceled",
}


def _standing(mine: Attempt, action: str, was_old: bool | None, is_current: bool) -> Standing:
    lost_at = {"": None, "fresh": AT, "old": AT - HORIZON}[mine.lost]
    return Standing(
        kind=mine.kind,
        state=mine.state,
        payment_status=mine.status,
        tries=mine.tries,
        fetches=mine.fetches,
        lost_at=lost_at,
        action=action,
        asked_at=None if was_old is None else AT if was_old else lost_at,
        is_current=is_current,
    )


def _may_take(s: State, n: int) -> bool:
    """True while money may still move by attempt ``n``, as far as the provider can tell."""
    mine, there = s.attempts[n], s.there[n]
    if there.state in {"captured", "declined", "closed"}:
        return False
    begins = mine.state in {"ready", "in_flight"} or any(each.answer is None for each in mine.calls)
    return there.travelling or there.state == "open" or begins


def _ask(mine: Attempt, action: str) -> Attempt:
    """An intent to ask; the strongest stays, and who is asking already has to ask again."""
    return mine._replace(
        intent=max(mine.intent, action, key=STRONGER.__getitem__),
        looks=tuple(each._replace(asked_again=True) for each in mine.looks),
    )


def _with(s: State, n: int, mine: Attempt, there: There | None = None) -> State:
    attempts = (*s.attempts[:n], mine, *s.attempts[n + 1 :])
    if there is None:
        return s._replace(attempts=attempts)
    return s._replace(attempts=attempts, there=(*s.there[:n], there, *s.there[n + 1 :]))


def _fault(s: State) -> State:
    return s._replace(faults=s.faults - 1)


def _closed(claims: tuple[Claim, ...], closed: Iterable[Claim]) -> tuple[Claim, ...]:
    now = {each.attempt: each for each in closed}
    return tuple(now.get(each.attempt, each) for each in claims)
