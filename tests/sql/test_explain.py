"""No statement of any store reads a table to throw it away.

Every registered statement is explained where it runs, with the values it runs with, under its own
role and row-level security, on tables of 100,000 rows of two tenants. A statement that no story
reaches has to be named below, with the reason.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest

from subledger.hosts.assembly import Options, assemble
from subledger.platform import migrate
from tests.pump import Pump
from tests.sql.crowd import ROWS, multiply
from tests.sql.plans import watch
from tests.sql.year import break_things, live, open_and_close
from tests.stories.shop import Shop, open_shop

WHOLE = {
    "SELECT w.n, t.currency, sum(t.amount_minor)::bigint AS amount_minor FROM unnest(": "a report"
    " of revenue by month sums the tenant's revenue, at most 60 months of it",
    "INSERT INTO billing.ledger_days (tenant_id, day,": "a tenant's first roll-up sums all of its"
    " days but the present one, whose rows alone are thrown away",
    "SELECT currency, sum(amount_minor)::bigint AS captured_minor": "the sandbox provider sums a"
    " tenant's whole journal, for tests and the demo",
    "SELECT currency, sum(amount_minor)::bigint AS refunded_minor": "the same of its refunds",
    "SELECT currency, coalesce(sum(amount_minor) FILTER": "the same of its disputes",
    "SELECT s.currency, sum(CASE WHEN s.kind IN ('capture'": "a reconciliation sums what a"
    " provider listed, once a day",
    "SELECT currency, sum(amount_minor)::bigint AS amount_minor FROM (": "and what we know of it",
    "SELECT d.id, d.payment_id, d.attempt_id FROM payments.disputes d": "a reconciliation goes"
    " through the disputes of its time, once a day, for those that the list does not have",
    "SELECT e.currency, sum(CASE WHEN e.kind": "the sandbox provider sums a tenant's whole journal",
    "SELECT e.id, e.kind, e.a": "the sandbox provider's list is a view over four tables, each"
    " sorted by its own index; for tests and the demo",
    "SELECT currency, sum(debit_minor) - sum(credit_minor) AS balance_minor": "one ledger account's"
    " days, and of the tail what is its own",
}
"""The beginning of a statement → why it reads all rows of a tenant, so that no index helps."""
UNREACHED = {
    r"SELECT p\.tenant_id, p\.version, p\.mode, .* WITH ORDINALITY|SELECT p\.tenant_id, p\.version,"
    r" p\.mode, p\.timezone, p\.through_unit, p\.through_at, p\.next_at FROM \(SELECT": "the policy"
    " of a line that is credited or reversed: by primary key",
    r"DELETE FROM \w+\.(parked|blocked) WHERE": "a poison event that was mended and replayed: by"
    " primary key (tests/platform/test_eventlog.py)",
    r"UPDATE payments\.refetches AS r SET claimed_at = NULL": "a question to the provider that came"
    " up again meanwhile: by primary key",
    r"UPDATE payments\.refund_looks AS r SET claimed_at = NULL": "a question about refunds"
    " that came up again meanwhile: by primary key",
    r"UPDATE payments\.dispute_looks AS r SET claimed_at = NULL": "a question about disputes"
    " that came up again meanwhile: by primary key",
    r"UPDATE payments\.method_tasks AS t SET ready_at": "a question about a method that came up"
    " again meanwhile: by primary key",
    r"UPDATE payments\.refunds AS r SET ready_at": "a refund of a payment that billing has not read"
    " of yet: by primary key",
    r"SELECT 1 AS one FROM payments\.refetches": "whether a question was answered: by primary key",
    r"(INSERT INTO|UPDATE|DELETE FROM) payments\.hints|SELECT h\.": "a notification of an attempt"
    " that is not known yet: by primary key (tests/payments/test_charges.py)",
    r"SELECT pg_catalog\.pg_advisory_xact_lock": "one process of many migrates",
    r"SELECT CAST\(sum\(position\) AS bigint\)": "a gauge over the log's 16 heads",
    r"SELECT count\(\*\) AS n FROM eventlog\.events": "the demo counts its events at the end",
    r"SELECT 1 AS one$": "the readiness of a service without a schema",
    r"SELECT tenant_id FROM identity\.tenants WHERE tenant_id > :after": "subledger invariants and"
    " serve page through all tenants by primary key, as the finder of tenants",
    r"SELECT count\(\*\) AS due FROM": "a forecast of more than 10,000 renewals counts what its"
    " list reads",
    r"(INSERT INTO|UPDATE) (payments|sandbox)\.authorizations|SELECT a\.tenant_id,"
    r" a\.(attempt_id, a\.authorized_minor|idempotency_key)": "two-stage payments: by primary key"
    " (tests/stories/test_two_stage.py)",
    r"INSERT INTO sandbox\.(paid_out|payouts)|SELECT p\.id, p\.amount_minor, p\.fee_minor,"
    r" p\.currency, p\.at FROM sandbox": "the sandbox provider's own"
    " (tests/stories/test_reconciliation.py)",
    r"SELECT a\.tenant_id, a\.id AS attempt_id, a\.provider_ref, a\.state, coalesce": "attempts"
    " that a difference names: by primary key (tests/stories/test_reconciliation.py)",
    r"SELECT [dr]\.id FROM \(SELECT \* FROM unnest": "whether a due moment or a refund is there: by"
    " primary key",
    r"SELECT r\.id FROM payments\.reconciliations": "a run that already waits for its"
    " connection, of which there is one",
    r"SELECT r\.tenant_id, r\.payment_id, r\.attempt_id, r\.account_id|UPDATE billing\.receipts"
    r" AS t SET unapplied|UPDATE payments\.payments AS t SET amount_minor": "an amount that is"
    " corrected: by primary key (tests/stories/test_reconciliation_hands.py)",
    r"UPDATE payments\.differences": "a difference that is gone: by primary key"
    " (tests/stories/test_reconciliation.py)",
}
"""A statement, as a pattern of its beginning → why the stories here do not reach it."""
SOMETIMES = {
    r"SELECT e\.subject, e\.type, count\(\*\) AS times": "an endless moment of a clock move, which"
    " a slow machine comes to; its twin that counts all events is reached",
}
"""Reached or not, as the machine's speed has it."""


