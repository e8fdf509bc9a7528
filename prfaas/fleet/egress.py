"""What has crossed a link in the last day, as a value."""

from dataclasses import dataclass

BUCKET_S = 3_600.0
"""An hour: the window forgets whole ones, so bytes count for 24 hours and up to one more."""
BUCKETS = 24


@dataclass(frozen=True, slots=True)
class EgressWindow:
    """Bytes by the hour in which they crossed, oldest first; never more than one entry for each hour of the window.

    Times are seconds of one monotonic clock.
    """

    hours: tuple[tuple[int, int], ...] = ()

    def add(self, count: int, now_s: float) -> "EgressWindow":
        """The window after ``count`` more bytes (not negative)."""
        now = int(now_s // BUCKET_S)
        kept = self._kept(now)
        if kept and kept[-1][0] == now:
            return EgressWindow((*kept[:-1], (now, kept[-1][1] + count)))
        return EgressWindow((*kept, (now, count)) if count else kept)

    def used_bytes(self, now_s: float) -> int:
        """What crossed within the window that ends now."""
        return sum(count for _, count in self._kept(int(now_s // BUCKET_S)))

    def _kept(self, now: int) -> tuple[tuple[int, int], ...]:
        return tuple(each for each in self.hours if each[0] >= now - BUCKETS)
