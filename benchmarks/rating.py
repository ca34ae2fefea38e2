"""Invoices computed per second in the pure engine, on one core: ``--json``.

``flat_invoices_per_s``: one flat price. ``mixed_invoices_per_s``: five prices (flat, per unit,
graduated, volume, package) with a percentage off and a tax. Every invoice is a draft of another
period, with its derivations; nothing is cached between periods but what production keeps too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from decimal import Decimal

from subledger.core.calendar import Anchor, Interval, Unit
from subledger.core.discounts import Discount, Duration, Kind, Running
from subledger.core.invoicing import draft
from subledger.core.pricing import Flat, Graduated, Package, PerUnit, Tier, Volume
from subledger.core.tax import Place, Rate
from subledger.core.timeline import Item, Phase, Taxed, Timeline

START = datetime(2026, 1, 31, 10, tzinfo=UTC)
HORIZON = datetime(2150, 1, 1, tzinfo=UTC)
PERIODS = 1_200
VAT = Taxed((Rate("vat", Decimal(19), "VAT", Place("DE")),))
QUANTITY = Decimal("37.5")


def _timeline(items: tuple[Item, ...], *attached: Running) -> Timeline:
    return Timeline(
        anchor=Anchor(START, "Europe/Berlin"),
        interval=Interval(Unit.MONTH),
        currency="EUR",
        phases=(Phase(START, items),),
        attached=attached,
    )


def flat() -> Timeline:
    """One flat price, as most subscriptions have."""
    return _timeline((Item("base", Flat(999), Decimal(1)),))


def mixed() -> Timeline:
    """Five prices, 12.5 % off, 19 % of tax."""
    tiers = (Tier(Decimal(10), Decimal(100)), Tier(None, Decimal(80)))
    models = (
        Flat(999), PerUnit(Decimal("12.345")), Graduated(tiers), Volume(tiers),
        Package(Decimal(10), Decimal(500)),
    )  # fmt: skip
    percent = Discount("spring", Kind.PERCENT, Decimal("12.5"), None, None, Duration.FOREVER, None)
    items = tuple(Item(f"price{n}", each, QUANTITY, taxed=VAT) for n, each in enumerate(models))
    return _timeline(items, Running(percent))


def per_second(timeline: Timeline, seconds: float) -> float:
    """Drafts per second; each is checked to have its lines."""
    lines = len(timeline.phases[0].items)
    began, n = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(100):
            found = draft(timeline, first_period=n % PERIODS, horizon_at=HORIZON)
            assert len(found.lines) == lines
            n += 1
    return n / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of three rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    given = parser.parse_args()
    found = {
        name: round(statistics.median(per_second(of(), given.seconds) for _ in range(3)))
        for name, of in (("flat_invoices_per_s", flat), ("mixed_invoices_per_s", mixed))
    }
    if given.json:
        print(json.dumps(found))
    else:
        for name, figure in found.items():
            print(f"{name}: {figure:,}")


if __name__ == "__main__":
    main()
