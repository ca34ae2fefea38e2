"""Connections: opened with webhooks' help, and chosen for what is new.

The intent (a connection that is ``opening``) is committed first; then the webhook endpoint is
asked for, and for a sandbox tenant's own connection the account, which is the same when repeated;
then the connection is active. Whoever finds it half-way goes on from there. A sandbox tenant's own
connection opens at its first use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Row

from subledger.contracts.calls import Call
from subledger.contracts.endpoints import EndpointRequest, Endpoints
from subledger.platform import crashpoints
from subledger.platform.db import Database, Tx, assert_no_transaction, story
from subledger.services.payments import choice, sealing
from subledger.services.payments.provider import Accounts, Providers
from subledger.services.payments.store import connections
from subledger.services.payments.store.payments import Key
from subledger.services.payments.usecases.reseal import reseal_connections, reseal_mandates

_OPEN = story("payments.open_connection")
_READ = story("payments.read_connections", reads=True)
_ASSIGN = story("payments.assign_connection")
_ACTIVATE = story("payments.activate_connection")
_RESEAL = story("payments.reseal_connections")
_AFTER_CALL = crashpoints.point("payments.connect.after_call")

PROVIDER = "sandbox"
MOST_REVISIONS = 10
"""How often a connection that is changed all the time is told to webhooks by one caller."""


class NoConnection(Exception):
    """The tenant is live and has connected no provider."""


class CurrencyNotTaken(Exception):
    """None of the tenant's connections takes the currency."""


