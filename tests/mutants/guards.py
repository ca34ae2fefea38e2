"""The guards, how each is taken away, and the quickest test that notices.

A mutant is a replacement of text in one file of ``src/subledger``; the text has to be there once.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "tests/model/test_model.py::"
COLLECTED = f"{MODEL}test_whatever_happens_an_invoice_is_collected_once_and_nothing_is_lost"
REFUNDED = f"{MODEL}test_whatever_happens_a_refund_is_made_once_and_known"
CAPTURED = f"{MODEL}test_whatever_happens_an_authorization_is_captured_once_or_let_go"
RACES = "tests/stories/test_races.py::"


@dataclass(frozen=True)
class Mutant:
    """A guard, and who notices that it is gone."""

    guard: str
    file: str
    text: str
    instead: str
    killer: str


MUTANTS = (
    Mutant(
        "an invoice is reserved by one attempt",
        "core/reservations.py",
        'return None if held_by == attempt else "reserved"',
        "return None",
        f"{COLLECTED}[kinds2-1-25000]",
    ),
    Mutant(
        "a reserved invoice is not voided",
        "services/billing/usecases/unpaid.py",
        "if is_held(claims):",
        "if False:",
        f"{RACES}test_an_invoice_whose_payment_is_under_way_is_not_voided",
    ),
    Mutant(
        "unknown blocks: a call without an answer has not failed",
        "services/payments/protocol.py",
        '\n    return _move(now, "lost", lost=True, reconcile_in=RECONCILE[0],'
        " note=finding.reason)",
        '\n    return _move(now, "failed", refused=Refused("soft", finding.reason))',
        f"{COLLECTED}[kinds0-3-20000]",
    ),
    Mutant(
        "what the provider does not know is certain only after the horizon",
        "services/payments/protocol.py",
        "return now.lost_at is not None and asked_at - now.lost_at >= HORIZON",
        "return now.lost_at is not None",
        f"{COLLECTED}[kinds0-3-20000]",
    ),
    Mutant(
        "an answer is as old as its question",
        "services/payments/protocol.py",
        "asked_at = at if now.asked_at is None else min(at, now.asked_at)",
        "asked_at = at",
        f"{COLLECTED}[kinds0-3-20000]",
    ),
    Mutant(
        "who was overtaken by another caller does not put the attempt back (lease fencing)",
        "services/payments/protocol.py",
        "return not now.is_current and not isinstance(finding, ActionNeeded)",
        "return False",
        f"{COLLECTED}[kinds5-2-115000]",
    ),
    Mutant(
        "a page that was paid is a success",
        "core/states.py",
        '    ("authorized", "lost", "unknown"),\n'
        '    ("requires_action", "succeeded", "succeeded"),\n'
        '    ("requires_action", "failed", "failed"),',
        '    ("authorized", "lost", "unknown"),\n    ("requires_action", "failed", "failed"),',
        f"{COLLECTED}[kinds1-1-15000]",
    ),
    Mutant(
        "a refused try does not end a page",
        "services/payments/protocol.py",
        'case Refused() if now.kind == "charge"'
        ' or (now.state, now.action) == ("in_flight", "call"):',
        "case Refused():",
        f"{COLLECTED}[kinds1-1-15000]",
    ),
    Mutant(
        "a page is closed at the provider before it is let go",
        "services/payments/flows/ask.py",
        "                return await self._providers.stop_waiting(\n"
        "                    connection_id, row.tenant_id, row.provider_ref\n"
        "                )",
        "                from subledger.services.payments.protocol import Closed\n\n"
        "                return Closed()",
        "tests/payments/test_pages.py::test_a_page_paid_at_the_last_moment_is_paid_not_canceled",
    ),
    Mutant(
        "a decline that never reached the bank does not count",
        "services/payments/protocol.py",
        'refused = Refused(decline="soft", code=finding.reason, counted=False)',
        'refused = Refused(decline="soft", code=finding.reason)',
        "tests/payments/test_protocol.py"
        "::test_a_provider_that_cannot_be_reached_fails_without_counting",
    ),
    Mutant(
        "a refused capture changes nothing, whatever is known of the authorization",
        "services/payments/protocol.py",
        'if isinstance(finding, Refused) and now.action in {"capture", "void"}:',
        "if False:",
        f"{CAPTURED}[2-25000]",
    ),
    Mutant(
        "a refund that may have been made counts against the limit",
        "services/payments/refunding.py",
        'LIVE: Final = frozenset({"requested", "ready", "in_flight", "unknown", "succeeded"})',
        'LIVE: Final = frozenset({"requested", "ready", "in_flight", "succeeded"})',
        f"{REFUNDED}[2-19000]",
    ),
    Mutant(
        "a list of refunds is as old as its question",
        "services/payments/refunding.py",
        "asked_at = at if now.asked_at is None else min(at, now.asked_at)",
        "asked_at = at",
        f"{REFUNDED}[3-80000]",
    ),
    Mutant(
        "who was overtaken by another caller does not put the refund back (lease fencing)",
        "services/payments/refunding.py",
        'case _ if now.state == "in_flight" and (now.looked or not now.is_current):',
        'case _ if now.state == "in_flight" and now.looked:',
        f"{REFUNDED}[2-19000]",
    ),
    Mutant(
        "a notification is kept once (deduplication)",
        "services/webhooks/store.py",
        "        CAST(:dedupe_keys AS text[]), CAST(:kinds",
        "        CAST((SELECT array_agg(k || clock_timestamp()) FROM"
        " unnest(CAST(:dedupe_keys AS text[])) k) AS text[]), CAST(:kinds",
        "tests/webhooks/test_intake.py::test_a_signed_notification_is_kept_encrypted_and_told_once",
    ),
    Mutant(
        "a notification is signed",
        "providers/sandbox/adapter.py",
        'return "strong" if same else "rejected"',
        'return "strong"',
        "tests/webhooks/test_intake.py::test_what_is_not_verified_leaves_no_trace",
    ),
    Mutant(
        "a request under one key is done once (idempotency)",
        "platform/http/idempotency.py",
        "                keys=[each.caller.idempotency_key for each in keyed],\n",
        '                keys=[f"{a.caller.idempotency_key}{a.resource_id}" for a in keyed],\n',
        f"{RACES}test_duplicates_of_a_purchase_are_one_purchase",
    ),
    Mutant(
        "the cursor moves in the handlers' transaction",
        "platform/eventlog/consumer.py",
        "            await self._run_handlers(tx, await self._set_aside_blocked(tx, events))\n",
        "            await self._run_handlers(tx, await self._set_aside_blocked(tx, events))\n"
        '            await tx.run(sql("COMMIT"))\n',
        "tests/platform/test_eventlog.py"
        "::test_a_worker_killed_between_any_two_statements_loses_and_doubles_nothing",
    ),
    Mutant(
        "an account's money is decided under its lock",
        "services/billing/store/subscriptions.py",
        "by_keys('billing.accounts a', tenant_id='tenants', id='ids')}\"\n"
        '    " FOR NO KEY UPDATE OF a"',
        "by_keys('billing.accounts a', tenant_id='tenants', id='ids')}\"",
        "tests/stories/test_refunds.py::test_two_refunds_of_the_rest_at_once_are_one",
    ),
    Mutant(
        "every table's rows are seen by their tenant alone (row-level security)",
        "platform/schema.py",
        "USING ({VISIBLE}) WITH CHECK ({VISIBLE})",
        "USING (true) WITH CHECK ({VISIBLE})",
        "tests/platform/test_schema.py::test_the_catalogue_keeps_every_rule",
    ),
)
