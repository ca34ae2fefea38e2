"""Errors as RFC 9457 problems: what is wrong, where, and how to mend it.

Every code is declared once, with its status, title and way out, so that the docs can list all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"
MOST_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A declared problem."""

    code: str
    status: int
    title: str
    fix: str


_kinds: dict[str, Kind] = {}


def declare(code: str, *, status: int, title: str, fix: str) -> str:
    """Declare a problem once, at import; returns its code."""
    assert code not in _kinds, f"the problem {code} is declared twice"
    _kinds[code] = Kind(code=code, status=status, title=title, fix=fix)
    return code


def kinds() -> list[Kind]:
    """Every declared problem, by code."""
    return [_kinds[code] for code in sorted(_kinds)]


for _code, _status, _title, _fix in (
    (
        "invalid_json",
        400,
        "The body is not acceptable JSON",
        "Send UTF-8 JSON, at most 64 levels deep, without duplicate keys, NaN, Infinity or NUL;"
        " numbers of more than 38 digits as text.",
    ),
    (
        "invalid_idempotency_key",
        400,
        "The idempotency key is not acceptable",
        "Use 1 to 255 printable ASCII characters, for example a UUID.",
    ),
    (
        "unauthorized",
        401,
        "Who is calling is unknown",
        "Send Authorization: Bearer with an API key of the tenant.",
    ),
    (
        "payment_declined",
        402,
        "The payment was declined",
        "Ask the payer for another payment method, then pay again with a new idempotency key.",
    ),
    ("forbidden", 403, "The key may not do this", "Use a key with the role admin."),
    ("not_found", 404, "There is no such thing", "Check the id and the tenant of the key."),
    (
        "method_not_allowed",
        405,
        "The path does not know this method",
        "See the API reference for the methods of the path.",
    ),
    ("conflict", 409, "The state does not allow this", "Read the object again and decide anew."),
    (
        "idempotency_in_progress",
        409,
        "The same request is still under way",
        "Wait a moment and send it again with the same key.",
    ),
    (
        "stale_cursor",
        409,
        "The cursor belongs to an earlier epoch of the log",
        "Start again without a cursor, or from a position after the restore.",
    ),
    ("body_too_large", 413, "The body is too large", "Send at most 1 MiB."),
    ("unsupported_media_type", 415, "The body is not JSON", "Send application/json."),
    ("invalid_request", 422, "The input is not valid", "Mend what the pointer names."),
    (
        "idempotency_key_reused",
        422,
        "The idempotency key was used for other input",
        "Use a new key for a new request.",
    ),
    ("too_many_requests", 429, "Too many requests", "Wait as long as Retry-After says."),
    (
        "internal_error",
        500,
        "Something went wrong here",
        "Send the same request again with the same idempotency key; report the request id.",
    ),
    ("service_unavailable", 503, "The service cannot answer now", "Try again in a moment."),
    (
        "timeout",
        504,
        "The request took too long",
        "Send the same request again with the same idempotency key.",
    ),
):
    declare(_code, status=_status, title=_title, fix=_fix)


UNKNOWN_REFERENCE = declare(
    "unknown_reference",
    status=422,
    title="The body names something that does not exist",
    fix="Check the id at the pointer; it must belong to this tenant.",
)


RETURN_URL_NOT_ALLOWED = declare(
    "return_url_not_allowed",
    status=422,
    title="Payers may not be sent to this site",
    fix="Add the site's origin by PUT /v1/payment-settings (return_origins), or use an address of"
    " this installation. A sandbox tenant may use localhost too.",
)


def foreign_return_url() -> Problem:
    """The refusal of a ``return_url`` that leads to a site which the tenant has not listed."""
    return Problem(
        RETURN_URL_NOT_ALLOWED,
        detail="The site of return_url is not one that this tenant's payers may be sent to.",
        pointer="/return_url",
    )


class Problem(Exception):
    """Raised anywhere, answered as its declared problem. ``pointer`` is a JSON pointer into the
    body; ``extra`` members join the answer."""

    def __init__(
        self,
        code: str,
        *,
        detail: str,
        pointer: str | None = None,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = _kinds[code]
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.fix = fix or self.kind.fix
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def status(self) -> int:
        return self.kind.status

    def members(self, request_id: str | None) -> dict[str, Any]:
        """The members of the problem document."""
        members: dict[str, Any] = {
            "type": f"/docs/problems#{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            "fix": self.fix,
        }
        if self.pointer is not None:
            members["pointer"] = self.pointer
        if request_id is not None:
            members["request_id"] = request_id
        return members | self.extra

    def body(self, request_id: str | None) -> bytes:
        return msgspec.json.encode(self.members(request_id))


SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "description": "An error as RFC 9457 describes it.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "fix"],
    "properties": {
        "type": {"type": "string", "example": "/docs/problems#not_found"},
        "title": {"type": "string", "example": "There is no such thing"},
        "status": {"type": "integer", "example": 404},
        "detail": {"type": "string", "example": "There is no such customer."},
        "code": {"type": "string", "example": "not_found"},
        "fix": {"type": "string", "example": "Check the id and the tenant of the key."},
        "pointer": {
            "type": "string",
            "description": "JSON pointer into the body; below /query for the address.",
            "example": "/customer_id",
        },
        "request_id": {"type": "string", "example": "01890a5d-ac96-774b-bcce-b302099a8057"},
        "errors": {
            "type": "array",
            "description": "All findings, when the input has several.",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """FastAPI ``responses`` for an operation that may answer with these problems."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, "unauthorized"):
        kind = _kinds[code]
        example = Problem(code, detail=kind.title).members(None)
        entry = by_status.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
                },
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][code] = {"value": example}
    return by_status


def from_validation(errors: Sequence[Mapping[str, Any]], body: Any = None) -> Problem:
    """Pydantic's findings as one problem: the first as detail and pointer, all in ``errors``.

    Pointers lead into ``body``; what is wrong in the address is below ``/query`` or ``/header``.
    """
    found = [
        {"pointer": _pointer(each, body), "detail": _said(str(each["msg"]))}
        for each in errors[:MOST_FINDINGS]
    ]
    first = found[0] if found else {"pointer": "", "detail": "The input is not valid."}
    return Problem(
        "invalid_request", detail=first["detail"], pointer=first["pointer"], errors=found
    )


def _said(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _pointer(finding: Mapping[str, Any], body: Any) -> str:
    """Where a finding is. Between the parts of the body Pydantic names the branch of a union that
    it tried; only what leads somewhere, or is missing at the end, belongs to the pointer."""
    parts = list(finding["loc"])
    if parts[:1] != ["body"]:
        return pointer_of(parts)
    kept, here = [], body
    for n, part in enumerate(parts[1:], start=2):
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_list or (isinstance(here, Mapping) and part in here):
            kept.append(part)
            here = here[part]
        elif n == len(parts) and finding["type"] == "missing":
            kept.append(part)
    return pointer_of(kept)


def pointer_of(parts: Sequence[Any]) -> str:
    """A JSON pointer (RFC 6901) of keys and indexes."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{each}" for each in escaped)
