"""Drafts become invoices, and invoices on terms are collected, when their moment comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event, Recorded
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.billing import problems
from subledger.services.billing.store import invoices, recognition, subscriptions
from subledger.services.billing.store.subscriptions import Key
from subledger.services.billing.terms import TermsMemory
from subledger.services.billing.usecases import drafts, issue, recognize_pauses
from subledger.services.billing.usecases.issue import Issue


async def finalize_due(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Issue the drafts whose grace is over. What is too small goes on waiting for more; what is
    no draft any more is passed over."""
    wanted = {(each.tenant_id, ids.parse("inv", each.data["invoice_id"])): each for each in given}
    await _finalize(tx, wanted, forced=False)


async def finalize_now(tx: Tx, *, tenant_id: UUID, invoice_id: UUID, cause: UUID | None) -> None:
    """Issue a draft at once, however small. Raises not_found and invoice_not_draft."""
    key = (tenant_id, invoice_id)
    found = (await invoices.invoices(tx, [key])).get(key)
    if found is None:
        raise Problem("not_found", detail="There is no such invoice.")
    await subscriptions.lock_accounts(tx, [(tenant_id, found.account_id)])
    if (await invoices.lock_invoices(tx, [key]))[key].status != "draft":
        raise Problem(
            problems.INVOICE_NOT_DRAFT, detail=f"The invoice is {found.status}, not a draft."
        )
    await _finalize(tx, {key: cause}, forced=True)


async def _finalize(tx: Tx, wanted: Mapping[Key, Recorded | UUID | None], *, forced: bool) -> None:
    subscribed = await invoices.subscriptions_of(tx, wanted)
    rows = await subscriptions.lock_subscriptions(
        tx, {(tenant, each) for (tenant, _), found in subscribed.items() for each in found}
    )
    by_id = {(row.tenant_id, row.id): row for row in rows}
    locked = await invoices.lock_invoices(tx, wanted)
    ready = {key: row for key, row in locked.items() if row.status == "draft"}
    if not ready:
        return
    owners = [(row.tenant_id, row.account_id) for row in ready.values()]
    policies = await drafts.policies(tx, owners)
    moments = await subscriptions.moments(tx, policies.accounts, policies.accounts)
    issues, carried = [], []
    for key, row in ready.items():
        at = moments[row.tenant_id, row.account_id]
        billed = [by_id[key[0], each] for each in subscribed.get(key, [])]
        values = row._asdict()
        until = None if forced else drafts.carried_until(values, policies, billed, at)
        if until is not None:
            carried.append((values, until))
            continue
        told = wanted[key]
        cause = told.id if isinstance(told, Recorded) else told
        issues.append(_issue(values, billed, policies, at, cause))
    await issue.prepare(tx, issues)
    await invoices.issue_drafts(tx, [each.invoice for each in issues])
    billed_lines = await recognition.lines(
        tx, [(each.invoice["tenant_id"], each.invoice["id"]) for each in issues]
    )
    await issue.announce(tx, issues, billed_lines)
    for each in issues:
        owner = each.invoice["tenant_id"]
        served = [by_id[owner, one] for one in each.subscription_ids]
        await recognize_pauses.billed_meanwhile(tx, served, at=each.at)
    tx.emit(issue.paid_at_once(each) for each in issues if each.free)
    await issue.put_due(tx, invoices.FINALIZATION, carried)
    await subscriptions.due.drop(
        tx, [(each.invoice["tenant_id"], invoices.FINALIZATION, each.invoice["id"])
             for each in issues],
    )  # fmt: skip


def _issue(
    row: dict[str, Any],
    billed: Sequence[Row[Any]],
    policies: drafts.Policies,
    at: datetime,
    cause: UUID | None,
) -> Issue:
    key = (row["tenant_id"], row["account_id"])
    return Issue(
        row,
        [each.id for each in billed],
        at,
        cause,
        method_id=next((each.payment_method_id for each in billed if each.payment_method_id), None),
        return_url=next((each.return_url for each in billed if each.return_url), None),
        net_days=policies.net_days(key),
        skips_zero=policies.skips_zero(key[0]),
    )


async def collect_due(tx: Tx, memory: TermsMemory, given: Sequence[Recorded]) -> None:
    """Invoices on terms fall due: what is still open and in nobody's hands is reserved for
    automatic collection and told to payments."""
    wanted = {(each.tenant_id, ids.parse("inv", each.data["invoice_id"])): each for each in given}
    subscribed = await invoices.subscriptions_of(tx, wanted)
    keys = {(tenant, each) for (tenant, _), found in subscribed.items() for each in found}
    by_id = {
        (row.tenant_id, row.id): row for row in await subscriptions.lock_subscriptions(tx, keys)
    }
    locked = await invoices.lock_invoices(tx, wanted)
    held = await invoices.reservations(tx, wanted)
    owners = [(row.tenant_id, row.account_id) for row in locked.values()]
    policies = await drafts.policies(tx, owners)
    moments = await subscriptions.moments(tx, policies.accounts, policies.accounts)
    reserved, told = [], []
    for key, row in locked.items():
        busy = any(each.state != "released" for each in held.get(key, ()))
        billed = [by_id[key[0], each] for each in subscribed.get(key, [])]
        if row.status == "open" and not busy:
            at = moments[row.tenant_id, row.account_id]
            found = _issue(row._asdict(), billed, policies, at, wanted[key].id)
            found.attempt_id = tx.ids.new()
            reserved.append(issue.reservation(found))
            told.append(_fell_due(found))
    await invoices.insert_reservations(tx, reserved)
    tx.emit(told)
    await subscriptions.due.drop(tx, [(*key[:1], invoices.DUE, key[1]) for key in wanted])


def _fell_due(found: Issue) -> Event:
    return issue.event(
        found, events.INVOICE_DUE, {"collection": issue.collection(found) | {"dunning": True}}
    )
