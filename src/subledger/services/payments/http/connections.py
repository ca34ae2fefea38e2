"""Routes of connections to providers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from cryptography.fernet import InvalidToken, MultiFernet
from fastapi import APIRouter, Query, Response
from sqlalchemy import Row

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import Caller, CallerAdmin, CallerRead
from subledger.platform.http.idempotency import Keys
from subledger.platform.http.pages import Page, PageQuery, page
from subledger.platform.http.problems import Problem, problems
from subledger.platform.http.replay import replayed
from subledger.providers import port
from subledger.services.payments import checking, sealing
from subledger.services.payments import problems as refusals
from subledger.services.payments.connection_schemas import (
    Check,
    Connection,
    ConnectionChange,
    ConnectionId,
    Finding,
    NewConnection,
)
from subledger.services.payments.flows.connect import Connecting
from subledger.services.payments.http import lists
from subledger.services.payments.provider import Providers
from subledger.services.payments.store import connections as store
from subledger.services.payments.usecases import connections as usecases

_CREATE = story("payments.create_connection")
_CHANGE = story("payments.change_connection")
_CLOSE = story("payments.close_connection")
_ADDRESS = story("payments.replace_webhook_url")
_READ = story("payments.show_connections", reads=True)
_KEYED = ("forbidden", "not_found", "idempotency_in_progress", "idempotency_key_reused")


class Shown:
    """Reads connections and shows them as the caller may see them."""

    def __init__(
        self,
        database: Database,
        *,
        connecting: Connecting,
        providers: Providers,
        fernet: MultiFernet,
        public_url: str,
    ) -> None:
        self.database = database
        self.connecting = connecting
        self.providers = providers
        self.fernet = fernet
        self._public_url = public_url.rstrip("/")

    def of(self, caller: Caller, row: Row[Any]) -> Connection:
        path = self.connecting.path(row) if caller.principal.role == "admin" else None
        return Connection.of(
            row,
            webhook_url=None if path is None else f"{self._public_url}{path}",
            can=self.providers.capabilities(row.provider),
        )

    async def row(self, caller: Caller, connection_id: UUID) -> Row[Any]:
        async with self.database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            return await usecases.one(tx, (caller.tenant_id, connection_id))

    async def finish(self, caller: Caller, connection_id: UUID) -> None:
        """Tell webhooks of the newest revision. Raises credentials_sealed."""
        try:
            await self.connecting.finish((caller.tenant_id, connection_id))
        except InvalidToken:
            raise Problem(
                refusals.CREDENTIALS_SEALED, detail="No key opens the connection's credentials."
            ) from None

    async def told(self, caller: Caller, connection_id: UUID) -> Connection:
        """The connection, after webhooks was told of its newest revision."""
        await self.finish(caller, connection_id)
        return self.of(caller, await self.row(caller, connection_id))


def router(keys: Keys, shown: Shown) -> APIRouter:
    """``/v1/connections``."""
    routes = APIRouter(prefix="/v1/connections", tags=["Connections"])
    _add_create(routes, keys, shown)
    _add_change(routes, shown)
    _add_check(routes, shown)
    _add_endings(routes, keys, shown)

    @routes.get(
        "",
        response_model=Page[Connection],
        summary="List connections",
        description="Connections to providers, the newest first, closed ones too. A sandbox"
        " tenant's own connection appears with its first use.",
        responses={**problems("invalid_request")},
    )
    async def list_connections(caller: CallerRead, query: PageQuery) -> Page[Connection]:
        async with shown.database.transaction(_READ, tenants=[caller.tenant_id]) as tx:
            rows = await store.listed(
                tx, caller.tenant_id, before=lists.before(query.after), limit=query.limit + 1
            )
        return page(
            [shown.of(caller, row) for row in rows],
            query,
            key=lambda each: lists.key(each.created_at, each.id),
        )

    @routes.get(
        "/{connection_id}",
        response_model=Connection,
        summary="Get a connection",
        description="A connection with the last four characters of its credentials; admins also"
        " see the address to enter in the provider's cabinet.",
        responses={**problems("not_found")},
    )
    async def get_connection(connection_id: ConnectionId, caller: CallerRead) -> Connection:
        return shown.of(caller, await shown.row(caller, connection_id))

    return routes


def _add_create(routes: APIRouter, keys: Keys, shown: Shown) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=Connection,
        summary="Connect a provider",
        description="Credentials are encrypted at rest and never shown again. Enter the answer's"
        " `webhook_url` in the provider's cabinet; check the connection before it takes money.",
        responses={
            **problems(
                *_KEYED,
                "invalid_request",
                refusals.UNKNOWN_PROVIDER,
                refusals.TOO_MANY_CONNECTIONS,
            )
        },
    )
    async def create_connection(
        body: NewConnection, caller: CallerAdmin, response: Response
    ) -> Connection:
        is_live = caller.principal.mode == "live"
        known = shown.providers.names(is_live=is_live)
        if body.provider not in known:
            raise Problem(
                refusals.UNKNOWN_PROVIDER,
                detail=f"A {caller.principal.mode} tenant can connect:"
                f" {', '.join(known) or 'no provider yet'}.",
                pointer="/provider",
            )
        _check_fields(shown.providers, body.provider, body.credentials, is_new=True)

        async def work(tx: Tx, new_id: UUID) -> None:
            await usecases.create(
                tx,
                shown.fernet,
                tenant_id=caller.tenant_id,
                connection_id=new_id,
                provider=body.provider,
                wanted=body.wanted(),
                daily=is_live if body.reconciles_daily is None else body.reconciles_daily,
                cause=caller.request_id,
            )

        answered = await keys.run(
            shown.database,
            _CREATE,
            caller,
            operation="create_connection",
            body=body,
            work=work,
            load=_nothing,
        )
        replayed(response, answered)
        return await shown.told(caller, answered.resource_id)


def _add_change(routes: APIRouter, shown: Shown) -> None:
    @routes.patch(
        "/{connection_id}",
        response_model=Connection,
        summary="Change a connection",
        description="Replaces the fields given. New credentials hold at once here and within ten"
        " seconds in every process.",
        responses={
            **problems(
                "forbidden",
                "not_found",
                "invalid_request",
                refusals.CONNECTION_CLOSED,
                refusals.CONNECTION_OPENS_ITSELF,
                refusals.CREDENTIALS_SEALED,
            )
        },
    )
    async def change_connection(
        connection_id: ConnectionId, body: ConnectionChange, caller: CallerAdmin
    ) -> Connection:
        if body.credentials is not None:
            provider = (await shown.row(caller, connection_id)).provider
            _check_fields(shown.providers, provider, body.credentials, is_new=False)

        async def work(tx: Tx) -> None:
            await usecases.change(
                tx,
                shown.fernet,
                tenant_id=caller.tenant_id,
                connection_id=connection_id,
                wanted=body.wanted(),
                cause=caller.request_id,
            )

        await shown.database.transact(_CHANGE, work, tenants=[caller.tenant_id])
        shown.providers.forget(connection_id)
        if body.credentials is None:
            return shown.of(caller, await shown.row(caller, connection_id))
        return await shown.told(caller, connection_id)


def _add_check(routes: APIRouter, shown: Shown) -> None:
    @routes.post(
        "/{connection_id}/check",
        response_model=Check,
        summary="Check a connection",
        description="Asks the provider with the connection's credentials and says what stands in"
        " the way of payments, in English or Russian (`locale`). Moves no money.",
        responses={**problems("forbidden", "not_found", refusals.CREDENTIALS_SEALED)},
    )
    async def check_connection(
        connection_id: ConnectionId,
        caller: CallerAdmin,
        locale: Annotated[checking.Language, Query()] = "en",
    ) -> Check:
        await shown.row(caller, connection_id)
        await shown.finish(caller, connection_id)
        row = await shown.row(caller, connection_id)
        providers = shown.providers
        fields = providers.credentials(row.provider)
        if fields is None:
            raise Problem(
                refusals.UNKNOWN_PROVIDER, detail=f"This installation knows no {row.provider}."
            )
        answer = await providers.check(connection_id, caller.tenant_id)
        found = checking.findings(
            answer,
            is_closed=row.status == "closed",
            currencies=row.currencies,
            offered=providers.currencies(row.provider),
            has_secret=bool(sealing.opened(shown.fernet, row).webhook_secret),
            wants_secret="webhook_secret" in {each.name for each in fields},
        )
        return Check(
            connection_id=connection_id,
            ok=not found,
            account=answer.account if isinstance(answer, port.Checked) else None,
            findings=[
                Finding(code=code, message=checking.in_words(code, what, locale))
                for code, what in found
            ],
        )


def _add_endings(routes: APIRouter, keys: Keys, shown: Shown) -> None:
    @routes.post(
        "/{connection_id}/close",
        response_model=Connection,
        summary="Close a connection",
        description="Nothing new goes through it, within ten seconds in every process. What is"
        " under way there is still asked about and its notifications are still taken.",
        responses={**problems(*_KEYED, refusals.CONNECTION_OPENS_ITSELF)},
    )
    async def close_connection(
        connection_id: ConnectionId, caller: CallerAdmin, response: Response
    ) -> Connection:
        async def work(tx: Tx, _: UUID) -> None:
            await usecases.close(
                tx,
                tenant_id=caller.tenant_id,
                connection_id=connection_id,
                cause=caller.request_id,
            )

        answered = await keys.run(
            shown.database,
            _CLOSE,
            caller,
            operation="close_connection",
            body=None,
            work=work,
            load=_nothing,
            new_id=connection_id,
        )
        replayed(response, answered)
        shown.providers.forget(connection_id)
        return shown.of(caller, await shown.row(caller, connection_id))

    @routes.post(
        "/{connection_id}/replace-webhook-url",
        response_model=Connection,
        summary="Replace a webhook address",
        description="Makes a new address with another unguessable part; the one before ends at"
        " once here and within ten seconds in every process.",
        responses={**problems(*_KEYED, refusals.CONNECTION_CLOSED, refusals.CREDENTIALS_SEALED)},
    )
    async def replace_webhook_url(
        connection_id: ConnectionId, caller: CallerAdmin, response: Response
    ) -> Connection:
        async def work(tx: Tx, _: UUID) -> None:
            await usecases.replace_address(
                tx,
                shown.fernet,
                tenant_id=caller.tenant_id,
                connection_id=connection_id,
                cause=caller.request_id,
            )

        answered = await keys.run(
            shown.database,
            _ADDRESS,
            caller,
            operation="replace_webhook_url",
            body=None,
            work=work,
            load=_nothing,
            new_id=connection_id,
        )
        replayed(response, answered)
        return await shown.told(caller, connection_id)


def _check_fields(
    providers: Providers, provider: str, given: dict[str, str], *, is_new: bool
) -> None:
    """Credentials have the fields that their provider gives, no others."""
    fields = providers.credentials(provider) or ()
    names = [each.name for each in fields]
    unknown = sorted(set(given) - set(names))
    required = {each.name for each in fields if each.required}
    missing = sorted(name for name in required if (is_new or name in given) and not given.get(name))
    if unknown or missing:
        wrong = f"{provider} has no {unknown[0]}" if unknown else f"{provider} needs {missing[0]}"
        raise Problem(
            "invalid_request",
            detail=f"{wrong}; its credentials are {', '.join(names)}.",
            pointer=f"/credentials/{(unknown or missing)[0]}",
        )


async def _nothing(_: Tx, __: UUID) -> None:
    """The answer is built from the connection."""
