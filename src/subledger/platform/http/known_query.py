"""Query parameters that a route does not have are refused: a list that passed over a misspelt
filter would show everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from subledger.platform.http.problems import Problem, pointer_of

MOST_SHOWN = 100
"""Characters of an unknown name that the problem repeats."""
_known: WeakKeyDictionary[Callable[..., Any], frozenset[str]] = WeakKeyDictionary()


def check_query(request: Request) -> None:
    """Raise invalid_request, naming one unknown parameter and all that there are."""
    route = request.scope.get("route")
    if not request.scope["query_string"] or not isinstance(route, APIRoute):
        return
    known = _names(route)
    unknown = request.query_params.keys() - known
    if unknown:
        has = f"Use {', '.join(sorted(known))}." if known else "Leave out the query: it has none."
        raise Problem(
            "invalid_request",
            detail="There is no such query parameter here.",
            pointer=f"/query{pointer_of([min(unknown)[:MOST_SHOWN]])}",
            fix=has,
        )


def _names(route: APIRoute) -> frozenset[str]:
    found = _known.get(route.endpoint)
    if found is None:
        fields = get_flat_params(route.dependant)
        found = frozenset(each.alias for each in fields if isinstance(each.field_info, Query))
        _known[route.endpoint] = found
    return found
