"""Release: what was delivered since the last release moves from deferred revenue to revenue.

Set-based: a policy's lines are summed where they lie and posted as one or two transfers for each
local day and currency, whatever their number; the only row that a release writes otherwise is the
policy, which says through which day it is done. That row is locked from the start, so no day is
released twice, and what a crash undoes is done again. A day's transfers are the same whether it
is released when it ends or long after; they are dated into the day (its last microsecond).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from subledger.core import ledger as books
from subledger.core.recognition import Mode
from subledger.platform.db import Tx
from subledger.services.billing import ledger
from subledger.services.billing.store import recognition
from subledger.services.billing.store.recognition import MOST_COUNTED, PolicyKey, Span
from subledger.services.billing.usecases.recognize import MOMENT, RECOGNIZED, Policy

MOST_DAYS = 7
"""Days of a policy that one transaction releases; the rest is left to the next."""


async def release(tx: Tx, keys: Sequence[PolicyKey]) -> int:
    """Release the policies that are due (their tenants are visible), as far as their tenants'
    clocks have come, at most 7 days and 10,000 new lines each; how many got on.

    Takes no account's lock: lines may be billed meanwhile and are counted the next time. Policies
    that are locked are left out.
    """
    rows = await recognition.claim_policies(tx, keys)
    if not rows:
        return 0
    clocks = await tx.clocks({row.tenant_id for row in rows})
    policies = {(row.tenant_id, row.version): Policy.of(row) for row in rows}
    postings, counted = await _count(tx, rows, policies, clocks)
    spans: list[tuple[Span, datetime]] = []
    for row in rows:
        key = (row.tenant_id, row.version)
        # Lines that are still to be counted are counted before time goes on.
        if counted.get(key, 0) < MOST_COUNTED:
            spans += _days(policies[key], row.through_at, clocks[row.tenant_id])
    for each in await recognition.sums(tx, [span for span, _ in spans]) if spans else []:
        span, ends_at = spans[each.n - 1]
        postings.append(_posting(policies[span.policy], each, ends_at - MOMENT))
    await ledger.post(tx, postings)
    reached = {span.policy: ends_at for span, ends_at in spans}
    await recognition.advance_policies(
        tx, [policies[key].columns(ends_at) for key, ends_at in reached.items()]
    )
    return len(reached.keys() | counted.keys())


async def _count(
    tx: Tx,
    rows: Sequence[Row[Any]],
    policies: dict[PolicyKey, Policy],
    clocks: Any,
) -> tuple[list[ledger.Posting], dict[PolicyKey, int]]:
    """Count new lines. What they release for days that are closed belongs to the day after those,
    or to now if that day is not over."""
    found = await recognition.count_new(
        tx,
        rows,
        alsos=[row.through_unit + (row.mode == Mode.DAY) for row in rows],
    )
    starts = {(row.tenant_id, row.version): row.through_at for row in rows}
    postings, counted = [], dict[PolicyKey, int]()
    for each in found:
        key = (each.tenant_id, each.policy)
        day_ends_at = policies[key].day_end(starts[key])
        at = min(clocks[each.tenant_id], day_ends_at - MOMENT)
        postings.append(_posting(policies[key], each, at))
        counted[key] = counted.get(key, 0) + each.lines
    return postings, counted


def _days(policy: Policy, from_at: datetime, now: datetime) -> list[tuple[Span, datetime]]:
    """The local days, at most 7, that are over since ``from_at``; by second also the part of
    the present day."""
    found: list[tuple[Span, datetime]] = []
    after, start_at = policy.through_unit, from_at
    while len(found) < MOST_DAYS:
        ends_at = policy.day_end(start_at)
        if policy.mode is Mode.SECOND:
            ends_at = min(ends_at, now)
        until = policy.unit(ends_at)
        if ends_at > now or until <= after:
            break
        found.append((Span((policy.tenant_id, policy.version), after, until), ends_at))
        after, start_at = until, ends_at
    return found


def _posting(policy: Policy, sums: Row[Any], at: datetime) -> ledger.Posting:
    """Charges and credits are posted apart, so that the accounts' sums do not depend on how many
    days one release takes."""
    return ledger.Posting(
        tenant_id=policy.tenant_id,
        account_id=None,
        invoice_id=None,
        kind=RECOGNIZED,
        occurred_at=at,
        transfers=(
            *books.recognized(amount_minor=sums.earned_minor, currency=sums.currency),
            *books.recognized(amount_minor=-sums.returned_minor, currency=sums.currency),
        ),
    )
