"""``subledger demo`` as its user runs it: it ends well, its books balance, a seed repeats it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

KEYS = {
    "customers", "subscriptions", "invoices", "payments_succeeded", "payments_failed", "recovered",
    "revenue_minor", "provider_captured_minor", "trial_balance_minor", "invariant_violations",
    "events", "seconds", "first_paid_invoice_s",
}  # fmt: skip
TIMES = {"seconds", "first_paid_invoice_s"}
WITHIN_S = 400


def demo(folder: Path) -> dict[str, object]:
    """One run on the embedded PostgreSQL; its last line."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUBLEDGER_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("subledger"), "demo", "--once", "--json", "--seed", "7"],
        env=environment | {"SUBLEDGER_DATA_DIR": str(folder)}, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Monthly recurring revenue" in done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.long
def test_the_demo_does_its_business_and_a_seed_repeats_it():
    with tempfile.TemporaryDirectory() as top:
        # As root the server is another user, who has to pass; runs of pytest close their own.
        Path(top).chmod(0o755)
        first, again = demo(Path(top) / "data"), demo(Path(top) / "data")  # then on old data
    assert first.keys() >= KEYS
    assert first["customers"] == first["subscriptions"] == 200
    assert first["invariant_violations"] == 0
    assert set(first["trial_balance_minor"].values()) == {0}
    assert first["provider_captured_minor"] == first["revenue_minor"]
    assert first["recovered"] > 0
    assert {k: v for k, v in first.items() if k not in TIMES} == {
        k: v for k, v in again.items() if k not in TIMES
    }
