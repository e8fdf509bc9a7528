"""Log-normal lengths, cut off at both ends: what the paper's case study has."""

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner.curve import FloatArray
from prfaas.planner.lengths import Atoms, Split, conditional_means

BINS = 8192
"""Into which a continuous distribution is cut for averages of anything but its lengths: 0.1 % apart at 10 octaves."""


@dataclass(frozen=True)
class LogNormalLengths:
    """ln L is normal with ``mu`` and ``sigma``; only lengths in [``min_tokens``, ``max_tokens``] occur.

    Raises:
        ConfigError: bounds or parameters that leave no lengths.
    """

    mu: float
    sigma: float
    min_tokens: float
    max_tokens: float

    def __post_init__(self) -> None:
        if not (0 < self.min_tokens < self.max_tokens < math.inf and self.sigma > 0 and math.isfinite(self.mu)):
            raise ConfigError(
                f"lengths: log-normal mu {self.mu:g}, sigma {self.sigma:g} in [{self.min_tokens:g}, "
                f"{self.max_tokens:g}] tokens: sigma and the bounds have to be above 0, and the bounds to ascend"
            )
        if not self._mass > 1e-6:
            raise ConfigError(
                f"lengths: log-normal mu {self.mu:g}: nearly nothing is in [{self.min_tokens:g}, {self.max_tokens:g}] "
                "tokens; mu is the natural logarithm of the median"
            )

    @functools.cached_property
    def _mass(self) -> float:
        below, above = self._normal(np.array([self.min_tokens, self.max_tokens]), 0.0)
        return float(above - below)

    @functools.cached_property
    def mean_tokens(self) -> float:
        return float(self.split(np.array([0.0])).long_tokens[0])

    def split(self, thresholds_tokens: FloatArray) -> Split:
        t = np.clip(np.asarray(thresholds_tokens, np.float64), self.min_tokens, self.max_tokens)
        bounds = np.array([self.min_tokens, self.max_tokens])
        (low, high), (low1, high1) = self._normal(bounds, 0.0), self._normal(bounds, self.sigma)
        below, below1 = self._normal(t, 0.0) - low, self._normal(t, self.sigma) - low1
        scale = math.exp(self.mu + self.sigma**2 / 2)
        share = np.clip(1 - below / (high - low), 0.0, 1.0)
        share[t >= self.max_tokens] = 0.0
        return Split(
            share,
            conditional_means(scale * (high1 - low1 - below1), (high - low) * share, t, self.max_tokens),
            conditional_means(scale * below1, (high - low) * (1 - share), self.min_tokens, t),
        )

    @functools.cached_property
    def atoms(self) -> Atoms:
        edges = np.geomspace(self.min_tokens, self.max_tokens, BINS + 1)
        edges[0], edges[-1] = self.min_tokens, self.max_tokens
        weights = np.maximum(np.diff(self._normal(edges, 0.0)), 0.0)
        moments = math.exp(self.mu + self.sigma**2 / 2) * np.diff(self._normal(edges, self.sigma))
        return Atoms(conditional_means(moments, weights, edges[:-1], edges[1:]), weights / weights.sum())

    def quantiles(self, shares: FloatArray) -> FloatArray:
        low, high = self._normal(np.array([self.min_tokens, self.max_tokens]), 0.0)
        normal = NormalDist(self.mu, self.sigma)
        within = np.clip(low + (high - low) * np.asarray(shares, np.float64), 1e-15, 1 - 1e-15)
        tokens = np.exp([normal.inv_cdf(float(each)) for each in within])
        return np.asarray(np.clip(tokens, self.min_tokens, self.max_tokens), np.float64)

    def _normal(self, tokens: FloatArray, shift: float) -> FloatArray:
        """The normal distribution function at ln(tokens), of lengths (0) or of their first moment (sigma)."""
        z = ((np.log(tokens) - self.mu) / self.sigma - shift) / math.sqrt(2)
        return np.array([0.5 * math.erfc(-each) for each in z.tolist()])
