"""The best of many by cost, without sorting them."""

import heapq
from collections.abc import Sequence


def best_first(costs: Sequence[float], turn: int, count: int) -> list[int]:
    """Positions of the ``count`` lowest costs, lowest first. Of equals the first place goes to each in ``turn``, the
    others by position. ``costs`` must not be empty."""
    lowest = min(costs)
    equals = [at for at, cost in enumerate(costs) if cost == lowest]
    first = equals[turn % len(equals)]
    if count == 1:
        return [first]
    others = (at for at in range(len(costs)) if at != first)
    return [first, *heapq.nsmallest(count - 1, others, key=costs.__getitem__)]
