"""One capture and two refunds of all of it: what may happen to them, step by step.

The decisions are production's own: ``payments.refunding.decide`` and ``compare``, and the states
that count against the limit (``refunding.LIVE``). As in ``collecting``, a request arrives within
``HORIZON`` or never, and a provider executes a key once; unlike there, what it does not know is
sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from subledger.core.states import REFUND, step
from subledger.services.payments import refunding
from subledger.services.payments.protocol import HORIZON, Captured, Finding, Lost, NotSent, Refused
from subledger.services.payments.refunding import Decision, Known, Listed, Standing, compare
from tests.model.search import Move

AT = datetime(2026, 3, 1, tzinfo=UTC)
AMOUNT = 100


class Call(NamedTuple):
    """A caller: before its call, or with what it was answered."""

    answer: Finding | None = None
    is_current: bool = True
    """False if another has claimed the refund since."""


class Refund(NamedTuple):
    """A refund as the database has it, and what the provider did."""

    state: str = ""
    tries: int = 0
    lost: str = ""
    due: bool = False
    exhausted: bool = False
    calls: tuple[Call, ...] = ()
    travelling: bool = False
    executed: int = 0
    refused_there: bool = False


class State(NamedTuple):
    """Everything: the refunds, who looks at the provider's list and what it said, refunds made
    there by somebody else, those of them written down here, and the faults left."""

    refunds: tuple[Refund, ...]
    asked: bool = False
    listed: tuple[Listed, ...] | None = None
    were_old: frozenset[int] = frozenset()
    """Which refunds were lost long ago when the list was asked for."""
    outside: bool = False
    outside_known: int = 0
    faults: int = 0


@dataclass(frozen=True)
class Rules:
    """Production's decision and guards; a test takes one away."""

    decide: Callable[[Standing, Finding, datetime], Decision | None] = refunding.decide
    live: frozenset[str] = refunding.LIVE
    one_per_key: bool = True


