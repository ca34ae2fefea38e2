"""A subscription's life: what is billed run by run sums to what would be billed at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core import states
from subledger.core.calendar import Alignment, Anchor, Grid, Interval, Unit, align
from subledger.core.cycles import Billed
from subledger.core.errors import IllegalTransition
from subledger.core.lifecycle import (
    LIFECYCLE,
    ChangesBilled,
    LastDay,
    Scheduled,
    after_trial,
    changed,
    charged_until,
    due,
    ended,
    is_issued,
    next_due_at,
    schedule,
    settle,
)
from subledger.core.pricing import Flat
from subledger.core.timeline import Item, Phase, Timeline

START = datetime(2026, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MONTH = Interval(Unit.MONTH)


def item(minor: int) -> Item:
    return Item(f"of {minor}", Flat(minor), Decimal(1))


def subscription(*phases: tuple[int, int], anchor_at: datetime = START) -> Timeline:
    """``(days after the start, price)``; a price of 0 is a pause. April has 30 days."""
    return Timeline(
        Anchor(anchor_at, "UTC"), MONTH, "EUR",
        tuple(
            Phase(START + days * DAY, (item(minor),) if minor else ()) for days, minor in phases
        ),
    )  # fmt: skip


def net(found) -> list[int]:
    return [each.net_minor for each in found.lines]


def runs(timeline, until, billing=Billed.ADVANCE, changes=ChangesBilled.NOW):
    """What every run up to ``until`` adds, with its moment."""
    billed, found, at = [], [], START - DAY
    while (at := next_due_at(timeline, at, billing, changes)) is not None and at <= until:
        added = due(timeline, at, billed=billed, billing=billing)
        billed += added.lines
        found.append((at, net(added)))
    return found


# Changes ------------------------------------------------------------------------------------------


def test_a_change_replaces_what_was_planned_for_then_or_later():
    planned = subscription((0, 1000), (10, 2000), (20, 3000))
    assert [each.from_at for each in changed(planned, START + 10 * DAY, (item(5),)).phases] == [
        START, START + 10 * DAY,
    ]  # fmt: skip
    assert changed(planned, START, (item(5),)).phases == (Phase(START, (item(5),)),)


def test_a_plan_change_is_billed_when_it_comes_and_not_before():
    timeline = subscription((0, 1000), (15, 3000))
    assert runs(timeline, START + 30 * DAY) == [
        (START, [1000]), (START + 15 * DAY, [-500, 1500]), (START + 30 * DAY, [3000]),
    ]  # fmt: skip


def test_a_change_may_wait_for_the_next_invoice():
    timeline = subscription((0, 3000), (15, 1000))
    assert runs(timeline, START + 30 * DAY, changes=ChangesBilled.NEXT_INVOICE) == [
        (START, [3000]), (START + 30 * DAY, [-1500, 500, 1000]),
    ]  # fmt: skip


def test_a_pause_over_a_renewal_is_not_billed():
    timeline = subscription((0, 3000), (15, 0), (45, 3100))
    assert runs(timeline, START + 60 * DAY) == [
        (START, [3000]), (START + 15 * DAY, [-1500]), (START + 30 * DAY, []),
        (START + 45 * DAY, [1600]),
    ]  # fmt: skip


# Ends ---------------------------------------------------------------------------------------------


def test_a_planned_end_cuts_the_last_period_when_it_is_billed():
    timeline = ended(subscription((0, 3000)), START + 45 * DAY)
    assert runs(timeline, START + 365 * DAY) == [
        (START, [3000]), (START + 30 * DAY, [1452]), (START + 45 * DAY, []),
    ]  # fmt: skip
    in_arrears = runs(timeline, START + 365 * DAY, Billed.ARREARS)
    assert in_arrears == [(START + 30 * DAY, [3000]), (START + 45 * DAY, [1452])]


def test_what_ends_at_its_start_costs_nothing_and_gives_all_back():
    timeline = subscription((0, 3000))
    first = due(timeline, START)
    gone = ended(timeline, START)
    assert net(due(gone, START, billed=first.lines)) == [-3000]
    assert next_due_at(gone, START) is None
    assert due(gone, START + 90 * DAY).lines == ()


def test_nothing_is_due_before_the_start():
    stub = subscription((0, 3000), anchor_at=START - 10 * DAY)
    assert due(stub, START - DAY).lines == ()
    assert next_due_at(stub, START - DAY) == START
    # In arrears the first thing due is the first boundary after the start.
    assert next_due_at(stub, START - 30 * DAY, Billed.ARREARS) == datetime(2026, 4, 22, tzinfo=UTC)
    assert net(due(stub, START)) == [2032], "21 of 31 days"


def test_an_empty_invoice_only_as_a_final_statement():
    timeline = ended(subscription((0, 3000)), START + 30 * DAY)
    at = START + 30 * DAY
    nothing = due(timeline, at, billed=due(timeline, START).lines)
    assert nothing.lines == ()
    assert not is_issued(nothing, timeline, at)
    assert is_issued(nothing, timeline, at, final_statement=True)
    assert not is_issued(nothing, timeline, at + DAY, final_statement=True)
    assert is_issued(due(timeline, START), timeline, START)


@pytest.mark.parametrize(
    ("end", "zone", "until"),
    [
        ("2023-09-06T00:00+00:00", "UTC", "2023-09-07T00:00+00:00"),
        ("2023-09-06T00:00+00:00", "America/Bogota", "2023-09-06T05:00+00:00"),
        ("2023-09-05T09:00+00:00", "UTC", "2023-09-06T00:00+00:00"),
        ("2023-10-05T11:00+00:00", "UTC", "2023-10-05T00:00+00:00"),
    ],
)
def test_a_charged_last_day_is_whole_unless_a_period_ends_on_it(end, zone, until):
    start_at = datetime(2023, 9, 5, tzinfo=UTC)
    anchor = align(start_at, zone, MONTH, Alignment(Grid.START_DAY))
    end_at = datetime.fromisoformat(end)
    found = charged_until(end_at, start_at, anchor, MONTH, LastDay.CHARGED)
    assert found == datetime.fromisoformat(until)
    assert charged_until(end_at, start_at, anchor, MONTH) == end_at


# Trials -------------------------------------------------------------------------------------------


def test_a_trial_runs_on_across_a_change():
    timeline = subscription((0, 1000), (5, 3000), (20, 6000))
    free = after_trial(timeline.phases, START + 10 * DAY)
    assert [(each.from_at, each.items) for each in free] == [
        (START, ()), (START + 10 * DAY, (item(3000),)), (START + 20 * DAY, (item(6000),)),
    ]  # fmt: skip
    assert after_trial(timeline.phases, START) == timeline.phases
    assert after_trial((), START) == ()


def test_there_is_no_way_back_into_a_trial():
    trialing = states.step(LIFECYCLE, "pending", "trial_started")
    assert states.step(LIFECYCLE, trialing, "changed") == "active"
    assert not any(to == "trialing" for (state, _), to in LIFECYCLE.items() if state != "pending")
    with pytest.raises(IllegalTransition):
        states.step(LIFECYCLE, "pending", "terminated")


def test_the_last_plan_for_a_moment_replaces_the_earlier_ones():
    soon, later = START, START + 30 * DAY
    cancel, change = Scheduled("cancel", "", later), Scheduled("change", "B", later)
    pause = Scheduled("pause", "", soon)
    assert schedule((pause, cancel), change) == (pause, change)
    assert schedule((pause, change), Scheduled("cancel", "", soon))[-1].kind == "cancel"
    assert len(schedule((pause, change), Scheduled("cancel", "", soon))) == 1


# Money --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-(10**6), 10**6)))
def test_credit_is_used_up_and_never_negative(totals):
    credit = due_minor = 0
    for total in totals:
        settled = settle(total, credit)
        credit += settled.credit_made_minor - settled.credit_used_minor
        due_minor += settled.due_minor
        assert credit >= 0
        assert settled.due_minor >= 0
        assert settled.credit_used_minor == 0 or settled.credit_made_minor == 0
    assert due_minor - credit == sum(totals), "nothing is lost between due and credit"


phases = st.lists(
    st.tuples(st.integers(1, 80), st.integers(0, 5000)), max_size=5, unique_by=lambda each: each[0]
).map(sorted)


@given(st.integers(1, 5000), phases, st.sampled_from(Billed), st.sampled_from(ChangesBilled))
def test_run_by_run_sums_to_all_at_once(minor, then, billing, changes):
    end_at = START + 91 * DAY
    timeline = subscription((0, minor), *then)
    timeline = ended(timeline, end_at)
    at_once = due(timeline, end_at, billing=billing)
    run_by_run = runs(timeline, end_at, billing, changes)
    assert sum(sum(each) for _, each in run_by_run) == at_once.total_minor
