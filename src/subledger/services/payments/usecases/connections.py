"""Connections as a person makes, changes and closes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Row

from subledger.contracts import events
from subledger.contracts.events import Event
from subledger.platform import ids
from subledger.platform.db import Tx
from subledger.platform.http.problems import Problem
from subledger.services.payments import problems, sealing
from subledger.services.payments.store import connections as store
from subledger.services.payments.usecases import begin_runs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says of a connection; None leaves a field as it is."""

    name: str | None = None
    currencies: frozenset[str] | None = None
    default_for: frozenset[str] | None = None
    position: int | None = None
    credentials: Mapping[str, str] | None = None


async def create(
    tx: Tx,
    fernet: MultiFernet,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    provider: str,
    wanted: Wanted,
    daily: bool,
    cause: UUID,
) -> None:
    """Record the intent to connect; webhooks is told after the commit. ``daily``: its list is
    compared with ours every night.

    Raises too_many_connections, and invalid_request for a default that the connection does not
    take.
    """
    others = await store.lock_open(tx, tenant_id)
    if len(others) >= store.MOST_OPEN:
        raise Problem(
            problems.TOO_MANY_CONNECTIONS,
            detail=f"The tenant has {store.MOST_OPEN} connections that are not closed.",
        )
    currencies = wanted.currencies or frozenset()
    default_for = wanted.default_for or frozenset()
    _check_defaults(currencies, default_for)
    credentials = wanted.credentials or {}
    sealed, secret = sealing.seal(fernet, credentials)
    await store.insert(
        tx,
        {
            "tenant_id": tenant_id,
            "id": connection_id,
            "provider": provider,
            "name": wanted.name,
            "opens_itself": False,
            "currencies": currencies,
            "position": wanted.position or 0,
            "shown": sealing.shown(credentials),
            "credentials_encrypted": sealed,
            "secret_encrypted": secret,
            "created_at": await tx.now(tenant_id),
        },
    )
    await store.set_defaults(tx, (tenant_id, connection_id), default_for)
    await begin_runs.set_daily(tx, (tenant_id, connection_id), daily=daily)
    await _tell(tx, events.CONNECTION_OPENED, (tenant_id, connection_id), cause=cause)


async def change(
    tx: Tx,
    fernet: MultiFernet,
    *,
    tenant_id: UUID,
    connection_id: UUID,
    wanted: Wanted,
    cause: UUID,
) -> None:
    """Change what is named. New credentials are a new revision, of which webhooks is told after
    the commit; the old ones are forgotten at once.

    Raises not_found, connection_closed, credentials_sealed, and connection_opens_itself for
    credentials of the one that does.
    """
    key = (tenant_id, connection_id)
    row = await _locked(tx, key)
    currencies = frozenset(row.currencies) if wanted.currencies is None else wanted.currencies
    default_for = frozenset(row.default_for) if wanted.default_for is None else wanted.default_for
    _check_defaults(currencies, default_for)
    await store.change(
        tx,
        key,
        name=row.name if wanted.name is None else wanted.name,
        currencies=currencies,
        position=row.position if wanted.position is None else wanted.position,
    )
    await store.set_defaults(tx, key, default_for)
    if wanted.credentials is not None:
        _refuse_of_itself(row)
        known = _credentials(fernet, row)
        credentials = {k: v for k, v in {**known, **wanted.credentials}.items() if v}
        sealed, secret = sealing.seal(fernet, credentials)
        await store.set_credentials(
            tx,
            key,
            credentials_encrypted=sealed,
            secret_encrypted=secret,
            shown=sealing.shown(credentials),
        )
    await _tell(tx, events.CONNECTION_CHANGED, key, cause=cause)


async def replace_address(
    tx: Tx, fernet: MultiFernet, *, tenant_id: UUID, connection_id: UUID, cause: UUID
) -> None:
    """The webhook address gets another unguessable part; the old one ends when webhooks is told.

    Raises not_found, connection_closed, credentials_sealed.
    """
    key = (tenant_id, connection_id)
    _credentials(fernet, await _locked(tx, key))  # webhooks is told of them too
    await store.set_address(tx, key)
    await _tell(tx, events.CONNECTION_CHANGED, key, cause=cause)


async def close(tx: Tx, *, tenant_id: UUID, connection_id: UUID, cause: UUID) -> None:
    """Nothing new goes through the connection. What is under way there is still asked about and
    its webhooks are still taken, so that no money is lost sight of; so its credentials stay.

    Closing twice is closing once. Raises not_found and connection_opens_itself.
    """
    key = (tenant_id, connection_id)
    await store.lock_open(tx, tenant_id)
    row = await one(tx, key)
    _refuse_of_itself(row)
    if await store.close(tx, key, at=await tx.now(tenant_id)):
        await store.set_defaults(tx, key, ())
        await _tell(tx, events.CONNECTION_CLOSED, key, cause=cause)


async def one(tx: Tx, key: tuple[UUID, UUID]) -> Row[Any]:
    """The connection as it is. Raises not_found."""
    row = (await store.connections(tx, [key])).get(key)
    if row is None:
        raise Problem("not_found", detail="There is no such connection.")
    return row


async def _locked(tx: Tx, key: tuple[UUID, UUID]) -> Row[Any]:
    await store.lock_open(tx, key[0])
    row = await one(tx, key)
    if row.status == "closed":
        raise Problem(problems.CONNECTION_CLOSED, detail="The connection was closed.")
    return row


def _credentials(fernet: MultiFernet, row: Row[Any]) -> Mapping[str, str]:
    """What new credentials are laid over. Raises credentials_sealed."""
    try:
        return sealing.opened(fernet, row).credentials
    except InvalidToken:
        raise Problem(
            problems.CREDENTIALS_SEALED, detail="No key opens the connection's credentials."
        ) from None


def _refuse_of_itself(row: Row[Any]) -> None:
    if row.opens_itself:
        raise Problem(
            problems.CONNECTION_OPENS_ITSELF,
            detail="The sandbox's own connection keeps its credentials and stays open.",
        )


def _check_defaults(currencies: frozenset[str], default_for: frozenset[str]) -> None:
    beyond = sorted(default_for - currencies) if currencies else []
    if beyond:
        raise Problem(
            "invalid_request",
            detail=f"The connection does not take {', '.join(beyond)}.",
            pointer="/default_for",
            fix="Add the currency to currencies, or leave it out of default_for.",
        )


async def _tell(tx: Tx, kind: str, key: tuple[UUID, UUID], *, cause: UUID) -> None:
    row = await one(tx, key)
    tx.emit(
        [
            Event(
                type=kind,
                tenant_id=key[0],
                subject=key[0],
                data={
                    "connection_id": ids.text("conn", row.id),
                    "provider": row.provider,
                    "currencies": list(row.currencies),
                    "default_for": list(row.default_for),
                    "position": row.position,
                    "revision": row.revision,
                },
                occurred_at=await tx.now(key[0]),
                cause=cause,
            )
        ]
    )
