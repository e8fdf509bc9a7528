"""The virtual clock, and what happens when."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Handler = Callable[[Any], None]


class Events:
    """Handlers in the order of their times; of equal times, in the order in which they were scheduled.

    Attributes:
        now_s: the time of the event that is handled, from 0 on; never falls.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Handler, Any]] = []
        self._count = 0

    def at(self, time_s: float, handler: Handler, argument: Any = None) -> None:
        """Call ``handler(argument)`` at that time, which is not past."""
        self._count += 1
        heappush(self._heap, (time_s, self._count, handler, argument))

    def run(self) -> None:
        """Until nothing is left to happen."""
        heap = self._heap
        while heap:
            self.now_s, _, handler, argument = heappop(heap)
            handler(argument)

    def __len__(self) -> int:
        """How many are to come."""
        return len(self._heap)