@dataclass(frozen=True)
class Refunds:
    """The model; ``outside`` lets somebody refund at the provider, once and before we ask."""

    faults: int = 2
    rules: Rules = field(default_factory=Rules)

    def start(self) -> State:
        return State((Refund(), Refund()), faults=self.faults)

    def wrong(self, s: State) -> str | None:
        if any(each.executed > 1 for each in s.refunds):
            return "one refund made twice"
        if sum(each.executed for each in s.refunds) > 1:
            return "more given back than captured"
        return "a refund made outside was written down twice" if s.outside_known > 1 else None

    def unsettled(self, s: State) -> str | None:
        for n, each in enumerate(s.refunds):
            if each.exhausted:
                continue
            if each.state not in {"", "succeeded", "failed", "refused"}:
                return f"refund {n} stays {each.state}"
            if (each.executed > 0) != (each.state == "succeeded"):
                return f"refund {n} is {each.state}, made {each.executed} times"
        return None

    def moves(self, s: State) -> Iterator[Move[State]]:
        for n, mine in enumerate(s.refunds):
            yield from self._deciding(s, n, mine)
            yield from self._calling(s, n, mine)
            yield from self._world(s, n, mine)
        yield from self._looking(s)
        fresh = any(each.lost == "fresh" for each in s.refunds)
        if fresh and not any(each.travelling for each in s.refunds):
            aged = (
                each._replace(lost="old", calls=_late(each)) if each.lost == "fresh" else each
                for each in s.refunds
            )
            yield Move("minutes pass", True, s._replace(refunds=tuple(aged)))

    def _deciding(self, s: State, n: int, mine: Refund) -> Iterator[Move[State]]:
        if mine.state == "":
            # The payment's row is locked: what was asked for before counts until it has failed.
            gone = any(each.state in self.rules.live for each in s.refunds)
            wanted = mine._replace(state="refused" if gone else "requested")
            yield Move(f"{n} wanted", False, _with(s, n, wanted))
        elif mine.state == "requested":
            granted = mine._replace(state=step(REFUND, mine.state, "granted"))
            yield Move(f"{n} granted", True, _with(s, n, granted))
        elif mine.state == "ready":
            claimed = mine._replace(
                state=step(REFUND, mine.state, "claimed"),
                calls=(*(each._replace(is_current=False) for each in mine.calls), Call()),
            )
            yield Move(f"{n} claimed", True, _with(s, n, claimed))

    def _calling(self, s: State, n: int, mine: Refund) -> Iterator[Move[State]]:
        for at, call in enumerate(mine.calls):
            rest = mine.calls[:at] + mine.calls[at + 1 :]
            if s.faults:
                died = _with(s, n, mine._replace(calls=rest))
                yield Move(f"{n}'s caller dies", False, _fault(died))
            if call.answer is not None:
                to = self._settle(s, n, mine._replace(calls=rest), call.answer, call)
                yield Move(f"{n}'s call recorded", True, to)
                continue
            for made in self._executed(mine):
                answer = _said(made)
                told = made._replace(calls=(*rest, call._replace(answer=answer)))
                yield Move(f"{n} sent: {type(answer).__name__}", True, _with(s, n, told))
                if s.faults:
                    silent = made._replace(calls=(*rest, call._replace(answer=Lost("?"))))
                    yield Move(f"{n} sent, reply lost", False, _fault(_with(s, n, silent)))
            if s.faults:
                for answer in (Lost("?"), NotSent("?")):
                    told = mine._replace(calls=(*rest, call._replace(answer=answer)))
                    yield Move(f"{n} not sent", False, _fault(_with(s, n, told)))
                told = mine._replace(
                    calls=(*rest, call._replace(answer=Lost("?"))), travelling=True
                )
                yield Move(f"{n} on its way", False, _fault(_with(s, n, told)))
        if mine.state == "in_flight" and (not mine.calls or s.faults):
            late = mine._replace(calls=_late(mine))
            to = self._settle(s, n, late, Lost("lease_expired"), Call())
            to = to._replace(asked=True)
            yield Move(f"{n}'s lease ends", not mine.calls, _fault(to) if mine.calls else to)

    def _executed(self, mine: Refund) -> Iterator[Refund]:
        if mine.refused_there or (mine.executed and self.rules.one_per_key):
            yield mine
            return
        yield mine._replace(executed=mine.executed + 1)
        yield mine._replace(refused_there=True)

    def _world(self, s: State, n: int, mine: Refund) -> Iterator[Move[State]]:
        if mine.travelling:
            for made in self._executed(mine._replace(travelling=False)):
                yield Move(f"{n} arrives", True, _with(s, n, made))
            lost = mine._replace(travelling=False)
            yield Move(f"{n} never arrives", True, _with(s, n, lost))
        if mine.due and mine.lost == "old":
            due = _with(s, n, mine._replace(due=False))
            yield Move(f"{n} due", True, due._replace(asked=True))

    def _looking(self, s: State) -> Iterator[Move[State]]:
        if s.listed is None and not s.asked:
            yield Move("a webhook", False, s._replace(asked=True))
        if not s.outside and all(each.state == "" for each in s.refunds):
            gone = tuple(each._replace(state="refused") for each in s.refunds)
            yield Move("refunded there", False, s._replace(outside=True, refunds=gone))
        if s.asked and s.listed is None:
            listed = [
                Listed(f"r{n}", str(n), AMOUNT, _said(each))
                for n, each in enumerate(s.refunds)
                if each.executed or each.refused_there
            ]
            if s.outside:
                listed.append(Listed("other", None, AMOUNT, Captured("other", AMOUNT)))
            old = frozenset(n for n, each in enumerate(s.refunds) if each.lost == "old")
            asked = s._replace(asked=False, listed=tuple(listed), were_old=old)
            yield Move("listed", True, asked)
        if s.listed is not None:
            if s.faults:
                # Its lease ends: the same is asked again.
                died = s._replace(listed=None, asked=True, were_old=frozenset())
                yield Move("the looker dies", False, _fault(died))
            known = [
                Known(UUID(int=n), str(n), None)
                for n, each in enumerate(s.refunds)
                if each.state not in {"", "requested", "refused"}
            ]
            if s.outside_known:
                known.append(Known(UUID(int=9), "9", "other"))
            findings, outside = compare(known, s.listed)
            to = s._replace(
                listed=None, were_old=frozenset(), outside_known=s.outside_known + len(outside)
            )
            for each, finding in findings.items():
                if each.int < len(s.refunds):
                    was_old = each.int in s.were_old
                    to = self._settle(to, each.int, to.refunds[each.int], finding, was_old)
            yield Move("the list taken over", True, to)

    def _settle(self, s: State, n: int, mine: Refund, finding: Finding, by: Call | bool) -> State:
        """``by``: the call that ended, or, of a look, whether the refund was lost long before."""
        lost_at = {"": None, "fresh": AT, "old": AT - HORIZON}[mine.lost]
        standing = Standing(mine.state, mine.tries, lost_at)
        if isinstance(by, Call):
            standing = replace(standing, is_current=by.is_current)
        else:
            standing = replace(standing, looked=True, asked_at=AT if by else lost_at)
        decision = self.rules.decide(standing, finding, AT)
        if decision is None:
            return _with(s, n, mine)
        now = mine._replace(
            state=decision.state,
            tries=decision.tries,
            lost="fresh" if decision.lost else mine.lost,
            due=decision.look_in is not None or (mine.due and decision.state == "unknown"),
            exhausted=mine.exhausted or decision.exhausted,
        )
        to = _with(s, n, now)
        # A list that was asked for before says nothing of this sending.
        return to._replace(were_old=s.were_old - {n}) if decision.lost else to


def _said(mine: Refund) -> Finding:
    return Captured("r", AMOUNT) if mine.executed else Refused("hard", "no", provider_ref="r")


def _late(mine: Refund) -> tuple[Call, ...]:
    """A lease that is over: who has not called yet will not."""
    return tuple(
        each._replace(answer=NotSent("too_late")) if each.answer is None else each
        for each in mine.calls
    )


def _with(s: State, n: int, mine: Refund) -> State:
    return s._replace(refunds=(*s.refunds[:n], mine, *s.refunds[n + 1 :]))


def _fault(s: State) -> State:
    return s._replace(faults=s.faults - 1)
