"""``subledger demo`` as its user runs it: it ends well, its books balance, a seed repeats it.

What seed 7 comes to stands in ``demo_seed_7.json``, without the times; a change of the demo or of
what Subledger does with it changes the file, to be looked at line by line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TIMES = {"seconds", "first_paid_invoice_s"}
RECORDED = json.loads(Path(__file__).with_name("demo_seed_7.json").read_text())
WITHIN_S = 900
HEADINGS = (
    "Monthly recurring revenue", "A payer whose bank asks (3-D Secure)", "A refund, seen before",
    "A dispute, lost", "A provider that was dead for a day",
)  # fmt: skip


def demo(folder: Path) -> dict[str, object]:
    """One run on the embedded PostgreSQL; its last line."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUBLEDGER_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("subledger"), "demo", "--once", "--json", "--seed", "7"],
        env=environment | {"SUBLEDGER_DATA_DIR": str(folder)}, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    for heading in HEADINGS:
        assert heading in done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.long
def test_the_demo_does_its_business_and_a_seed_repeats_it():
    with tempfile.TemporaryDirectory() as top:
        # As root the server is another user, who has to pass; runs of pytest close their own.
        Path(top).chmod(0o755)
        found = demo(Path(top) / "data")
    assert found["customers"] == found["subscriptions"] == 200
    assert found["invariant_violations"] == 0
    assert set(found["trial_balance_minor"].values()) == {0}
    kept, refunded = found["provider_captured_minor"], found["refunded_minor"]
    assert {c: kept[c] + refunded.get(c, 0) for c in kept} == found["revenue_minor"]
    assert refunded.keys() == {"USD"}
    assert 0 < refunded["USD"] < 1799
    # What the bank took back is a loss: the invoice stays paid, the capture in the journal.
    assert found["disputes_lost_minor"]["EUR"] in {599, 999, 1499}
    assert found["dispute_fees_minor"] == {"EUR": 1500}
    assert found["secure_payments"] == 2
    assert found["outage_payments"] == found["outage_waited"] == found["outage_recovered"] > 4
    assert (found["outage_unknown"], found["doubles"]) == (4, 0)
    assert found["recovered"] > 0
    assert found.keys() == RECORDED.keys() | TIMES
    assert {k: v for k, v in found.items() if k not in TIMES} == RECORDED
