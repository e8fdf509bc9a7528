"""Quantities that grow with the length of a prompt: seconds of a prefill, bytes of its cache.

A curve is what lies between and beyond measured points, and says so:

- ``PiecewiseLinear`` goes straight from point to point. Below the shortest measured prompt it stays at that one's
  value, which is never too good; beyond the longest it goes on as between the last two.
- ``Quadratic`` has a fixed, a linear and a quadratic part, none of them negative: given, or the points' least squares.

Neither answers for prompts longer than ``EXTRAPOLATION`` times the longest measured one.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prfaas.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

EXTRAPOLATION = 2.0
"""Attention's quadratic part at most doubles its share in here; further out a straight line is a guess."""
FIT_TOLERANCE = 0.25
"""Points further from their fit than this are not of that shape."""


class Curve(Protocol):
    """A positive quantity that never falls as prompts grow."""

    @property
    def longest_tokens(self) -> float:
        """The longest prompt that was measured, infinite for a formula."""
        ...

    def at(self, tokens: FloatArray) -> FloatArray:
        """The quantity at each of these lengths. Raises ConfigError too far beyond what was measured."""
        ...


@dataclass(frozen=True, slots=True)
class PiecewiseLinear:
    """Straight lines between points, in ascending order of tokens; at least two."""

    tokens: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def longest_tokens(self) -> float:
        return self.tokens[-1]

    def at(self, tokens: FloatArray) -> FloatArray:
        _check_reach(tokens, self.longest_tokens)
        (x1, x2), (y1, y2) = self.tokens[-2:], self.values[-2:]
        beyond = np.maximum(tokens - x2, 0.0) * ((y2 - y1) / (x2 - x1))
        return np.asarray(np.interp(tokens, self.tokens, self.values) + beyond, np.float64)


@dataclass(frozen=True, slots=True)
class Quadratic:
    """fixed + linear * l + quadratic * l^2, with l in tokens; no part is negative and not all are zero."""

    fixed: float
    linear: float
    quadratic: float = 0.0
    longest_tokens: float = math.inf

    def at(self, tokens: FloatArray) -> FloatArray:
        _check_reach(tokens, self.longest_tokens)
        return np.asarray(self.fixed + self.linear * tokens + self.quadratic * tokens * tokens, np.float64)


def least_squares(tokens: Sequence[float], values: Sequence[float], *, is_linear: bool = False) -> Quadratic:
    """The curve with the least sum of squared differences, among those without a negative part.

    The parts are few enough to try every choice of which are zero. Two points, or ``is_linear``, give a straight line.
    """
    x, y = np.asarray(tokens, np.float64) / max(tokens), np.asarray(values, np.float64)
    powers = range(2 if is_linear or len(tokens) < 3 else 3)
    best, best_error = np.zeros(3), math.inf
    for kept in itertools.chain.from_iterable(itertools.combinations(powers, n) for n in range(1, len(powers) + 1)):
        columns = np.stack([x**power for power in kept], axis=1)
        parts = np.linalg.lstsq(columns, y, rcond=None)[0]
        error = float(np.sum((columns @ parts - y) ** 2))
        if parts.min() >= 0 and error < best_error:
            best, best_error = np.zeros(3), error
            best[list(kept)] = parts
    scaled = best / np.array([1.0, max(tokens), max(tokens) ** 2])
    return Quadratic(float(scaled[0]), float(scaled[1]), float(scaled[2]), float(max(tokens)))


def fit_error(curve: Curve, tokens: Sequence[float], values: Sequence[float]) -> float:
    """The largest difference between the curve and a point, as a share of the point."""
    y = np.asarray(values, np.float64)
    return float(np.max(np.abs(curve.at(np.asarray(tokens, np.float64)) - y) / y))


def _check_reach(tokens: FloatArray, longest_tokens: float) -> None:
    if tokens.size and float(tokens.max()) > EXTRAPOLATION * longest_tokens:
        raise ConfigError(
            f"prompts of {tokens.max():.0f} tokens: the profile ends at {longest_tokens:.0f} and is not stretched "
            f"beyond {EXTRAPOLATION:g} times that: measure longer prompts, or bound the lengths"
        )
