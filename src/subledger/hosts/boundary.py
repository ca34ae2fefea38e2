"""The seam between services of one process: what a network would refuse is refused here too.

A call to another service never happens inside a transaction. ``through_json`` sends every
argument and answer through JSON and back, as the HTTP answer will: a test runs a whole process
that way, so that separability stays true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_type_hints

import msgspec

from subledger.platform.db import assert_no_transaction

Port = TypeVar("Port")


class _Boundary:
    def __init__(self, protocol: type, answerer: object, *, through_json: bool) -> None:
        self._protocol = protocol
        self._answerer = answerer
        self._through_json = through_json

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._answerer, name)
        what = f"{self._protocol.__name__}.{name}"
        hints = get_type_hints(getattr(self._protocol, name)) if self._through_json else {}

        async def call(*given: Any) -> Any:
            assert_no_transaction(what)
            if not self._through_json:
                return await method(*given)
            names = [key for key in hints if key != "return"]
            sent = [
                msgspec.json.decode(msgspec.json.encode(value), type=hints[key])
                for key, value in zip(names, given, strict=True)
            ]
            answer = await method(*sent)
            return msgspec.json.decode(msgspec.json.encode(answer), type=hints["return"])

        return call


def local(protocol: type[Port], answerer: object, *, through_json: bool = False) -> Port:
    """``answerer`` behind the protocol's boundary. Arguments are given by position."""
    return cast(Port, _Boundary(protocol, answerer, through_json=through_json))
