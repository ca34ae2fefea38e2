"""A tenant's dunning policies: made, changed, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.scheduler import problems
from subledger.services.scheduler.policies import DEFAULT_NAME, Kept, Named, Terms
from subledger.services.scheduler.store import policies

MOST_POLICIES = 100


async def put_default(tx: Tx, tenant_id: UUID, terms: Terms) -> None:
    """The policy for whatever no other one fits."""
    await policies.put(
        tx,
        tenant_id,
        policy_id=None,
        name=DEFAULT_NAME,
        named=None,
        terms=terms,
        at=await tx.now(tenant_id),
    )


async def put_policy(
    tx: Tx,
    tenant_id: UUID,
    policy_id: UUID,
    *,
    name: str,
    named: Named,
    terms: Terms,
    is_new: bool,
) -> None:
    """A new policy of this id, or the next version of it; the collections that run go on by the
    version with which they began. Raises Problem: not_found, dunning_policy_name_taken,
    too_many_dunning_policies."""
    await policies.lock(tx, tenant_id)
    others = (await policies.shelves(tx, [tenant_id]))[tenant_id].others
    if not is_new:
        _one(others, policy_id)
    elif len(others) >= MOST_POLICIES:
        raise Problem(problems.TOO_MANY, detail=f"There are {len(others)} already.")
    taken = {each.name for each in others if each.id != policy_id} | {DEFAULT_NAME}
    if name in taken:
        raise Problem(
            problems.NAME_TAKEN, pointer="/name", detail=f"There is a policy {name!r} already."
        )
    await policies.put(
        tx,
        tenant_id,
        policy_id=policy_id,
        name=name,
        named=named,
        terms=terms,
        at=await tx.now(tenant_id),
    )


async def get_policy(tx: Tx, tenant_id: UUID, policy_id: UUID) -> Kept:
    """A policy in its newest version. Raises not_found."""
    return _one((await policies.shelves(tx, [tenant_id]))[tenant_id].others, policy_id)


async def delete_policy(tx: Tx, tenant_id: UUID, policy_id: UUID) -> None:
    """New failures are dunned by another one; what runs goes on. Raises not_found."""
    if not await policies.delete(tx, tenant_id, policy_id):
        raise _unknown()


def _one(others: Sequence[Kept], policy_id: UUID) -> Kept:
    found = next((each for each in others if each.id == policy_id), None)
    if found is None:
        raise _unknown()
    return found


def _unknown() -> Problem:
    return Problem("not_found", detail="There is no such dunning policy.")
