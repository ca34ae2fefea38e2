"""Payments' public REST API."""

from __future__ import annotations

from fastapi import APIRouter

from subledger.platform.db import Database
from subledger.platform.http.idempotency import Keys
from subledger.services.payments.flows.connect import Connecting
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.http import methods, payments


def routers(database: Database, *, waiting: Waiting, connecting: Connecting) -> list[APIRouter]:
    """All routes of the service."""
    keys = Keys("payments")
    return [
        methods.router(database, keys, waiting=waiting, connecting=connecting),
        payments.router(database, keys, waiting=waiting),
    ]
