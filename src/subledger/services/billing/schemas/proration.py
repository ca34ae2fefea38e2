"""How the time of a subscription is shared: the modes of ``core.proration`` as fields."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from subledger.core.proration import By, ByTime, Denominator, Rounds
from subledger.platform.http.fields import Strict


class ProrationTerms(Strict):
    """What a subscription keeps from its start on."""

    proration: Literal["day", "second", "month_of_30", "none"] = Field(
        "day",
        description="How a part of a period is shared: by days, to the second, by days as if every"
        " month had 30, or not at all: then a change holds from the next period on.",
    )
    proration_rounds: Literal["used", "credit"] = Field(
        "used",
        description="Where a change comes to half a minor unit, what is rounded up: what was used,"
        " or what is given back. The other side is the rest of what was billed.",
    )
    stub_denominator: Literal["grid", "imagined", "counted_back"] = Field(
        "grid",
        description="What a first stub is measured against: the grid's period that contains it, a"
        " period imagined from its start, or one counted back from its end by plain months.",
    )
    last_day_charged: bool = Field(
        False,
        description="Whether the day on which the subscription ends is charged to its end.",
    )

    def mode(self) -> ByTime:
        """As the core takes them."""
        return ByTime(
            By(self.proration),
            last_day_charged=self.last_day_charged,
            denominator=Denominator(self.stub_denominator),
            rounds=Rounds(self.proration_rounds),
        )
