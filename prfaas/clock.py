"""Time as a service: everything that waits is given a clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time."""

    def now_s(self) -> float:
        """Seconds since an arbitrary fixed point; never goes back."""
        ...


class MonotonicClock:
    """The machine's monotonic clock (CLOCK_MONOTONIC, shared by all processes of one host)."""

    def now_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that a test moves by hand."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError(f"time cannot go back by {seconds} s")
        self._now_s += seconds
