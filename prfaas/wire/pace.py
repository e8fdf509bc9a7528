"""Sending no faster than a configured rate."""

BURST_S = 0.005
"""What may leave at once after a pause: more than a timer is late (2 ms), little for a router's queue."""


class Pace:
    """A token bucket over bytes. A frame leaves while the bucket is not in debt, and may put it there: it is not split.
    Time is an argument.

    Args:
        rate_bytes_s: bytes a second, headers not counted; 0 for no limit.
        now_s: the time at which the bucket is full.
    """

    def __init__(self, rate_bytes_s: float, now_s: float) -> None:
        self._rate_bytes_s = rate_bytes_s
        self._tokens = self._burst_bytes = rate_bytes_s * BURST_S
        self._filled_s = now_s

    @property
    def is_limited(self) -> bool:
        """Whether anything ever has to wait."""
        return self._rate_bytes_s > 0

    def wait_s(self, now_s: float) -> float:
        """How long the next frame has to wait; 0 when it may leave now."""
        if not self._rate_bytes_s:
            return 0.0
        earned = (now_s - self._filled_s) * self._rate_bytes_s
        self._tokens = min(self._tokens + earned, self._burst_bytes)
        self._filled_s = now_s
        return max(0.0, -self._tokens / self._rate_bytes_s)

    def spend(self, size_bytes: int) -> None:
        """A frame leaves."""
        self._tokens -= size_bytes
