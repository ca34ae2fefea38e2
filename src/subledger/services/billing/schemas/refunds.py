"""What a refund that was made at the provider does to the subscription."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from subledger.platform.http.fields import Strict


class RefundPolicy(Strict):
    """What becomes of a subscription whose present period was refunded at the provider."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"on_outside_refund": "cancel"}]})

    on_outside_refund: Literal["keep", "cancel"] = Field(
        "keep",
        description="`keep`: it goes on. `cancel`: it ends at once if all of the payment of its"
        " present period went back. A part never ends it; a work item `refund_outside` is opened"
        " either way.",
    )
