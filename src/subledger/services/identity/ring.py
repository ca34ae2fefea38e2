"""Who is calling: the key's hash leads to its tenant (``contracts.keys.KeyRing``)."""

from __future__ import annotations

import hmac

from subledger.contracts.keys import Principal
from subledger.platform import ids
from subledger.platform.db import Database, story
from subledger.services.identity import credentials, store

_ASK = story("identity.find_key", reads=True)


class Keys:
    """Identity's answer. Keeps nothing: a revoked key is unknown from its revocation's commit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def principal(self, credential: str) -> Principal | None:
        """Who presents this API key; None if it is unknown, revoked, or its tenant is deleted."""
        mode = credentials.mode_of(credential)
        if mode is None:
            return None
        digest = credentials.digest_of(credential)
        async with self._database.transaction(_ASK) as tx:
            found = await store.find_keys(tx, [digest])
        for row in found:
            # The index compared the hash already; this comparison takes the same time for all.
            if hmac.compare_digest(bytes(row.key_hash), digest) and row.mode == mode:
                return Principal(
                    tenant_id=row.tenant_id, id=ids.text("key", row.id), role=row.role, mode=mode
                )
        return None
