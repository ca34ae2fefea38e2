"""The edge: one HTTP application out of the services that run in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route

from subledger.contracts.keys import KeyRing
from subledger.core.errors import CoreError, IllegalTransition
from subledger.hosts import readiness, reference
from subledger.hosts.openapi import openapi as describe
from subledger.platform.http import problems
from subledger.platform.http.callers import Doorkeeper, TokenVerifier
from subledger.platform.http.middleware import REQUEST_TIMEOUT_S, App, Front, Receive, Scope, Send
from subledger.platform.http.problems import MEDIA_TYPE, Problem
from subledger.platform.ids import Ids
from subledger.platform.service import Service
from subledger.platform.telemetry import metrics

_BY_STATUS = {
    400: "invalid_json",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    503: "service_unavailable",
}
_BUSIEST = "/v1/subscriptions"
"""Its routes come first: a request is compared with one route after the other."""
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def build_app(
    services: Sequence[Service],
    *,
    key_ring: KeyRing,
    tokens: TokenVerifier | None = None,
    ids: Ids | None = None,
    plain_routes: Mapping[str, tuple[App, Mapping[str, Any]]] | None = None,
    mounts: Mapping[str, App] | None = None,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> App:
    """The gateway of these services.

    ``plain_routes`` are ASGI applications by path that bypass FastAPI for speed, each with its
    OpenAPI operation; ``mounts`` are whole applications by prefix (the sandbox provider).
    ``tokens`` reads bearer tokens that are not API keys. Opens no connection.
    """
    plain = dict(plain_routes or {})
    api = FastAPI(
        title="Subledger",
        version="0.1.0",
        description="Subscription billing: catalogue, subscriptions, invoices, payments, access.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    api.state.doorkeeper = Doorkeeper(key_ring, tokens)
    _answer_problems(api)
    _offer_routes(api, [router for service in services for router in service.routers])
    operations = {path: operation for path, (_, operation) in plain.items()}
    for path, (app, _) in plain.items():
        api.router.routes.insert(0, Route(path, _Labelled(app, path), methods=["GET"]))
    for prefix, app in (mounts or {}).items():
        api.router.routes.append(Mount(prefix, _Labelled(app, prefix)))
    _add_pages(api, services, operations)
    ahead = {prefix: app for each in services for prefix, app in each.ahead.items()}
    inner: App = _Ahead(api, ahead) if ahead else api
    front: App = Front(inner, ids or Ids(), timeout_s=timeout_s)
    return front


def _offer_routes(api: FastAPI, routers: Sequence[APIRouter]) -> None:
    """The routers' routes as they are. FastAPI's ``include_router`` would make each route a second
    time (0.2 s of a start) and compare a request with one router after the other."""
    for router in sorted(routers, key=lambda each: each.prefix != _BUSIEST):
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.operation_id = route.name
            api.router.routes.append(route)


class _Labelled:
    """A plain ASGI application under the route that log and metrics know it by."""

    def __init__(self, app: App, route: str) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["subledger.route"] = self._route
        await self._app(scope, receive, send)


class _Ahead:
    """Applications that answer for whole prefixes before the router is asked."""

    def __init__(self, app: App, ahead: Mapping[str, App]) -> None:
        self._app = app
        self._ahead = tuple(ahead.items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for prefix, app in self._ahead:
                if scope["path"].startswith(prefix):
                    await app(scope, receive, send)
                    return
        await self._app(scope, receive, send)


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
        code = "conflict" if isinstance(error, IllegalTransition) else "invalid_request"
        problem = Problem(
            code,
            detail=error.detail,
            pointer=error.pointer,
            fix=error.fix or None,
            reason=error.code,
        )
        return answer(request, problem)

    @api.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        if any(each["loc"][:1] == ("path",) for each in error.errors()):
            # An id that cannot exist is an object that does not exist.
            return answer(request, Problem("not_found", detail="There is no such object."))
        return answer(request, problems.from_validation(error.errors(), error.body))

    @api.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        below_500 = "invalid_request" if error.status_code < 500 else "internal_error"
        problem = Problem(
            _BY_STATUS.get(error.status_code, below_500),
            detail=f"{request.method} {request.url.path}: {error.detail}.",
            headers=dict(error.headers or {}),
        )
        return answer(request, problem)

    @api.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        # Starlette would answer in plain text; Front, further out, answers and logs.
        raise error


def _add_pages(
    api: FastAPI, services: Sequence[Service], operations: Mapping[str, Mapping[str, Any]]
) -> None:
    described: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not described:
            described.update(describe(api, operations))
        return described

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    async def docs(_: Request) -> Response:
        return HTMLResponse(reference.page(document()), headers=_PAGE_HEADERS)

    async def problem_list(_: Request) -> Response:
        return HTMLResponse(reference.problems_page(), headers=_PAGE_HEADERS)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        broken = await readiness.unready(services)
        if broken:
            said = ", ".join(f"{name}: {what}" for name, what in broken.items())
            raise Problem("service_unavailable", detail=f"Not ready: {said}.", broken=broken)
        return JSONResponse({"status": "ready"})

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
        route = Route(path, endpoint, methods=["GET"])
        route.app = _Labelled(route.app, path)
        api.router.routes.append(route)
