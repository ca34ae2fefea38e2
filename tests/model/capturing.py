"""One authorization: captured or let go once, or expired, whatever happens to those who ask for it.

The decisions are production's own: ``payments.protocol.decide``, ``payments.wishes``. A caller
looks how the authorization stands and then calls; between any two moves it may die, or lose its
lease and work on beside the next one. What is assumed of the provider: it captures an authorization
at most once under an attempt's key, and lets go only what it has not captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from subledger.services.payments import protocol, wishes
from subledger.services.payments.protocol import (
    TERMINAL,
    Authorized,
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
ANSWER: dict[str, Finding] = {
    "open": Authorized("ref", AMOUNT, AT + timedelta(days=7)),
    "captured": Captured("ref", AMOUNT),
    "voided": Closed(),
    "expired": Closed(),
}
LOST, UNSENT, DECLINED = Lost("?"), NotSent("?"), Refused("soft", "no", provider_ref="ref")


class Caller(NamedTuple):
    """Who works a wish off: before its look, before its call, or with an answer."""

    wish: str
    has_looked: bool = False
    answer: Finding | None = None


class State(NamedTuple):
    """Everything."""

    state: str = "authorized"
    status: str = "authorized"
    wish: str | None = None
    tries: int = 0
    ready: bool = False
    claimed: bool = False
    due: bool = True
    """The moment at which it is let go is still to come."""
    lost: bool = False
    reconcile: bool = False
    fetches: int = 0
    exhausted: bool = False
    callers: tuple[Caller, ...] = ()
    looks: tuple[tuple[str, Finding | None], ...] = ()
    """Who asks the provider about the attempt: why, and what was answered."""
    there: str = "open"
    captures: int = 0
    faults: int = 0


@dataclass(frozen=True)
class Rules:
    """Production's decisions and guards; a test takes one of them away."""

    decide: Callable[[Standing, Finding, datetime], Decision | None] = protocol.decide
    left: Callable[[str, str | None, int, Finding], wishes.Left] = wishes.left
    refused_because: Callable[[str, str | None], str | None] = wishes.refused_because
    once: bool = True
    """The provider captures an authorization at most once under an attempt's key."""
    comes_again: bool = True
    """The moment of letting go comes again until the payment is over."""


