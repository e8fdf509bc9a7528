"""The distribution of the lengths that arrived lately, in bounded memory."""

import math
from collections.abc import Iterable

from prfaas.planner.lengths import EmpiricalLengths

BINS_PER_OCTAVE = 16
"""4.4 % apart. A bin keeps the mean of what fell into it, so that sums are exact and only the order within is lost."""
MAX_TOKENS = 2**24
"""Longer than any model's context; a longer figure counts as this one. With it there are 385 bins."""
RESOLUTION = 1_000_000
"""Shares become whole numbers of this: what is rarer than one in a million is left out."""
MAX_AGE_HALVES = 200.0
"""Weights double with every half-life, and are brought down again long before a float ends (2^1024)."""


class SeenLengths:
    """Uncached lengths in bins that grow geometrically; a length of ``half_life_s`` ago counts half.

    Instead of halving all bins again and again, the newest length weighs more than the one before.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._origin_s: float | None = None
        bins = BINS_PER_OCTAVE * int(math.log2(MAX_TOKENS)) + 1
        self._weights, self._tokens = [0.0] * bins, [0.0] * bins

    def add(self, now_s: float, tokens: int) -> None:
        """A prompt of which nothing was left to compute counts as one token: the last one always is."""
        tokens = min(max(tokens, 1), MAX_TOKENS)
        at, weight = int(math.log2(tokens) * BINS_PER_OCTAVE), self._weight(now_s)
        self._weights[at] += weight
        self._tokens[at] += weight * tokens

    def lengths(self, longest_tokens: float = math.inf) -> EmpiricalLengths | None:
        """What was seen, where longer ones than ``longest_tokens`` count as that long; None before the first."""
        total = sum(self._weights)
        if total <= 0:
            return None
        counts: dict[int, int] = {}
        for weight, tokens in zip(self._weights, self._tokens, strict=True):
            if count := round(RESOLUTION * weight / total):
                length = max(int(min(round(tokens / weight), longest_tokens)), 1)
                counts[length] = counts.get(length, 0) + count
        return EmpiricalLengths.counted(counts)

    def _weight(self, now_s: float) -> float:
        """Of a length that arrives now."""
        if self._origin_s is None:
            self._origin_s = now_s
        age = (now_s - self._origin_s) / self._half_life_s
        if age > MAX_AGE_HALVES:
            self._scale(0.5**age)
            self._origin_s, age = now_s, 0.0
        return float(2.0**age)

    def _scale(self, factor: float) -> None:
        self._weights = [each * factor for each in self._weights]
        self._tokens = [each * factor for each in self._tokens]


def edges_tokens(tokens: Iterable[float]) -> list[int]:
    """The upper ends of the bins that these lengths come from, ascending: where lengths can be parted exactly."""
    return sorted({_upper_edge(int(each)) for each in tokens})


def _upper_edge(tokens: int) -> int:
    at = int(math.log2(tokens) * BINS_PER_OCTAVE)
    return max(math.ceil(2 ** ((at + 1) / BINS_PER_OCTAVE)) - 1, tokens)
