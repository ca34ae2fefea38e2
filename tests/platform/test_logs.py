"""Logs are JSON lines, and nothing that must not be in them is."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from sqlalchemy.exc import IntegrityError

from subledger.platform.telemetry import logs

Lines = Callable[[], list[dict[str, Any]]]
CARD = "4242 4242 4242 4242"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What the process would have written to standard error since the start of the test."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(level="info")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_is_an_object_with_its_context(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(tenant="ten_1", request_id="r", cause="evt_1"):
        structlog.get_logger().info("invoice.paid", amount_minor=999)

    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "invoice.paid",
        "level": "info",
        "tenant": "ten_1",
        "request_id": "r",
        "cause": "evt_1",
        "amount_minor": 999,
    }


def test_secrets_and_people_are_masked(lines: Lines) -> None:
    structlog.get_logger().info(
        logs.PROVIDER_RESPONSE,
        authorization="Bearer sk_live_abc",
        company="Acme",
        said=f"card {CARD} of ada@example.com with sk_test_abcDEF",
        body={"cardNumber": "4242", "items": [{"api_key": "x", "note": "4242424242424242"}]},
        url="postgresql://subledger:hunter2@db/x",
        invoice="inv_01h455vb4pex5vsknk084sn02q",
        request="01890123-4567-7890-8123-456789012345",
    )

    (line,) = lines()
    assert line["authorization"] == "***"
    assert line["company"] == "Acme"
    assert line["said"] == "card *** of *** with ***"
    assert line["body"] == {"cardNumber": "***", "items": [{"api_key": "***", "note": "***"}]}
    assert line["url"] == "postgresql://subledger:***@db/x"
    assert line["invoice"] == "inv_01h455vb4pex5vsknk084sn02q"
    assert line["request"] == "01890123-4567-7890-8123-456789012345"


def test_a_traceback_shows_no_values_of_its_statement(lines: Lines) -> None:
    values = ("Ada Lovelace",)
    origin = Exception("duplicate key\nDETAIL:  Key (name)=(Ada Lovelace) already exists.")
    try:
        raise IntegrityError("INSERT INTO x VALUES ($1)", values, origin)
    except IntegrityError as error:
        structlog.get_logger().error("request.failed", exc_info=error)

    (line,) = lines()
    assert "INSERT INTO x" in line["exception"]
    assert "duplicate key" in line["exception"]
    assert "Ada" not in line["exception"]


def test_libraries_log_the_same_way(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("refused %s", "ada@example.com")
    logging.getLogger("uvicorn.error").info("not worth a line")

    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == (
        "refused ***",
        "warning",
        "uvicorn.error",
    )


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("email", True),
        ("e_mail", True),
        ("Authorization", True),
        ("client_secret", True),
        ("paymentCard", True),
        ("apiKey", True),
        ("key", False),
        ("discard", False),
        ("span", False),
        ("tokenizer", False),
        ("currency", False),
    ],
)
def test_a_fields_name_says_whether_it_is_secret(name: str, secret: bool) -> None:
    assert logs.is_secret(name) is secret
