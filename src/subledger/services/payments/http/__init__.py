"""Payments' public REST API."""

from __future__ import annotations

from cryptography.fernet import MultiFernet
from fastapi import APIRouter

from subledger.platform.db import Database
from subledger.platform.http.idempotency import Keys
from subledger.services.payments.flows.connect import Connecting
from subledger.services.payments.flows.link import Linking
from subledger.services.payments.flows.pay import Waiting
from subledger.services.payments.flows.refund import Refunding
from subledger.services.payments.http import (
    captures,
    connections,
    disputes,
    history,
    links,
    methods,
    offline,
    order,
    payments,
    reconciliations,
    refunds,
    settings,
    setups,
    top_ups,
)
from subledger.services.payments.http.public import Public


def routers(
    database: Database,
    *,
    waiting: Waiting,
    connecting: Connecting,
    refunding: Refunding,
    shown: connections.Shown,
    fernet: MultiFernet,
    public: Public,
    linking: Linking,
) -> list[APIRouter]:
    """All routes of the service."""
    keys = Keys("payments")
    return [
        connections.router(keys, shown),
        methods.router(database, keys, waiting=waiting, connecting=connecting, fernet=fernet),
        payments.router(database, keys, waiting=waiting, public=public),
        captures.router(database, keys, waiting=waiting, addresses=public.addresses),
        top_ups.router(database, keys, waiting=waiting, public=public),
        refunds.router(database, keys, waiting=waiting, refunding=refunding),
        disputes.router(database, waiting=waiting),
        order.router(database, waiting=waiting),
        setups.router(database, keys, waiting=waiting, connecting=connecting, public=public),
        reconciliations.router(database, keys),
        settings.router(database),
        history.router(database, public.addresses),
        offline.router(database, keys, waiting=waiting, addresses=public.addresses),
        links.router(database, keys, linking=linking, public=public),
    ]
