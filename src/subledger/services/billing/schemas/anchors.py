"""Where a billing cycle hangs: what a buyer asks for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import ConfigDict, Field, model_validator

from subledger.core.errors import CoreError
from subledger.platform.http.fields import Strict, Timestamp
from subledger.services.billing.usecases import anchors
from subledger.services.billing.usecases.reanchor import When


class BillingAnchor(Strict):
    """On what day periods begin. ``anniversary``: as the first one did, to the second.
    ``start_day``: at local midnight of that day. ``calendar``: the 1st of a month, quarter,
    half-year or year, or Monday. ``day``: a day of the month (31 is always the last), with
    ``month`` of a year; for weeks 1 (Monday) to 7. What lies before the first such day is a
    stub."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "calendar"}, {"kind": "day", "day": 15}]}
    )

    kind: Literal["anniversary", "start_day", "calendar", "day"]
    day: Annotated[int, Field(strict=True, ge=1, le=31)] | None = None
    month: Annotated[int, Field(strict=True, ge=1, le=12)] | None = None
    month_end: Literal["clamp", "last_day"] = Field(
        "clamp",
        description="Of a start on a month's last day that is not the 31st: `clamp` keeps the day"
        " (28 February stays on the 28th), `last_day` keeps to last days.",
    )
    origin: Literal["preceding", "own_unit"] = Field(
        "preceding",
        description="Where a cycle of several units is counted from: `preceding`, the day's last"
        " occurrence before the start, or the calendar's own beginning; `own_unit`, the month,"
        " year or week of the start.",
    )

    @model_validator(mode="after")
    def _possible(self) -> BillingAnchor:
        try:
            anchors.alignment(self.text())
        except CoreError as refused:
            raise ValueError(f"{refused.detail}. {refused.fix}") from refused
        return self

    def text(self) -> str:
        """As it is kept: JSON text, without what is as usual."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def of(cls, kept: str) -> BillingAnchor:
        return cls(**msgspec.json.decode(kept))


class AnchorChange(Strict):
    """Another billing anchor, and from when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"billing_anchor": {"kind": "day", "day": 15}, "when": "next_grid_day"},
                {"billing_anchor": {"kind": "anniversary"}, "when": "now"},
                {"billing_anchor": {"kind": "calendar"}, "at": "2026-06-15T00:00:00Z"},
            ]
        }
    )

    billing_anchor: BillingAnchor
    when: When = Field(
        "period_end",
        description="`now` ends the present period, gives back what is unused of it and charges up"
        " to the first new boundary; `next_grid_day` does so on the new anchor's next day; at the"
        " period's end nothing is given back.",
    )
    at: Timestamp | None = Field(
        None,
        description="Instead of `when`: the moment, not before now, at which the running period"
        " ends and the new cycle begins, as with `now`.",
    )

    @model_validator(mode="after")
    def _one_moment(self) -> AnchorChange:
        if self.at is not None and "when" in self.model_fields_set:
            raise ValueError("give `when` or `at`, not both")
        return self

    def moment(self) -> datetime | When:
        return self.at or self.when
