"""The edge: one HTTP application out of the services that run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route

from subledger.contracts.keys import KeyRing
from subledger.core.errors import CoreError
from subledger.hosts import reference
from subledger.platform.db import Database, sql, story
from subledger.platform.http import problems
from subledger.platform.http.callers import Doorkeeper
from subledger.platform.http.middleware import App, Front
from subledger.platform.http.problems import MEDIA_TYPE, Problem
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.platform.telemetry import metrics

_READY = story("gateway.readyz")
_ALIVE = sql("SELECT 1 AS one")
_READY_WITHIN_S = 1.0


def build_app(
    services: Sequence[Service],
    *,
    key_ring: KeyRing,
    ids: Ids | None = None,
    plain_routes: Mapping[str, tuple[App, Mapping[str, Any]]] | None = None,
    mounts: Mapping[str, App] | None = None,
) -> App:
    """The gateway of these services.

    ``plain_routes`` are ASGI applications by path that bypass FastAPI for speed, each with its
    OpenAPI operation; ``mounts`` are whole applications by prefix (the sandbox provider).
    """
    plain = dict(plain_routes or {})
    api = FastAPI(
        title="Subledger",
        version="0.1.0",
        description="Subscription billing: catalogue, subscriptions, invoices, payments, access.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    doorkeeper = Doorkeeper(key_ring)
    api.state.doorkeeper = doorkeeper
    _answer_problems(api)
    for service in services:
        for router in service.routers:
            api.include_router(router)
    operations = {path: operation for path, (_, operation) in plain.items()}
    for path, (app, _) in plain.items():
        api.router.routes.insert(0, Route(path, _endpoint(app), methods=["GET"]))
    for prefix, app in (mounts or {}).items():
        api.router.routes.append(Mount(prefix, app))
    _add_pages(api, services, operations)
    front: App = Front(api, ids or Ids())
    return front


def _endpoint(app: App) -> Any:
    """A plain ASGI application as Starlette wants it: a class instance is left alone."""

    class Plain:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

    return Plain()


def _answer_problems(api: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        request_id = request.scope.get("subledger.request_id")
        return Response(
            problem.body(None if request_id is None else str(request_id)),
            status_code=problem.status,
            media_type=MEDIA_TYPE,
            headers=problem.headers,
        )

    @api.exception_handler(Problem)
    async def _(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @api.exception_handler(CoreError)
    async def _(request: Request, error: CoreError) -> Response:
        return answer(
            request,
            Problem(
                "invalid_request",
                detail=error.detail,
                pointer=error.pointer,
                fix=error.fix or None,
                reason=error.code,
            ),
        )

    @api.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        found = problems.from_validation(error.errors())
        if any(each["loc"][:1] == ("path",) for each in error.errors()):
            # An id that cannot exist is an object that does not exist.
            return answer(request, Problem("not_found", detail="There is no such object."))
        return answer(request, found)

    @api.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        if code is None:
            code = "invalid_request" if error.status_code < 500 else "internal_error"
        return answer(
            request,
            Problem(
                code,
                detail=f"{request.method} {request.url.path}: {error.detail}.",
                headers=dict(error.headers or {}),
            ),
        )


def _add_pages(
    api: FastAPI, services: Sequence[Service], operations: Mapping[str, Mapping[str, Any]]
) -> None:
    described: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not described:
            described.update(reference.openapi(api, operations))
        return described

    api.state.openapi = document

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    async def docs(_: Request) -> Response:
        return HTMLResponse(reference.page(document()))

    async def problem_list(_: Request) -> Response:
        return HTMLResponse(reference.problems_page())

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        broken = await _unready(services)
        return JSONResponse(
            {"status": "unready" if broken else "ready", "broken": broken},
            status_code=503 if broken else 200,
        )

    async def exposition(_: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    for path, endpoint in (
        ("/openapi.json", openapi),
        ("/docs", docs),
        ("/docs/problems", problem_list),
        ("/healthz", healthz),
        ("/readyz", readyz),
        ("/metrics", exposition),
    ):
        api.router.routes.append(Route(path, endpoint, methods=["GET"]))


async def _unready(services: Sequence[Service]) -> list[str]:
    """The services whose database does not answer within a second."""

    async def ask(database: Database) -> None:
        async with asyncio.timeout(_READY_WITHIN_S), database.transaction(_READY) as tx:
            await tx.rows(_ALIVE)

    answers = await asyncio.gather(
        *(ask(each.database) for each in services), return_exceptions=True
    )
    return [
        service.name
        for service, answer in zip(services, answers, strict=True)
        if isinstance(answer, BaseException)
    ]
