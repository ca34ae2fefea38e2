"""When a provider has to be asked again: it is due, a webhook hints at it, or a caller vanished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from subledger.contracts.events import Recorded
from subledger.core.states import DUE_RANK
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.due import Due
from subledger.services.payments.protocol import RECONCILE, Lost
from subledger.services.payments.store import (
    disputes,
    intents,
    looks,
    method_tasks,
    payments,
    reconciliations,
    refunds,
)
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases import answers, begin_runs, capture, setups
from subledger.services.payments.usecases.settle import Result, settle

MOST_HINT_LOOKS = 4
"""A hint at something unknown is looked at again after minutes, an hour and days, then let go."""
OF_PAYOUT = "payout."
"""The kinds of hints that speak of payouts begin so: the provider's list says the rest."""
_WAITING_STATES = frozenset({"unknown", "requires_action"})

_log = structlog.get_logger()


async def ask_due(tx: Tx, limit: int) -> int:
    """Turn due moments into intents to ask, which an executor works off; tells how many.

    The due row goes in the same transaction: the intent is as durable as the row was.
    """
    rows = await intents.due.claim(tx, limit)
    if not rows:
        return 0
    hints = [row for row in rows if row.kind == intents.HINT]
    lost = [row for row in rows if row.kind == refunds.RECONCILE]
    disputed = [row for row in rows if row.kind == disputes.DUE]
    saving = [row for row in rows if row.kind == intents.SETUP]
    days = [row for row in rows if row.kind == reconciliations.DUE]
    let_go = [row for row in rows if row.kind == intents.AUTHORIZATION]
    others = {
        intents.AUTHORIZATION,
        intents.HINT,
        refunds.RECONCILE,
        disputes.DUE,
        intents.SETUP,
        reconciliations.DUE,
    }
    asked = [row for row in rows if row.kind not in others]
    attempts = await payments.attempts_of(tx, ((row.tenant_id, row.id) for row in asked))
    wanted: dict[Key, str] = {}
    for row in asked:
        for attempt in attempts.get((row.tenant_id, row.id), []):
            if attempt.state not in _WAITING_STATES:
                continue
            expires = row.kind == intents.PAGE_EXPIRY
            key = (row.tenant_id, attempt.id)
            if wanted.get(key) != "expire":
                wanted[key] = "expire" if expires else "reconcile"
    await intents.due.drop(tx, [(row.tenant_id, row.kind, row.id) for row in rows])
    await intents.ask(tx, wanted)
    known = await refunds.refunds(tx, ((row.tenant_id, row.id) for row in lost))
    await looks.REFUNDS.ask(tx, ((row.tenant_id, row.attempt_id) for row in known.values()))
    tries = {(row.tenant_id, row.id): row.number for row in disputed}
    await looks.DISPUTES.ask(tx, tries, tries)
    await setups.look_again(tx, saving)
    if let_go:
        await capture.reach_deadlines(tx, let_go)
    if hints:
        await _look_at_hints(tx, hints)
    if days:
        await begin_runs.reach_days(tx, days)
    return len(rows)


async def _look_at_hints(tx: Tx, rows: Sequence[Due]) -> None:
    locked = await intents.lock_hints(tx, ((row.tenant_id, row.id) for row in rows))
    found = await _attempts_behind(
        tx, {key: (hint.attempt_id, hint.provider_ref) for key, hint in locked.items()}
    )
    await _ask_about(tx, found, {key: locked[key].kind for key in found})
    await answers.note_webhooks(tx, found, {key: locked[key].kind for key in found})
    found |= await _methods_behind(
        tx, {key: (hint.kind, hint.provider_ref) for key, hint in locked.items()}
    )
    lost = [key for key in locked if key not in found and locked[key].tries >= MOST_HINT_LOOKS]
    for tenant, hint in lost:
        _log.warning("webhook.hint_dropped", tenant=str(tenant), hint_id=str(hint))
    await intents.drop_hints(tx, [*found, *lost])
    again = [key for key in locked if key not in found and key not in lost]
    if again:
        clocks = await tx.clocks({tenant for tenant, _ in again})
        await intents.tried_hints(tx, again)
        await intents.due.put(
            tx,
            [_hint_due(key, clocks[key[0]], locked[key].tries) for key in again],
        )


def _hint_due(key: Key, now: datetime, tries: int) -> Due:
    return Due(
        tenant_id=key[0],
        kind=intents.HINT,
        id=key[1],
        account_id=key[1],
        due_at=now + RECONCILE[tries],
        rank=DUE_RANK["reconcile"],
    )


async def _attempts_behind(
    tx: Tx, hints: Mapping[Key, tuple[UUID | None, str | None]]
) -> dict[Key, UUID]:
    """The attempt that each hint speaks of, where it is known."""
    by_id = await payments.known_attempts(
        tx, ((key[0], attempt) for key, (attempt, _) in hints.items() if attempt is not None)
    )
    by_ref = await payments.attempts_by_ref(
        tx, ((key[0], ref) for key, (_, ref) in hints.items() if ref is not None)
    )
    found = {}
    for key, (attempt, ref) in hints.items():
        if attempt is not None and (key[0], attempt) in by_id:
            found[key] = attempt
        elif ref is not None and (key[0], ref) in by_ref:
            found[key] = by_ref[key[0], ref]
    return found


