"""How fast a link delivers while it has something to deliver; pure, durations are arguments."""

import math

AVERAGING_S = 2.0
"""Seconds of activity over which goodput is averaged: some large transfers' worth, a change shows within seconds."""
MIN_ACTIVE_S = 0.05
"""Activity is collected up to so much before it counts: acks come in lumps of a few milliseconds."""


class Goodput:
    """Moving average of delivered bytes over active time. Idle time does not count.

    A stretch in which the source ran dry tells what the engine made, not what the link can carry: it can only raise
    the average, never lower it.

    Attributes:
        bytes_s: the average, 0 before the first stretch.
    """

    def __init__(self) -> None:
        self.bytes_s = 0.0
        self._bytes = 0
        self._active_s = 0.0
        self._ran_dry = False

    def add(self, delivered_bytes: int, active_s: float, *, ran_dry: bool) -> None:
        """Count what was delivered in a stretch with ``active_s`` seconds of activity."""
        self._bytes += delivered_bytes
        self._active_s += active_s
        self._ran_dry |= ran_dry
        if self._active_s < MIN_ACTIVE_S:
            return
        rate_bytes_s = self._bytes / self._active_s
        if self.bytes_s == 0.0:
            self.bytes_s = rate_bytes_s
        elif rate_bytes_s > self.bytes_s or not self._ran_dry:
            self.bytes_s += (1 - math.exp(-self._active_s / AVERAGING_S)) * (rate_bytes_s - self.bytes_s)
        self._bytes, self._active_s, self._ran_dry = 0, 0.0, False


class Throughput:
    """Moving average of bytes over all time, idle time included: what utilisation is made of.

    Attributes:
        bytes_s: the average.
    """

    def __init__(self, now_s: float) -> None:
        self.bytes_s = 0.0
        self._at_s = now_s

    def add(self, delivered_bytes: int, now_s: float) -> None:
        """Count what was delivered since the last call."""
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0:
            self._at_s = now_s
            self.bytes_s += (1 - math.exp(-elapsed_s / AVERAGING_S)) * (delivered_bytes / elapsed_s - self.bytes_s)
