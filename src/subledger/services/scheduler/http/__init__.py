"""The scheduler's public REST API."""

from __future__ import annotations

from fastapi import APIRouter

from subledger.contracts.catalogues import Catalogues
from subledger.contracts.checkouts import Checkouts
from subledger.platform.db import Database
from subledger.platform.http.idempotency import Keys
from subledger.services.scheduler.http import dunning, policies


def routers(database: Database, *, catalogues: Catalogues, checkouts: Checkouts) -> list[APIRouter]:
    """All routes of the service."""
    keys = Keys("scheduler")
    return [
        policies.default_router(database, catalogues),
        policies.router(database, keys, catalogues),
        dunning.router(database, checkouts),
    ]