@dataclass(frozen=True)
class Capturing:
    """The model."""

    faults: int = 2
    rules: Rules = field(default_factory=Rules)

    def start(self) -> State:
        return State(faults=self.faults)

    def wrong(self, s: State) -> str | None:
        if s.captures > 1:
            return "one authorization captured twice"
        if s.state == "succeeded" and not s.captures:
            return "succeeded, and nothing was captured"
        if s.state in {"failed", "canceled"} and s.there == "captured":
            return f"captured, and the payment has {s.state}"
        return None

    def unsettled(self, s: State) -> str | None:
        if s.exhausted:
            return None  # a person was called
        if s.state not in TERMINAL:
            return f"it stays {s.state}, wished: {s.wish}"
        return "let go here, and still set aside there" if s.there == "open" else None

    def moves(self, s: State) -> Iterator[Move[State]]:
        yield from self._wishing(s)
        yield from self._claiming(s)
        for at, caller in enumerate(s.callers):
            rest = s._replace(callers=s.callers[:at] + s.callers[at + 1 :])
            if s.faults:
                yield Move(f"caller {at} dies", False, _fault(rest))
            yield from self._calling(rest, caller, at)
        yield from self._asking(s)
        if s.there == "open":
            yield Move("expires there", False, s._replace(there="expired"))

    def _wishing(self, s: State) -> Iterator[Move[State]]:
        if self.rules.refused_because(s.state, s.wish) is None:
            for wish in (wishes.CAPTURE, wishes.VOID):
                wished = s._replace(wish=wish, tries=0, ready=True, claimed=False)
                yield Move(f"{wish} wished", False, wished)
        if s.due and s.state not in TERMINAL:
            # It comes again an hour later; nobody waits for it while it changes nothing.
            passed = s._replace(due=self.rules.comes_again)
            if s.state == "authorized" and s.wish is None:
                passed = passed._replace(wish=wishes.VOID, tries=0, ready=True, claimed=False)
            if passed != s:
                yield Move("the last moment", True, passed)

    def _claiming(self, s: State) -> Iterator[Move[State]]:
        if s.wish is not None and s.ready and not s.claimed and len(s.callers) < 3:
            callers = (*s.callers, Caller(s.wish))
            yield Move(f"{s.wish} claimed", True, s._replace(claimed=True, callers=callers))
        if s.claimed and not s.callers:
            yield Move("the lease ends", True, s._replace(claimed=False))
        elif s.claimed and s.faults:
            yield Move("a live caller's lease ends", False, _fault(s._replace(claimed=False)))

    def _calling(self, s: State, caller: Caller, at: int) -> Iterator[Move[State]]:
        """``s`` is without the caller."""

        def told(answer: Finding, to: State = s) -> State:
            return to._replace(callers=(*to.callers, caller._replace(answer=answer)))

        if caller.answer is not None:
            yield Move(f"caller {at} recorded", True, self._recorded(s, caller, caller.answer))
            return
        if not caller.has_looked:
            if s.there == "open":
                looked = s._replace(callers=(*s.callers, caller._replace(has_looked=True)))
                yield Move(f"caller {at} looks: open", True, looked)
            else:
                yield Move(f"caller {at} looks: {s.there}", True, told(ANSWER[s.there]))
        else:
            for there in self._executed(s, caller.wish):
                name = f"caller {at} calls {caller.wish}: {there.there}"
                yield Move(name, True, told(ANSWER[there.there], there))
                if s.faults:
                    yield Move(f"{name}, reply lost", False, _fault(told(LOST, there)))
            if s.there == "open":
                refused = told(DECLINED)
                yield Move(f"caller {at} refused {caller.wish}", False, refused)
        if s.faults:
            for answer in (LOST, UNSENT):
                yield Move(f"caller {at}: {answer}", False, _fault(told(answer)))

    def _executed(self, s: State, wish: str) -> Iterator[State]:
        if wish == wishes.VOID:
            yield s._replace(there="voided" if s.there == "open" else s.there)
        elif s.there == "open" or (s.there == "captured" and not self.rules.once):
            yield s._replace(there="captured", captures=s.captures + 1)
        else:
            yield s

    def _asking(self, s: State) -> Iterator[Move[State]]:
        if s.reconcile and s.state == "unknown" and not s.looks:
            asked = s._replace(reconcile=False, looks=(("reconcile", None),))
            yield Move("asked about", True, asked)
        if s.there != "open" and len(s.looks) < 1 + (s.faults > 0):
            yield Move("a webhook", False, s._replace(looks=(*s.looks, ("fetch", None))))
        for at, (why, answer) in enumerate(s.looks):
            rest = s._replace(looks=s.looks[:at] + s.looks[at + 1 :])
            if answer is not None:
                yield Move(f"look {at} recorded", True, self._settled(rest, answer, why))
                continue
            heard = rest._replace(looks=(*rest.looks, (why, ANSWER[s.there])))
            yield Move(f"look {at}: {s.there}", True, heard)
            if s.faults:
                deaf = rest._replace(looks=(*rest.looks, (why, LOST)))
                yield Move(f"look {at}: no answer", False, _fault(deaf))

    def _settled(self, s: State, finding: Finding, action: str) -> State:
        standing = Standing(
            kind="charge",
            state=s.state,
            payment_status=s.status,
            tries=0,
            fetches=s.fetches,
            lost_at=AT if s.lost else None,
            action=action,
            asked_at=AT,
        )
        decision = self.rules.decide(standing, finding, AT)
        if decision is None:
            return s
        over = decision.state in TERMINAL
        now = s._replace(
            state=decision.state,
            status=decision.payment_status,
            fetches=decision.fetches,
            lost=s.lost or decision.lost,
            reconcile=decision.reconcile_in is not None or (s.reconcile and not over),
            exhausted=s.exhausted or decision.exhausted,
        )
        if over:
            return now._replace(wish=None, ready=False, claimed=False, due=False)
        if decision.authorized is not None:  # found so again: what was wanted goes on
            return now._replace(ready=now.wish is not None, claimed=False, due=True)
        return now

    def _recorded(self, s: State, caller: Caller, answer: Finding) -> State:
        now = self._settled(s, answer, caller.wish)
        left = self.rules.left(now.state, now.wish, now.tries, answer)
        return now._replace(
            wish=left.kind,
            tries=left.tries,
            ready=left.ready_in_s is not None,
            claimed=False,
            due=now.due or (left.comes_again and self.rules.comes_again),
        )


def _fault(s: State) -> State:
    return s._replace(faults=s.faults - 1)
