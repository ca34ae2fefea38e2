"""Every reachable state of the small worlds is right; without a guard one is found wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from datetime import datetime

import pytest

from subledger.core import reservations
from subledger.core.reservations import Claim
from subledger.services.payments import protocol, refunding, wishes
from subledger.services.payments.protocol import (
    Absent,
    ActionNeeded,
    Closed,
    Decision,
    Finding,
    Lost,
    Refused,
    Standing,
)
from tests.model import capturing, collecting, refunds
from tests.model.capturing import Capturing
from tests.model.collecting import Collecting
from tests.model.refunds import Refunds
from tests.model.search import Broken, explore


@pytest.mark.parametrize(
    ("kinds", "faults", "states"),
    [
        (("charge",), 3, 20_000),
        (("page",), 1, 15_000),
        (("charge", "charge"), 1, 25_000),
        (("page", "charge"), 0, 7_500),
        (("charge", "page"), 0, 11_000),
        pytest.param(("page",), 2, 115_000, marks=pytest.mark.long),
    ],
)
def test_whatever_happens_an_invoice_is_collected_once_and_nothing_is_lost(
    kinds: tuple[str, ...], faults: int, states: int
) -> None:
    found = explore(Collecting(kinds, faults))
    assert found.states >= states, found


@pytest.mark.parametrize(
    ("faults", "states"), [(2, 19_000), pytest.param(3, 80_000, marks=pytest.mark.long)]
)
def test_whatever_happens_a_refund_is_made_once_and_known(faults: int, states: int) -> None:
    found = explore(Refunds(faults))
    assert found.states >= states, found


@pytest.mark.parametrize(
    ("faults", "states"), [(1, 2_000), pytest.param(2, 25_000, marks=pytest.mark.long)]
)
def test_whatever_happens_an_authorization_is_captured_once_or_let_go(
    faults: int, states: int
) -> None:
    found = explore(Capturing(faults))
    assert found.states >= states, found


# --- the same with a guard taken away -----------------------------------------------------------


def _at_once(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """What the provider does not know yet never happened."""
    if isinstance(finding, Absent) and now.lost_at is not None:
        now = replace(now, lost_at=at - protocol.HORIZON, asked_at=None)
    return protocol.decide(now, finding, at)


def _when_applied(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """An answer is as new as the moment at which it is applied."""
    return protocol.decide(replace(now, asked_at=None), finding, at)


def _lost_is_failed(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """A call without an answer failed."""
    if isinstance(finding, Lost) and now.state == "in_flight" and now.kind == "charge":
        finding = Refused("soft", "lost")
    return protocol.decide(now, finding, at)


def _page_not_closed(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """A page that was to be closed counts as closed, whatever the provider says."""
    if now.action == "expire" and isinstance(finding, Lost | ActionNeeded):
        finding = Closed()
    return protocol.decide(now, finding, at)


def _tries_end_pages(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """A refused try ends a page."""
    if isinstance(finding, Refused) and now.kind == "page":
        now = replace(now, kind="charge")
    return protocol.decide(now, finding, at)


def _anybody(status: str | None, claims: Iterable[Claim], attempt: Hashable) -> str | None:
    """An invoice that another attempt holds may be collected."""
    return reservations.refusal(
        status, [each for each in claims if each.attempt == attempt], attempt
    )


RULES = collecting.Rules()


@pytest.mark.parametrize(
    ("kinds", "faults", "rules"),
    [
        pytest.param(("charge",), 2, replace(RULES, decide=_at_once), id="horizon"),
        pytest.param(("charge",), 2, replace(RULES, decide=_when_applied), id="stale answer"),
        pytest.param(("charge", "charge"), 1, replace(RULES, decide=_lost_is_failed), id="unknown"),
        pytest.param(("page", "charge"), 1, replace(RULES, decide=_page_not_closed), id="page"),
        pytest.param(("page",), 1, replace(RULES, decide=_tries_end_pages), id="a page's try"),
        pytest.param(("charge", "charge"), 0, replace(RULES, refusal=_anybody), id="reservation"),
        pytest.param(("charge",), 1, replace(RULES, is_held=lambda _: False), id="void"),
        pytest.param(("page",), 2, replace(RULES, by_claim=False), id="claim"),
        pytest.param(("charge",), 2, replace(RULES, one_per_key=False, by_claim=False), id="key"),
        pytest.param(("charge",), 3, replace(RULES, fenced=False), id="lease"),
        pytest.param(("charge",), 1, replace(RULES, receipts=False), id="receipt"),
        pytest.param(("charge",), 0, replace(RULES, releases=frozenset()), id="release"),
    ],
)
def test_without_a_guard_the_search_finds_the_way_to_the_harm(
    kinds: tuple[str, ...], faults: int, rules: collecting.Rules
) -> None:
    with pytest.raises(Broken):
        explore(Collecting(kinds, faults, rules))


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(refunds.Rules(live=frozenset({"succeeded"})), id="limit"),
        pytest.param(refunds.Rules(live=refunding.LIVE - {"unknown"}), id="unknown counts"),
        pytest.param(refunds.Rules(decide=lambda now, what, at: None), id="nothing decided"),
    ],
)
def test_without_a_guard_a_refund_is_made_twice_or_lost(rules: refunds.Rules) -> None:
    with pytest.raises(Broken):
        explore(Refunds(3, rules))


def _capture_lost_is_failed(now: Standing, finding: Finding, at: datetime) -> Decision | None:
    """A capture without an answer was not made."""
    if isinstance(finding, Lost) and now.action == "capture":
        finding = Closed()
    return protocol.decide(now, finding, at)


def _dropped(state: str, wish: str | None, tries: int, finding: Finding) -> wishes.Left:
    """Whatever was found, nothing is wanted any more, and no moment comes."""
    return wishes.Left(None)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(capturing.Rules(decide=_capture_lost_is_failed), id="unknown"),
        pytest.param(capturing.Rules(left=_dropped, comes_again=False), id="let go again"),
        pytest.param(capturing.Rules(once=False), id="key"),
    ],
)
def test_without_a_guard_an_authorization_is_captured_twice_or_kept(
    rules: capturing.Rules,
) -> None:
    with pytest.raises(Broken):
        explore(Capturing(2, rules))
