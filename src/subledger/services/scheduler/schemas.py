"""What the scheduler's routes take and give."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from subledger.core.dunning import MAX_DELAY, MAX_RETRIES, FinalAction, Policy
from subledger.platform.http.fields import Strict

_EXAMPLE: JsonDict = {
    "delays_s": [86400, 259200, 432000, 604800],
    "final_action": "cancel",
    "hard_decline_stops": True,
}
_MAX_DELAY_S = int(MAX_DELAY.total_seconds())

DelayS = Annotated[int, Field(strict=True, gt=0, le=_MAX_DELAY_S)]


class DunningPolicy(Strict):
    """When a failed renewal payment is tried again, and what happens in the end."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    delays_s: Annotated[
        list[DelayS],
        Field(
            max_length=MAX_RETRIES,
            description="Seconds from each failure to the next try; the list's length is how many"
            " tries follow the first failure. An empty list means none.",
        ),
    ]
    final_action: Annotated[
        Literal["cancel", "uncollectible"],
        Field(
            description="After the last failure: `cancel` ends the invoice's subscriptions and"
            " writes the invoice off; `uncollectible` only writes it off."
        ),
    ]
    hard_decline_stops: Annotated[
        bool,
        Field(
            strict=True,
            description="Whether a decline that the bank will repeat (stolen card, closed account)"
            " takes the final action at once.",
        ),
    ]

    @classmethod
    def of(cls, policy: Policy) -> DunningPolicy:
        return cls(
            delays_s=[int(each.total_seconds()) for each in policy.delays],
            final_action="cancel" if policy.final is FinalAction.CANCEL else "uncollectible",
            hard_decline_stops=policy.hard_decline_stops,
        )

    def policy(self) -> Policy:
        return Policy(
            delays=tuple(timedelta(seconds=each) for each in self.delays_s),
            final=FinalAction(self.final_action),
            hard_decline_stops=self.hard_decline_stops,
        )
