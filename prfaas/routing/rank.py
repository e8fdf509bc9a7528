"""The best of many by cost, without sorting them."""

import math
from collections.abc import Sequence


def best_first(costs: Sequence[float], turn: int, count: int) -> list[int]:
    """Positions of the ``count`` lowest costs, lowest first. Of equals the first place goes to each in ``turn``, the
    others by position. ``costs`` must not be empty, and finite."""
    left = list(costs)
    lowest = min(left)
    equals = left.count(lowest)
    first = left.index(lowest) if equals == 1 else _nth(left, lowest, turn % equals)
    found = [first]
    for _ in range(min(count, len(left)) - 1):  # a few of few: sooner than a heap
        left[found[-1]] = math.inf
        found.append(left.index(min(left)))
    return found


def _nth(values: list[float], value: float, nth: int) -> int:
    at = values.index(value)
    for _ in range(nth):
        at = values.index(value, at + 1)
    return at