async def _methods_behind(tx: Tx, hints: Mapping[Key, tuple[str, str | None]]) -> dict[Key, UUID]:
    """The saved method that each hint speaks of, where it is known: its provider is asked."""
    named = {
        key: (key[0], ref)
        for key, (kind, ref) in hints.items()
        if ref and kind.startswith(method_tasks.OF_METHOD)
    }
    known = await method_tasks.by_ref(tx, named.values())
    found = {key: known[ref] for key, ref in named.items() if ref in known}
    await method_tasks.ask(tx, ((key[0], method) for key, method in found.items()), "look")
    return found


async def _ask_about(tx: Tx, found: Mapping[Key, UUID], kinds: Mapping[Key, str]) -> None:
    """Intend to ask about attempts, their refunds or disputes, as each hint's kind says."""
    charges: dict[Key, str] = {}
    returned: set[Key] = set()
    disputed: set[Key] = set()
    for key, attempt in found.items():
        if kinds[key].startswith(intents.OF_REFUND):
            returned.add((key[0], attempt))
        elif kinds[key].startswith(intents.OF_DISPUTE):
            disputed.add((key[0], attempt))
        else:
            charges[key[0], attempt] = "fetch"
    await intents.ask(tx, charges)
    await looks.REFUNDS.ask(tx, returned)
    await looks.DISPUTES.ask(tx, disputed)


async def take_hints(tx: Tx, given: Sequence[Recorded]) -> None:
    """A provider's notification is a hint only: its attempts are asked about.

    What is not known here (it may be later) is kept under the notification's id and looked at
    again, a bounded number of times; ids that are none of ours are kept by the provider's
    reference, if there is one. Told again, it is kept once and looked at sooner.
    """
    read: dict[Key, tuple[Recorded, dict[str, Any], UUID | None]] = {}
    paid_out: set[Key] = set()
    for event in given:
        for hint in event.data["hints"]:
            if hint["kind"].startswith(OF_PAYOUT):
                connection = ids.parse("conn", event.data["connection_id"])
                paid_out.add((event.tenant_id, connection))
                continue
            attempt_id = _attempt_id(hint["attempt_id"])
            if attempt_id is not None or hint["provider_ref"] is not None:
                webhook_id = ids.parse("whr", event.data["webhook_id"])
                read[event.tenant_id, webhook_id] = (event, hint, attempt_id)
    found = await _attempts_behind(
        tx, {key: (attempt, hint["provider_ref"]) for key, (_, hint, attempt) in read.items()}
    )
    await _ask_about(tx, found, {key: read[key][1]["kind"] for key in found})
    await answers.note_webhooks(tx, found, {key: read[key][1]["kind"] for key in found})
    found |= await _methods_behind(
        tx, {key: (hint["kind"], hint["provider_ref"]) for key, (_, hint, _) in read.items()}
    )
    await begin_runs.hear_payouts(tx, paid_out)
    unknown = [key for key in read if key not in found]
    if not unknown:
        return
    clocks = await tx.clocks({tenant for tenant, _ in unknown})
    await intents.insert_hints(
        tx,
        [
            {
                "tenant_id": key[0],
                "id": key[1],
                "connection_id": ids.parse("conn", event.data["connection_id"]),
                "kind": hint["kind"],
                "attempt_id": attempt,
                "provider_ref": hint["provider_ref"],
                "tries": 1,
                "created_at": clocks[key[0]],
            }
            for key in unknown
            for event, hint, attempt in [read[key]]
        ],
    )
    await intents.due.put(tx, [_hint_due(key, clocks[key[0]], 0) for key in unknown])


def _attempt_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return ids.parse("att", text)
    except ids.InvalidId:
        return None


async def give_up_waiting(tx: Tx, keys: Sequence[Key], *, lease_s: float) -> int:
    """Attempts whose caller vanished: a charge is unknown and asked about at once, an unopened
    page is opened again. Tells how many."""
    locked = await payments.lock(tx, keys)
    vanished = {
        key: row
        for key, row in locked.items()
        if row.state == "in_flight" and row.wall_at - row.claimed_at >= timedelta(seconds=lease_s)
    }
    changed = await settle(tx, [Result(key, Lost("lease_expired")) for key in vanished])
    charges = {key: "fetch" for key, row in vanished.items() if row.kind == "charge"}
    await intents.ask(tx, charges)
    return changed


async def ask_for_payer(tx: Tx, attempt: Key) -> bool:
    """Intend to ask about an attempt whose payer looks, unless that was done within the last
    seconds (``intents.PAYERS_APART_S``); tells whether."""
    if not await intents.look_again(tx, attempt):
        return False
    await intents.ask(tx, {attempt: "fetch"})
    return True
