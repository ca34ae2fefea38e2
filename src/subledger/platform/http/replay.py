"""Saying that an answer repeats an earlier one."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Response

from subledger.platform.http.idempotency import Answered

T = TypeVar("T")
HEADER = "Idempotent-Replayed"


def replayed(response: Response, answered: Answered[T]) -> T:
    """The answer's value; marks the response if it was rebuilt for a repeated request."""
    if answered.replayed:
        response.headers[HEADER] = "true"
    return answered.value
