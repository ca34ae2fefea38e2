"""Disputes in the provider's list: asked about where it says otherwise than we do.

The list says what moved, not which dispute it was nor what became of it: all disputes of the
attempt are asked for, as after a webhook, and what that finds is written down and told there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import Row

from subledger.platform.db import Tx
from subledger.services.payments.store import listed_disputes as store
from subledger.services.payments.store import looks, reconciliations
from subledger.services.payments.store.payments import Key

_AT_ONCE: Final = 500

_log = structlog.get_logger()


async def ask(tx: Tx, connection: Key, rows: Sequence[Mapping[str, Any]]) -> int:
    """Ask about the attempts of these entries (kept before) whose disputes differ; tells how many.
    A dispute of a capture that names none of our attempts is logged: the capture is a
    difference of its own."""
    tenant = connection[0]
    named = {row["attempt_id"] for row in rows if row["attempt_id"] is not None}
    ours = await reconciliations.ours(tx, connection, attempts=named, refs=[])
    known = {row.attempt_id for row in ours}
    for row in rows:
        if row["attempt_id"] not in known:
            _log.error(
                "payments.dispute_unmatched",
                tenant=str(tenant),
                connection_id=str(connection[1]),
                provider_ref=row["provider_ref"],
            )
    differing = await store.apart(tx, tenant, known) if known else set()
    await looks.DISPUTES.ask(tx, [(tenant, each) for each in differing])
    return len(differing)


async def tell_unlisted(tx: Tx, run: Row[Any], *, until: datetime) -> None:
    """Log disputes found in the run's time that the provider's list does not have. They stand as
    the provider told them itself, when it was asked about the attempt."""
    connection = (run.tenant_id, run.connection_id)
    for row in await store.unlisted(
        tx, connection, since=run.since_at, until=until, limit=_AT_ONCE
    ):
        _log.warning(
            "payments.dispute_not_listed",
            tenant=str(run.tenant_id),
            payment_id=str(row.payment_id),
            dispute_id=str(row.id),
        )
