"""What holds calls of one connection back: a token bucket and a circuit breaker.

Pure: ``now_s`` is a monotonic clock that the caller reads, so every wait can be tested.
"""

from __future__ import annotations

from enum import Enum

OPENS_AFTER = 5
"""Unknown outcomes in a row after which a connection is left alone."""


class Bucket:
    """At most ``burst`` calls at once and ``rate_per_s`` in the long run, in order of asking.

    Whoever takes a token is told how long to wait until it holds; those who ask later wait
    longer, and nobody is passed.
    """

    def __init__(self, *, rate_per_s: float, burst: int, now_s: float) -> None:
        assert rate_per_s > 0, "no call would ever be made"
        assert burst >= 1, "no call would ever be made"
        self._gap_s = 1 / rate_per_s
        self._burst = burst
        self._last_s = now_s - self._gap_s * burst
        """When the token taken last holds."""

    def ready_in_s(self, now_s: float) -> float:
        """Seconds until the next token holds."""
        return max(0.0, self._next_s(now_s) - now_s)

    def take(self, now_s: float) -> float:
        """Take the next token; returns the seconds until it holds."""
        wait_s = self.ready_in_s(now_s)
        self._last_s = self._next_s(now_s)
        return wait_s

    def hold(self, until_s: float) -> None:
        """Nothing before ``until_s``, then one after another; what was held for longer stays."""
        self._last_s = max(self._last_s, until_s - self._gap_s)

    def _next_s(self, now_s: float) -> float:
        return max(self._last_s, now_s - self._gap_s * self._burst) + self._gap_s


class Said(Enum):
    """What an outcome says of a provider's health."""

    ANSWERED = "answered"
    LOST = "lost"
    NOTHING = "nothing"
    """It was not reached: that says nothing of how it answers."""


class Pass(Enum):
    """What the breaker lets through."""

    NO = "no"
    CALL = "call"
    PROBE = "probe"


class Breaker:
    """Opens after repeated unknowns; later one call at a time tries whether it is over.

    Closed, it lets everything through. Open for ``open_for_s``, nothing. After that one probe:
    an answer closes it, a loss opens it again, and a probe that reached nobody leaves the next
    caller to try.
    """

    def __init__(self, *, open_for_s: float) -> None:
        self._open_for_s = open_for_s
        self._losses = 0
        self._open_until_s: float | None = None
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        return self._open_until_s is None

    def ready_in_s(self, now_s: float) -> float:
        """Seconds until a probe may pass."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - now_s)

    def admit(self, now_s: float) -> Pass:
        """Whether a call may be made now. How it ended must be told to ``note``."""
        if self._open_until_s is None:
            return Pass.CALL
        if self._is_probing or now_s < self._open_until_s:
            return Pass.NO
        self._is_probing = True
        return Pass.PROBE

    def note(self, said: Said, now_s: float, *, passed: Pass) -> None:
        """A call ended. While open only the probe counts: calls from before tell nothing new, and
        a provider may answer questions, which are always asked, while it loses charges."""
        if passed is Pass.PROBE:
            self._is_probing = False
            if said is Said.ANSWERED:
                self._open_until_s, self._losses = None, 0
            elif said is Said.LOST:
                self._open_until_s = now_s + self._open_for_s
        elif self._open_until_s is None and said is not Said.NOTHING:
            self._losses = self._losses + 1 if said is Said.LOST else 0
            if self._losses >= OPENS_AFTER:
                self._losses = 0
                self._open_until_s = now_s + self._open_for_s
