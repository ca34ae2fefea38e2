"""What the routes of revenue take and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from subledger.core.recognition import Mode
from subledger.platform.http.fields import Strict, Timestamp, TimeZoneName
from subledger.services.billing.schemas.references import InvoiceId
from subledger.services.billing.usecases import revenue

MonthName = Annotated[
    str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", examples=["2026-03"], max_length=7)
]
_POLICY: JsonDict = {"mode": "day", "timezone": "Europe/Berlin"}


class RevenuePolicy(Strict):
    """How net becomes revenue over a line's service period."""

    model_config = ConfigDict(json_schema_extra={"examples": [_POLICY]})

    mode: Literal["day", "second"] = Field(
        description="`day`: evenly over the local days, each when it is over; `second`: evenly over"
        " the time itself, released each hour."
    )
    timezone: TimeZoneName = Field(
        description="The zone of your books: where its days and months end."
    )

    def to_mode(self) -> Mode:
        return Mode(self.mode)


class MonthShare(Strict):
    """One month, minor units."""

    month: MonthName
    recognized_minor: int
    to_come_minor: int

    @classmethod
    def all_of(cls, months: Sequence[revenue.MonthShare]) -> list[MonthShare]:
        return [
            cls(
                month=each.month,
                recognized_minor=each.recognized_minor,
                to_come_minor=each.to_come_minor,
            )
            for each in months
        ]


class ScheduledLine(Strict):
    """One invoice line. ``net_minor`` is what stands of it after credit notes."""

    n: int
    net_minor: int
    service_start_at: Timestamp
    service_end_at: Timestamp
    mode: Literal["day", "second"]
    timezone: str
    recognized_minor: int
    deferred_minor: int
    months: list[MonthShare]

    @classmethod
    def of(cls, line: revenue.LineSchedule) -> ScheduledLine:
        row = line.row
        return cls(
            n=row.n,
            net_minor=row.net_minor,
            service_start_at=row.service_start_at,
            service_end_at=row.service_end_at,
            mode=row.mode,
            timezone=row.timezone,
            recognized_minor=row.released_minor,
            deferred_minor=row.net_minor - row.released_minor,
            months=MonthShare.all_of(line.months),
        )


class RevenueSchedule(Strict):
    """When the lines of an invoice become revenue. Lines of zero are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "invoice_id": "inv_01h455vb4pex5vsknk084sn02q",
                    "lines": [
                        {
                            "n": 1,
                            "net_minor": 3100,
                            "service_start_at": "2026-03-16T00:00:00Z",
                            "service_end_at": "2026-04-16T00:00:00Z",
                            "mode": "day",
                            "timezone": "UTC",
                            "recognized_minor": 1700,
                            "deferred_minor": 1400,
                            "months": [
                                {
                                    "month": "2026-03",
                                    "recognized_minor": 1600,
                                    "to_come_minor": 0,
                                },
                                {
                                    "month": "2026-04",
                                    "recognized_minor": 100,
                                    "to_come_minor": 1400,
                                },
                            ],
                        }
                    ],
                }
            ]
        }
    )

    invoice_id: InvoiceId
    lines: list[ScheduledLine]

    @classmethod
    def of(cls, invoice_id: UUID, lines: Sequence[revenue.LineSchedule]) -> RevenueSchedule:
        return cls(invoice_id=invoice_id, lines=[ScheduledLine.of(each) for each in lines])


class RevenueCurrency(Strict):
    """The months of one currency."""

    currency: str
    recognized_minor: int
    to_come_minor: int
    months: list[MonthShare]


class Revenue(Strict):
    """Revenue by month, in the zone of your books."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "timezone": "UTC",
                    "currencies": [
                        {
                            "currency": "EUR",
                            "recognized_minor": 1600,
                            "to_come_minor": 1500,
                            "months": [
                                {
                                    "month": "2026-03",
                                    "recognized_minor": 1600,
                                    "to_come_minor": 0,
                                },
                                {
                                    "month": "2026-04",
                                    "recognized_minor": 0,
                                    "to_come_minor": 1500,
                                },
                            ],
                        }
                    ],
                }
            ]
        }
    )

    timezone: str
    currencies: list[RevenueCurrency]

    @classmethod
    def of(cls, found: revenue.Revenue) -> Revenue:
        return cls(
            timezone=found.timezone,
            currencies=[
                RevenueCurrency(
                    currency=currency,
                    recognized_minor=sum(each.recognized_minor for each in months),
                    to_come_minor=sum(each.to_come_minor for each in months),
                    months=MonthShare.all_of(months),
                )
                for currency, months in found.currencies.items()
            ],
        )