class Connecting:
    """Opens connections, and answers which one a tenant's new methods and pages belong to."""

    def __init__(
        self,
        *,
        database: Database,
        endpoints: Endpoints,
        accounts: Accounts,
        providers: Providers,
        fernet: MultiFernet,
    ) -> None:
        self._database = database
        self._endpoints = endpoints
        self._accounts = accounts
        self._providers = providers
        self._fernet = fernet

    async def default(self, tenant_id: UUID) -> UUID:
        """The sandbox tenant's own connection, opened if there is none yet.

        Raises NoConnection for a live tenant: test money must not look like money.
        """

        async def intend(tx: Tx) -> Row[Any]:
            found = await connections.of_itself(tx, tenant_id)
            if found is not None:
                return found
            if await connections.mode_of(tx, tenant_id) != "sandbox":
                raise NoConnection
            api_key, secret = self._accounts.credentials(tenant_id)
            credentials = {"api_key": api_key, "webhook_secret": secret}
            sealed, sealed_secret = sealing.seal(self._fernet, credentials)
            await connections.insert(
                tx,
                {
                    "tenant_id": tenant_id,
                    "id": tx.ids.new(),
                    "provider": PROVIDER,
                    "name": "Sandbox",
                    "opens_itself": True,
                    "currencies": (),
                    "position": 0,
                    "shown": sealing.shown(credentials),
                    "credentials_encrypted": sealed,
                    "secret_encrypted": sealed_secret,
                    "created_at": await tx.now(tenant_id),
                },
            )
            opened = await connections.of_itself(tx, tenant_id)
            assert opened is not None, "the one just inserted, or another's"
            return opened

        row = await self._database.transact(_OPEN, intend, tenants=[tenant_id])
        if row.status == "opening":
            await self.finish((tenant_id, row.id))
        return UUID(int=row.id.int)

    async def choose(self, tenant_id: UUID, currency: str, *, provider: str | None = None) -> UUID:
        """The connection for something new in ``currency``, of this provider if one is named.

        Raises CurrencyNotTaken, and NoConnection if there is none at all.
        """

        async def work(tx: Tx) -> UUID | None:
            return self._chosen(await connections.open_ones(tx, tenant_id), currency, provider)

        return await self._or_own(
            tenant_id,
            lambda: self._database.transact(_READ, work, tenants=[tenant_id]),
            currency,
        )

    async def assign(self, payment: Key, currency: str) -> UUID:
        """The connection of a payment that has none yet, recorded before anything is asked there:
        a page that is opened again is opened at the same provider. Raises as ``choose``."""

        async def work(tx: Tx) -> UUID | None:
            known = await connections.assigned(tx, payment)
            if known is not None:
                return known
            chosen = self._chosen(await connections.open_ones(tx, payment[0]), currency, None)
            if chosen is not None:
                await connections.assign(tx, payment, chosen)
            return chosen

        return await self._or_own(
            payment[0],
            lambda: self._database.transact(_ASSIGN, work, tenants=[payment[0]]),
            currency,
        )

    async def finish(self, key: Key) -> None:
        """Tell webhooks (and the sandbox) of the connection's newest revision, and let it be used.

        Repeated until what was told is still the newest: of two changes at once the later one is
        told last, whoever tells it.
        """
        assert_no_transaction("opening a connection")
        for _ in range(MOST_REVISIONS):
            row = await self._read(key)
            if row is None:
                return
            endpoint = await self._endpoints.register(
                Call(key[0]),
                EndpointRequest(
                    connection_id=key[1],
                    provider=row.provider,
                    secret=sealing.opened(self._fernet, row).webhook_secret,
                    number=row.address_number,
                    revision=row.revision,
                ),
            )
            if row.opens_itself:
                await self._accounts.provision(key[0], endpoint.path)
            _AFTER_CALL.hit()
            sealed, revision = self._fernet.encrypt(endpoint.path.encode()), row.revision

            async def activate(tx: Tx, sealed: bytes = sealed, revision: int = revision) -> bool:
                return await connections.activate(tx, key, revision=revision, path_encrypted=sealed)

            if await self._database.transact(_ACTIVATE, activate, tenants=[key[0]]):
                break
        self._providers.forget(key[1])

    def path(self, row: Row[Any]) -> str | None:
        """The webhook address below the public URL; None until webhooks has told it, and if no key
        opens it any more."""
        sealed = row.webhook_path_encrypted
        try:
            return None if sealed is None else self._fernet.decrypt(bytes(sealed)).decode()
        except InvalidToken:
            return None

    async def reseal(self, tenant_id: UUID) -> None:
        """Encrypt what is kept of the tenant's connections, and its payers' mandates, with the
        newest key."""
        for page in (reseal_connections, reseal_mandates):
            after: UUID | None = UUID(int=0)
            while after is not None:
                work = partial(page, fernet=self._fernet, tenant_id=tenant_id, after=after)
                after = await self._database.transact(_RESEAL, work, tenants=[tenant_id])

    async def _read(self, key: Key) -> Row[Any] | None:
        async def work(tx: Tx) -> Row[Any] | None:
            return (await connections.connections(tx, [key])).get(key)

        return await self._database.transact(_READ, work, tenants=[key[0]])

    def _chosen(self, rows: Sequence[Row[Any]], currency: str, provider: str | None) -> UUID | None:
        chosen = choice.choose(
            (
                choice.Candidate(
                    id=row.id,
                    currencies=frozenset(row.currencies),
                    offered=self._providers.currencies(row.provider),
                    is_default=currency in row.default_for,
                    position=row.position,
                    created_at=row.created_at,
                    is_troubled=self._providers.is_troubled(row.provider, row.id),
                )
                for row in rows
                if row.status == "active" and provider in {None, row.provider}
            ),
            currency,
        )
        return None if chosen is None else UUID(int=chosen.id.int)

    async def _or_own(
        self, tenant_id: UUID, find: Callable[[], Awaitable[UUID | None]], currency: str
    ) -> UUID:
        """What ``find`` chooses; else a sandbox tenant's own connection is opened and it chooses
        again."""
        found = await find()
        if found is None:
            try:
                await self.default(tenant_id)
            except NoConnection:
                if await self._has_any(tenant_id):
                    raise CurrencyNotTaken(currency) from None
                raise
            found = await find()
        if found is None:
            raise CurrencyNotTaken(currency)
        return found

    async def _has_any(self, tenant_id: UUID) -> bool:
        async def work(tx: Tx) -> bool:
            return bool(await connections.open_ones(tx, tenant_id))

        return await self._database.transact(_READ, work, tenants=[tenant_id])
