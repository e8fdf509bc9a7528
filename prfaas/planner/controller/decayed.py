"""Rates and means of which the past is forgotten by halves. Times are the caller's, in seconds, and never fall."""

import math


class DecayedRate:
    """Events a second; one of ``half_life_s`` ago counts half of one of now.

    The sum is divided by what a constant rate would have added since the beginning, so that the rate is right from the
    first seconds on, if uncertain.
    """

    MIN_SPAN_S = 1.0
    """An event at the very beginning is no rate yet."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._began_s: float | None = None
        self._at_s = 0.0
        self._sum = 0.0

    def begin(self, now_s: float) -> None:
        """Nothing happened before now; only the first call counts."""
        if self._began_s is None:
            self._began_s = self._at_s = now_s

    def add(self, now_s: float, amount: float = 1.0) -> None:
        self.begin(now_s)
        self._sum = self._sum * self._left(now_s) + amount
        self._at_s = now_s

    def per_s(self, now_s: float) -> float:
        """0 before anything began."""
        if self._began_s is None:
            return 0.0
        span_s = max(now_s - self._began_s, self.MIN_SPAN_S)
        mean_life_s = self._half_life_s / math.log(2)
        return self._sum * self._left(now_s) / (mean_life_s * -math.expm1(-span_s / mean_life_s))

    def _left(self, now_s: float) -> float:
        return float(0.5 ** ((now_s - self._at_s) / self._half_life_s))


class DecayedMean:
    """The mean of figures, in which older ones count less."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._at_s = 0.0
        self._weight = self._sum = 0.0
        self.count = 0

    def add(self, now_s: float, figure: float) -> None:
        left = 0.5 ** ((now_s - self._at_s) / self._half_life_s)
        self._weight, self._sum = self._weight * left + 1.0, self._sum * left + figure
        self._at_s = now_s
        self.count += 1

    def mean(self) -> float | None:
        """None before the first."""
        return self._sum / self._weight if self.count else None
