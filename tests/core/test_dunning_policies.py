"""Retries grow in time, never outnumber the policy, stop where it says, and end when paid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.core.dunning import (
    DEFAULT,
    HARD_CODES,
    MAX_NOT_COUNTED,
    Decline,
    Failure,
    Final,
    FinalAction,
    FinalAt,
    Nothing,
    Owed,
    Policy,
    Preferred,
    Retry,
    Rules,
    Since,
    Standing,
    Success,
    decide,
    next_step,
    plan_ahead,
    preferred_moment,
    subscription_after,
)
from subledger.core.errors import InvalidPolicy

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia")

days = st.integers(1, 90).map(lambda n: n * DAY)
preferences = st.one_of(
    st.builds(Preferred, st.none() | st.integers(0, 23), st.just(()), st.just(())),
    st.builds(
        Preferred,
        st.none() | st.integers(0, 23),
        st.lists(st.integers(1, 7), max_size=3).map(tuple),
    ),
    st.builds(
        Preferred,
        st.none() | st.integers(0, 23),
        st.just(()),
        st.lists(st.integers(1, 31), max_size=3).map(tuple),
    ),
)


starts, actions, moments = map(st.sampled_from, (Since, FinalAction, FinalAt))
delays_since = {
    since: st.lists(days, max_size=6, unique=since is Since.FIRST_FAILURE) for since in Since
}
longest = st.none() | st.integers(1, 365).map(lambda n: n * DAY)


@st.composite
def policies(draw):
    since = draw(starts)
    delays = draw(delays_since[since])
    most = len(delays) if since is Since.FIRST_FAILURE else 20 if delays else 0
    return Policy(
        tuple(sorted(delays)),
        draw(actions),
        hard_decline_stops=draw(st.booleans()),
        since=since,
        max_retries=draw(st.integers(0, most)) if draw(st.booleans()) else None,
        max_span=draw(longest),
        final_at=draw(moments),
        preferred=draw(preferences),
    )


answers = st.lists(
    st.tuples(
        st.sampled_from([Decline.SOFT, Decline.INSUFFICIENT_FUNDS, Decline.ACTION]),
        st.booleans(),
        st.integers(0, 5).map(lambda n: n * DAY),
    ),
    max_size=50,
)


@given(policies(), answers, st.sampled_from(ZONES))
def test_retries_grow_and_never_outnumber_the_policy(policy, told, zone):
    history, retries_counted = [Failure(NOW, Decline.SOFT)], 0
    for decline, counted, late in told + [(Decline.SOFT, True, 0 * DAY)] * 50:
        following = next_step(policy, history, timezone=zone)
        if isinstance(following, Final):
            break
        assert following.at > history[-1].at
        if policy.max_span is not None:
            assert following.at <= NOW + policy.max_span
        history.append(Failure(following.at + late, decline, counted))
        retries_counted += counted
    last = next_step(policy, history, timezone=zone)
    assert isinstance(last, Final)
    assert last.action is policy.final
    assert last.at >= history[-1].at
    assert retries_counted <= policy.retries
    assert len(history) <= 1 + policy.retries + MAX_NOT_COUNTED + 1


@given(policies(), st.sampled_from(["code", "kind"]), st.sampled_from(sorted(HARD_CODES)))
def test_a_hard_decline_never_retries_where_it_stops(policy, by, code):
    failure = Failure(NOW, Decline.HARD) if by == "kind" else Failure(NOW, Decline.SOFT, code=code)
    following = next_step(policy, [failure])
    if policy.hard_decline_stops:
        assert isinstance(following, Final)
        at_once = policy.final_at is FinalAt.AT_ONCE
        assert following.at == (NOW if at_once else policy.deadline(NOW))
    else:
        assert following == next_step(policy, [Failure(NOW, Decline.SOFT)])


def test_a_policy_may_name_other_codes():
    policy = Policy((DAY,), FinalAction.CANCEL, hard_codes=frozenset({"57"}))

    assert isinstance(next_step(policy, [Failure(NOW, Decline.SOFT, code="57")]), Final)
    assert isinstance(next_step(policy, [Failure(NOW, Decline.SOFT, code="stolen_card")]), Retry)


@given(policies(), st.integers(0, 400), st.sampled_from(ZONES))
def test_paying_ends_it(policy, paid_after, zone):
    paid_at = NOW + paid_after * DAY
    moments = plan_ahead(policy, NOW, timezone=zone)

    assert all(a < b for a, b in pairwise((NOW, *moments)))
    assert len(moments) <= policy.retries
    assert plan_ahead(policy, NOW, timezone=zone, paid_at=paid_at) == tuple(
        each for each in moments if each < paid_at
    )
    attempts = [Failure(NOW, Decline.SOFT), Success(paid_at), Failure(paid_at + DAY, Decline.SOFT)]
    assert decide(Rules(policy), Standing("paid"), attempts, at=paid_at) == Nothing("paid")


def test_delays_from_the_failure_before_and_from_the_first():
    days_of = {
        since: [
            (each - NOW).days
            for each in plan_ahead(Policy((DAY, 4 * DAY), FinalAction.NONE, since=since), NOW)
        ]
        for since in Since
    }
    assert days_of == {Since.FAILURE_BEFORE: [1, 5], Since.FIRST_FAILURE: [1, 4]}


def test_a_moment_that_a_late_failure_overtook_is_passed_over():
    policy = Policy((DAY, 4 * DAY, 9 * DAY), FinalAction.NONE, since=Since.FIRST_FAILURE)
    late = [Failure(NOW, Decline.SOFT), Failure(NOW + 4 * DAY, Decline.SOFT)]

    assert next_step(policy, late) == Retry(NOW + 9 * DAY, 2)
    late.append(Failure(NOW + 10 * DAY, Decline.SOFT))
    assert next_step(policy, late) == Final(FinalAction.NONE, NOW + 10 * DAY)


def test_the_last_delay_goes_on_up_to_the_number_and_the_span():
    policy = Policy((DAY, 2 * DAY), FinalAction.CANCEL, max_retries=4)
    assert [(each - NOW).days for each in plan_ahead(policy, NOW)] == [1, 3, 5, 7]
    assert policy.deadline(NOW) == NOW + 7 * DAY

    short = Policy((DAY, 2 * DAY), FinalAction.CANCEL, max_retries=4, max_span=5 * DAY)
    assert [(each - NOW).days for each in plan_ahead(short, NOW)] == [1, 3, 5]
    assert short.deadline(NOW) == NOW + 5 * DAY
    assert plan_ahead(Policy((DAY, DAY), FinalAction.CANCEL, max_retries=1), NOW) == (NOW + DAY,)


def test_the_deadline_from_the_first_failure_is_the_last_delay_in_use():
    policy = Policy(
        (DAY, 4 * DAY, 9 * DAY), FinalAction.CANCEL, since=Since.FIRST_FAILURE, max_retries=2
    )
    assert policy.deadline(NOW) == NOW + 4 * DAY
    assert Policy((), FinalAction.CANCEL).deadline(NOW) == NOW


@given(
    st.integers(0, 10**8).map(lambda s: NOW + timedelta(seconds=s)),
    preferences,
    st.sampled_from(ZONES),
)
def test_a_preferred_moment_is_the_wish_and_never_earlier(at, wish, zone):
    found = preferred_moment(at, wish, zone)

    local = found.astimezone(ZoneInfo(zone))
    assert at <= found <= at + 33 * DAY
    assert wish.on(local.date())
    assert wish.hour is None or local.hour in {wish.hour, wish.hour + 1}
    assert preferred_moment(found, wish, zone) == found


def test_an_hour_of_the_payers_zone():
    wish = Preferred(hour=9)
    assert preferred_moment(NOW, wish, "America/New_York") == datetime(2026, 1, 31, 14, tzinfo=UTC)
    assert preferred_moment(NOW, wish, "Europe/Berlin") == datetime(2026, 2, 1, 8, tzinfo=UTC)
    friday = Preferred(weekdays=(5,))
    assert preferred_moment(NOW, friday, "UTC") == datetime(2026, 2, 6, 12, tzinfo=UTC)
    end = Preferred(hour=0, month_days=(31,))
    assert preferred_moment(NOW, end, "UTC") == datetime(2026, 2, 28, tzinfo=UTC)
    skipped = Preferred(hour=2, month_days=(29,))
    march = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert preferred_moment(march, skipped, "Europe/Berlin") == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_a_preferred_day_beyond_the_span_is_not_waited_for():
    policy = Policy(
        (DAY,), FinalAction.CANCEL, max_span=3 * DAY, preferred=Preferred(month_days=(15,))
    )
    assert next_step(policy, [Failure(NOW, Decline.SOFT)]) == Final(FinalAction.CANCEL, NOW)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"delays": (DAY,) * 21}, "/delays_s"),
        ({"delays": (91 * DAY,)}, "/delays_s"),
        ({"delays": (0 * DAY,)}, "/delays_s"),
        ({"delays": (2 * DAY, DAY), "since": Since.FIRST_FAILURE}, "/delays_s"),
        ({"max_retries": 21}, "/max_retries"),
        ({"max_retries": -1}, "/max_retries"),
        ({"delays": (), "max_retries": 1}, "/max_retries"),
        ({"max_retries": 2, "since": Since.FIRST_FAILURE}, "/max_retries"),
        ({"max_span": 0 * DAY}, "/max_span_s"),
        ({"max_span": 366 * DAY}, "/max_span_s"),
        ({"hard_codes": frozenset(str(n) for n in range(201))}, "/hard_codes"),
    ],
)
def test_what_is_no_policy_is_refused(fields, pointer):
    with pytest.raises(InvalidPolicy) as refused:
        Policy(**{"delays": (DAY,), "final": FinalAction.CANCEL, **fields})
    assert refused.value.pointer == pointer
    assert refused.value.fix


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"hour": 24}, "/preferred/hour"),
        ({"hour": -1}, "/preferred/hour"),
        ({"weekdays": (0,)}, "/preferred/weekdays"),
        ({"weekdays": (1,) * 8}, "/preferred/weekdays"),
        ({"month_days": (32,)}, "/preferred/month_days"),
        ({"weekdays": (1,), "month_days": (1,)}, "/preferred"),
    ],
)
def test_what_is_no_preference_is_refused(fields, pointer):
    with pytest.raises(InvalidPolicy) as refused:
        Preferred(**fields)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize("action", [FinalAction.CANCEL, FinalAction.PAUSE])
@pytest.mark.parametrize("name", ["overage", "one_off"])
def test_only_a_renewal_ends_the_subscription(name, action):
    with pytest.raises(InvalidPolicy) as refused:
        Rules(**{name: Policy((DAY,), action)})
    assert refused.value.pointer == f"/{name}/final_action"


def test_each_kind_of_invoice_has_its_rule():
    failed = [Failure(NOW, Decline.HARD)]
    rules = Rules()
    found = {
        owed: decide(rules, Standing("open", owed, "past_due"), failed, at=NOW) for owed in Owed
    }
    assert found == {
        Owed.RENEWAL: Final(FinalAction.CANCEL, NOW),
        Owed.OVERAGE: Final(FinalAction.UNCOLLECTIBLE, NOW),
        Owed.ONE_OFF: Final(FinalAction.NONE, NOW),
    }


def test_what_is_closed_or_ended_is_left_alone():
    failed, rules = [Failure(NOW, Decline.SOFT)], Rules()
    later = NOW + DAY
    assert decide(rules, Standing("void"), failed, at=later) == Nothing("void")
    assert decide(rules, Standing("uncollectible"), failed, at=later) == Nothing("given_up")
    ended = Standing(subscription="canceled")
    assert decide(rules, ended, failed, at=later) == Nothing("ended")
    assert decide(Rules(after_end=True), ended, failed, at=later) == Retry(NOW + DAY, 1)
    assert decide(rules, Standing(), [Success(NOW)], at=later) == Nothing("no_failure")
    strict = Rules(voided=FinalAction.CANCEL)
    assert decide(strict, Standing("void"), failed, at=later) == Final(FinalAction.CANCEL, later)


def test_an_invoice_has_a_state_of_its_machine():
    with pytest.raises(InvalidPolicy) as refused:
        Standing("draft")
    assert refused.value.pointer == "/invoice"


def test_the_subscription_follows():
    final = Final(FinalAction.CANCEL, NOW + DAY)
    assert subscription_after("active", Retry(NOW, 1), at=NOW) == "past_due"
    assert subscription_after("active", final, at=NOW) == "past_due"
    assert subscription_after("active", final, at=NOW + DAY) == "canceled"
    assert subscription_after("canceled", final, at=NOW + DAY) == "canceled"
    assert subscription_after("active", Nothing("paid"), at=NOW) == "active"
    for action, state in (("uncollectible", "active"), ("none", "past_due"), ("pause", "past_due")):
        given_up = Final(FinalAction(action), NOW)
        assert subscription_after("past_due", given_up, at=NOW) == state


def test_successes_use_up_no_delay():
    attempts = [Failure(NOW, Decline.SOFT), Success(NOW), Failure(NOW + DAY, Decline.SOFT)]
    assert decide(Rules(DEFAULT), Standing(), attempts, at=NOW + DAY) == Retry(NOW + 4 * DAY, 2)
