"""What becomes of access while a payment is disputed."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from subledger.platform.http.fields import Strict


class DisputePolicy(Strict):
    """What becomes of the subscriptions that a disputed payment paid for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"on_dispute": "suspend"}]})

    on_dispute: Literal["keep", "suspend", "cancel"] = Field(
        "keep",
        description="`keep`: they go on. `suspend`: they are paused, and with them their access,"
        " until the dispute is won; if it is lost they are canceled. `cancel`: they are canceled as"
        " soon as it is opened.",
    )
