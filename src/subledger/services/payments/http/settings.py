"""Routes of a tenant's settings of payments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, Field

from subledger.platform.db import Database, Tx, story
from subledger.platform.http.callers import CallerAdmin, CallerRead
from subledger.platform.http.fields import Strict, Text, Timestamp
from subledger.platform.http.origins import origin
from subledger.platform.http.problems import problems
from subledger.services.payments.store import settings as store
from subledger.services.payments.usecases.returns import put_origins

_READ = story("payments.read_settings", reads=True)
_PUT = story("payments.put_settings")


def _origin(value: str) -> str:
    given = origin(value)
    if value.rstrip("/").count("/") != 2:
        raise ValueError(f"give the origin alone, without a path: {given}")
    return given


Origin = Annotated[Text, AfterValidator(_origin), Field(examples=["https://cinema.example"])]


class SettingsNew(Strict):
    """The sites that payers may be sent back to."""

    model_config = Strict.model_config | {
        "json_schema_extra": {"examples": [{"return_origins": ["https://cinema.example"]}]}
    }
    return_origins: Annotated[list[Origin], Field(max_length=100)]


class Settings(Strict):
    """Beside ``return_origins`` payers may always be sent to this installation's own origin, and
    from a sandbox tenant to localhost. ``updated_at`` is null while nothing was set."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "return_origins": ["https://cinema.example"],
                    "updated_at": "2026-03-01T00:00:00Z",
                }
            ]
        }
    }
    return_origins: list[str]
    updated_at: Timestamp | None


def router(database: Database) -> APIRouter:
    """``/v1/payment-settings``."""
    routes = APIRouter(prefix="/v1/payment-settings", tags=["Payments"])

    async def shown(tx: Tx, caller: CallerRead) -> Settings:
        row = (await store.settings(tx, [caller.tenant_id]))[caller.tenant_id]
        return Settings(return_origins=row.return_origins, updated_at=row.updated_at)

    @routes.get(
        "",
        response_model=Settings,
        summary="Get the payment settings",
        description="The sites that `return_url` may lead to.",
    )
    async def get_payment_settings(caller: CallerRead) -> Settings:
        async def read(tx: Tx) -> Settings:
            return await shown(tx, caller)

        return await database.transact(_READ, read, tenants=[caller.tenant_id])

    @routes.put(
        "",
        response_model=Settings,
        summary="Set the payment settings",
        description="Replaces the list of sites that `return_url` may lead to (scheme, host and"
        " port). Payers whose payment is under way are shown the way back by the new list.",
        responses={**problems("forbidden", "invalid_request")},
    )
    async def put_payment_settings(body: SettingsNew, caller: CallerAdmin) -> Settings:
        async def work(tx: Tx) -> Settings:
            await put_origins(tx, caller.tenant_id, body.return_origins)
            return await shown(tx, caller)

        return await database.transact(_PUT, work, tenants=[caller.tenant_id])

    return routes
