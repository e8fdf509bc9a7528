"""The best of many by cost, without sorting them."""

from collections.abc import Sequence


def best_first(costs: Sequence[float], turn: int, count: int) -> list[int]:
    """Positions of the ``count`` lowest costs, lowest first. Of equals the first place goes to each in ``turn``, the
    others by position. ``costs`` must not be empty."""
    lowest = min(costs)
    equals = [at for at, cost in enumerate(costs) if cost == lowest]
    first = equals[turn % len(equals)]
    if count == 1:
        return [first]
    others = [at for at in range(len(costs)) if at != first]
    found = [first]
    while others and len(found) < count:  # a few of few: sooner than a heap
        best = min(others, key=costs.__getitem__)
        others.remove(best)
        found.append(best)
    return found
