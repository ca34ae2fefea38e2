"""Pauses that use up nothing: the period that they fall into ends later by their length.

Inside such a period there are two clocks. *Real* time passes always; *paid* time stands still
during each pause, so that in it the period is exactly as long as it was billed. What is charged and
given back is computed in paid time, by the ordinary rules, and told in real time. So what a
customer has paid for is served in full, and a later change or cancellation gives back the same
share as it would have without the pause (Zuora extends a term so: ``extendsTerm`` on resume).

Where a subscription is prorated by days, a pause is as long as the local midnights in it, so that
the day on which it is resumed counts as the day on which it was paused; to the second otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from subledger.core.calendar import Period
from subledger.core.local_days import add_local_days, local_days_between
from subledger.core.proration import By, Mode
from subledger.core.timeline import Draft, Line


@dataclass(frozen=True, slots=True)
class Pause:
    """From ``from_at`` until ``until_at``, or, if that is None, still going on."""

    from_at: datetime
    until_at: datetime | None


@dataclass(frozen=True, slots=True)
class Extension:
    """A period that ended at ``end_at`` when it was billed, and the pauses in it, one after
    another (real time). Without pauses both clocks are the same."""

    end_at: datetime
    timezone: str
    proration: Mode
    pauses: tuple[Pause, ...] = ()

    def __post_init__(self) -> None:
        moments = [
            moment for each in self.pauses for moment in (each.from_at, each.until_at) if moment
        ]
        assert moments == sorted(moments), "pauses follow one another"
        assert all(each.until_at for each in self.pauses[:-1]), "the last one may go on"

    @property
    def ends(self) -> tuple[datetime, ...]:
        """Where the period ends after none, one, two … of the pauses. It never ends before the
        subscription is resumed; a pause that goes on has not moved it yet."""
        found = [self.end_at]
        for each in self.pauses:
            if each.until_at is None:
                found.append(found[-1])
            else:
                found.append(max(self._later(found[-1], each, each.until_at), each.until_at))
        return tuple(found)

    @property
    def extended_to(self) -> datetime:
        """Where the period ends now (real)."""
        return self.ends[-1]

    def paid(self, at: datetime) -> datetime:
        """The paid time at a real moment; never later for an earlier moment."""
        ends = self.ends
        for n in reversed(range(len(self.pauses))):
            each = self.pauses[n]
            if at <= each.from_at:
                continue
            if each.until_at is not None and at >= ends[n + 1]:
                at = ends[n] + (at - ends[n + 1])
            elif each.until_at is None or at <= each.until_at:
                at = each.from_at
            else:
                at = min(max(self._earlier(at, each, each.until_at), each.from_at), ends[n])
        return at

    def starts(self, at: datetime) -> datetime:
        """The real moment from which what begins at a paid moment is served."""
        return self._real(at, at_pause=True)

    def stops(self, at: datetime) -> datetime:
        """The real moment up to which what ends at a paid moment is served."""
        return self._real(at, at_pause=False)

    def _real(self, at: datetime, *, at_pause: bool) -> datetime:
        ends = self.ends
        for n, each in enumerate(self.pauses):
            if each.until_at is None or at < each.from_at or (at == each.from_at and not at_pause):
                continue
            if at >= ends[n]:
                at = ends[n + 1] + (at - ends[n])
            elif at == each.from_at:
                at = each.until_at
            else:
                at = min(max(self._later(at, each, each.until_at), each.until_at), ends[n + 1])
        return at

    def _later(self, at: datetime, pause: Pause, until_at: datetime) -> datetime:
        if self.proration.by is By.SECOND:
            return at + (until_at - pause.from_at)
        days = local_days_between(pause.from_at, until_at, self.timezone)
        return add_local_days(at, days, self.timezone)

    def _earlier(self, at: datetime, pause: Pause, until_at: datetime) -> datetime:
        if self.proration.by is By.SECOND:
            return at - (until_at - pause.from_at)
        days = local_days_between(pause.from_at, until_at, self.timezone)
        return add_local_days(at, -days, self.timezone)

    # Lines --------------------------------------------------------------------------------------

    def paid_lines(self, lines: Iterable[Line]) -> list[Line]:
        """Lines as they were billed (real), in paid time. An end that was written before a pause
        moved it is the period's end."""
        if not self.pauses:
            return list(lines)
        ends = self.ends
        return [
            replace(
                each,
                charged_from_at=self.paid(each.charged_from_at),
                service_start_at=self.paid(each.service_start_at),
                service_end_at=self._paid_end(each.service_end_at, ends),
                derivation=_due(each, lambda at: self._paid_end(at, ends)),
            )
            for each in lines
        ]

    def _paid_end(self, at: datetime, ends: tuple[datetime, ...]) -> datetime:
        return self.end_at if at in ends else self.paid(at)

    def real_draft(self, draft: Draft, billed: Iterable[Line] = ()) -> Draft:
        """A draft that was made in paid time, told in real time. Credits, and charges that are
        billed anew, name the moment from which the charge was ``billed`` first (real)."""
        if not self.pauses:
            return draft
        known: dict[tuple[str, datetime], datetime] = {}
        for each in billed:
            known.setdefault((each.price_id, self.paid(each.charged_from_at)), each.charged_from_at)
        period = draft.period
        if period is not None:
            # A pause that began at the very end leaves the lines, but not the period, as they were.
            at_end = period.end_at == self.end_at
            end_at = self.extended_to if at_end else self.stops(period.end_at)
            period = Period(self.starts(period.start_at), end_at)
        return replace(
            draft,
            lines=tuple(
                replace(
                    each,
                    charged_from_at=known[each.key]
                    if each.key in known
                    else self.starts(each.charged_from_at),
                    service_start_at=self.starts(each.service_start_at),
                    service_end_at=self.stops(each.service_end_at),
                    derivation=_due(each, self.stops),
                )
                for each in draft.lines
            ),
            period=period,
        )


def _due(line: Line, moved: Callable[[datetime], datetime]) -> Mapping[str, Any]:
    """The derivation with the moment at which the charge fell due moved, where it says one."""
    told = line.derivation.get("due_at")
    if told is None:
        return line.derivation
    return {**line.derivation, "due_at": moved(datetime.fromisoformat(told)).isoformat()}
