"""What is wanted of an authorization, as pure functions: a capture or a void, until it is over.

The first wish stands. Who works one off asks the provider first and captures only what is open
there; so a wish may be worked off again, whatever became of the caller before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from subledger.services.payments.protocol import (
    HELD_BACK_S,
    MOST_TRIES,
    TERMINAL,
    Finding,
    Lost,
    NotSent,
)

CAPTURE: Final = "capture"
VOID: Final = "void"


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to do after a wish was worked off once.

    ``kind`` None: nothing is wanted any more. ``ready_in_s`` (wall clock): when it is taken up
    again; None: not before the provider was asked how the authorization stands. ``comes_again``: it
    may still be open there, so the moment at which it is let go has to come once more.
    """

    kind: str | None
    tries: int = 0
    ready_in_s: float | None = None
    comes_again: bool = False


def refused_because(state: str, wish: str | None) -> str | None:
    """Why a new wish is not taken, or None: only what is authorized can be captured or let go, and
    the wish that was there first stands."""
    if state != "authorized":
        return state
    return {None: None, CAPTURE: "capturing", VOID: "canceling"}[wish]


def left(state: str, wish: str | None, tries: int, finding: Finding) -> Left:
    """What is left of ``wish`` once ``finding`` was applied to its attempt, which is in ``state``
    now; ``tries`` were made before this one, ``MOST_TRIES`` at most are made."""
    if state in TERMINAL or wish is None:
        return Left(None, tries)
    tries += 1
    goes_on = wish == CAPTURE and tries < MOST_TRIES
    if state == "unknown" and goes_on:
        # Asked about first: who finds it authorized goes on with the capture.
        return Left(wish, tries)
    if state == "authorized" and goes_on and isinstance(finding, NotSent):
        wait_s = finding.retry_after_s or min(0.2 * 2**tries, HELD_BACK_S)
        return Left(wish, tries, ready_in_s=wait_s)
    return Left(None, comes_again=wish == VOID and isinstance(finding, Lost | NotSent))