_REGISTERED = """
import importlib, json, pkgutil, subledger
from subledger.platform.db import statements
from subledger.hosts.assembly import Options, assemble
for module in pkgutil.walk_packages(subledger.__path__, "subledger."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
assemble(Options(url_of=lambda name: "postgresql+asyncpg://nowhere/none", secret_key="x" * 64,
                 public_url="http://shop.test", pool_size=1))
print(json.dumps(list(statements())))
"""


def registered() -> list[str]:
    """What Subledger alone registers: other test modules of this process have stores too."""
    made = subprocess.run(
        [sys.executable, "-c", _REGISTERED], capture_output=True, text=True, check=True, timeout=60
    )
    return list(json.loads(made.stdout))


@pytest.mark.long
async def test_no_statement_filters_away_more_than_a_thousand_rows(
    module_database_url: str, secret_key: str, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = watch(monkeypatch)
    options = Options(
        url_of=lambda name: migrate.service_url(module_database_url, name, secret_key),
        secret_key=secret_key,
        public_url="http://shop.test",
        pool_size=3,
    )
    assembly = assemble(options)
    connection = await admin(module_database_url)
    try:
        await assembly.memory.catch_up()
        shop, other = await open_shop(assembly), await open_shop(assembly)
        await live(shop, "first", month=3)
        counts = await multiply(connection, shop.tenant_id, other.tenant_id)
        await connection.execute("ANALYZE")
        assert min(counts.values()) >= ROWS, counts
        plans.watching = True
        await assembly.close()
        assembly = assemble(options)  # a process that starts on old data
        await assembly.memory.catch_up()
        api = httpx.AsyncClient(
            transport=httpx.ASGITransport(assembly.app), base_url="http://shop.test", timeout=60,
            headers=shop.api.headers,
        )  # fmt: skip
        again = Shop(assembly, Pump(assembly), api, shop.tenant_id, shop.key, shop.live_key)
        for step in assembly.steps:
            await step.run(step.limit)
        await live(again, "second", month=5)
        await open_and_close(again)
        await break_things(again)
        await api.aclose()
        await shop.api.aclose()
        await other.api.aclose()
    finally:
        await connection.close()
        await assembly.close()
    wasteful = [
        f"{short}\n    {why}"
        for short, why in ((" ".join(name.split()), why) for name, why in plans.wasteful.items())
        if not short.startswith(tuple(WHOLE))
    ]
    unreached = [" ".join(each.split()) for each in registered() if each not in plans.seen]
    new = [
        each
        for each in unreached
        if not any(re.match(known, each) for known in (*UNREACHED, *SOMETIMES))
    ]
    gone = [known for known in UNREACHED if not any(re.match(known, e) for e in unreached)]
    found = [*wasteful, *(f"not reached: {each}" for each in new), *(f"gone: {e}" for e in gone)]
    assert not found, "\n".join(found)
