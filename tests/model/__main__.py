"""``python -m tests.model``: how much of each small world was searched (two minutes)."""

from __future__ import annotations

from tests.model.capturing import Capturing
from tests.model.collecting import Collecting
from tests.model.refunds import Refunds
from tests.model.search import explore

WORLDS = (
    (("charge",), 4), (("page",), 2), (("charge", "charge"), 2), (("charge", "page"), 1),
    (("page", "charge"), 1), (("charge", "charge", "page"), 0),
)  # fmt: skip

if __name__ == "__main__":
    for kinds, faults in WORLDS:
        print(f"{' + '.join(kinds)}, {faults} faults: {explore(Collecting(kinds, faults))}")
    print(f"an authorization, 3 faults: {explore(Capturing(3))}")
    print(f"two refunds, 3 faults: {explore(Refunds(3))}")
