"""A set of integers kept as gapless ranges."""

from bisect import bisect_right


class RangeSet:
    """Disjoint half-open ranges; neighbours are merged, so consecutive additions cost one entry."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many ranges, which is not how many integers."""
        return len(self._starts)

    def add(self, start: int, end: int) -> bool:
        """Add ``start .. end``; return False, and change nothing, when any of it is already there."""
        at = bisect_right(self._starts, start)
        if (at > 0 and self._ends[at - 1] > start) or (at < len(self._starts) and self._starts[at] < end):
            return False
        joins_left = at > 0 and self._ends[at - 1] == start
        joins_right = at < len(self._starts) and self._starts[at] == end
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            self._starts.pop(at)
        elif joins_left:
            self._ends[at - 1] = end
        elif joins_right:
            self._starts[at] = start
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)
        return True

    def covers(self, start: int, end: int) -> bool:
        """Whether all of ``start .. end`` is there."""
        at = bisect_right(self._starts, start)
        return at > 0 and self._ends[at - 1] >= end

    def ranges(self) -> list[tuple[int, int]]:
        """All ranges, ascending."""
        return list(zip(self._starts, self._ends, strict=True))
