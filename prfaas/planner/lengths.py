"""Distributions of prompt lengths: what share is longer than a threshold, and how long those are on average.

Lengths are the *uncached* tokens of a prompt, L of the model; without prefix hits that is the whole prompt.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner.curve import FloatArray


@dataclass(frozen=True, slots=True)
class Split:
    """A distribution cut at thresholds t; arrays in the order of the thresholds.

    Attributes:
        long_share: p = P(L > t).
        long_tokens: l_long = E[L | L > t]; where nothing is longer, its limit, the longest length.
        short_tokens: l_short = E[L | L <= t]; where nothing is shorter, its limit, the shortest length.
    """

    long_share: FloatArray
    long_tokens: FloatArray
    short_tokens: FloatArray


@dataclass(frozen=True, slots=True)
class Atoms:
    """The distribution as finitely many lengths, ascending, with weights that add up to 1."""

    tokens: FloatArray
    weights: FloatArray


class Lengths(Protocol):
    """A distribution of lengths between ``min_tokens`` and ``max_tokens``, both above 0."""

    @property
    def min_tokens(self) -> float: ...

    @property
    def max_tokens(self) -> float: ...

    @property
    def mean_tokens(self) -> float: ...

    @property
    def atoms(self) -> Atoms: ...

    def split(self, thresholds_tokens: FloatArray) -> Split: ...

    def quantiles(self, shares: FloatArray) -> FloatArray:
        """The lengths that these shares, in [0, 1], do not exceed; of uniform random shares, a sample."""
        ...


@dataclass(frozen=True)
class EmpiricalLengths:
    """Lengths that were seen, ascending, and how often each; make it with ``of`` or ``counted``."""

    tokens: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, lengths_tokens: Iterable[int]) -> "EmpiricalLengths":
        """From a list of lengths. Raises ConfigError when it is empty or one is below 1."""
        counts: dict[int, int] = {}
        for each in lengths_tokens:
            counts[each] = counts.get(each, 0) + 1
        return cls.counted(counts)

    @classmethod
    def counted(cls, counts: Mapping[int, int]) -> "EmpiricalLengths":
        """From length -> how often. Raises ConfigError when it is empty or a length is below 1."""
        if not counts:
            raise ConfigError("lengths: there are none: give at least one request")
        if min(counts) < 1 or min(counts.values()) < 1:
            raise ConfigError(f"lengths: {min(counts)} tokens: each has to be 1 or more, and to occur")
        return cls(tuple(sorted(counts)), tuple(counts[each] for each in sorted(counts)))

    @property
    def min_tokens(self) -> float:
        return float(self.tokens[0])

    @property
    def max_tokens(self) -> float:
        return float(self.tokens[-1])

    @functools.cached_property
    def mean_tokens(self) -> float:
        return float(self.atoms.tokens @ self.atoms.weights)

    @functools.cached_property
    def atoms(self) -> Atoms:
        weights = np.asarray(self.counts, np.float64)
        return Atoms(np.asarray(self.tokens, np.float64), weights / weights.sum())

    @functools.cached_property
    def _below(self) -> tuple[FloatArray, FloatArray]:
        """Requests among the first i lengths, and their tokens; whole numbers, so exact."""
        counts, tokens = np.asarray(self.counts, np.float64), self.atoms.tokens
        return np.concatenate([[0.0], np.cumsum(counts)]), np.concatenate([[0.0], np.cumsum(counts * tokens)])

    def split(self, thresholds_tokens: FloatArray) -> Split:
        t = np.asarray(thresholds_tokens, np.float64)
        counts, moments = self._below
        at = np.searchsorted(self.atoms.tokens, t, side="right")
        return Split(
            (counts[-1] - counts[at]) / counts[-1],
            conditional_means(moments[-1] - moments[at], counts[-1] - counts[at], self.min_tokens, self.max_tokens),
            np.where(
                at > 0, conditional_means(moments[at], counts[at], self.min_tokens, self.max_tokens), self.min_tokens
            ),
        )

    def quantiles(self, shares: FloatArray) -> FloatArray:
        at = np.searchsorted(self._below[0][1:], np.asarray(shares, np.float64) * self._below[0][-1], side="left")
        return np.asarray(self.atoms.tokens[np.minimum(at, len(self.tokens) - 1)], np.float64)


def conditional_means(
    moments: FloatArray, masses: FloatArray, low: float | FloatArray, high: float | FloatArray
) -> FloatArray:
    """Means of parts of a distribution, which lie in [low, high]; an empty part's is ``high``."""
    is_there = masses > 1e-12
    means = np.where(is_there, moments / np.where(is_there, masses, 1.0), high)
    return np.asarray(np.clip(means, low, high), np.float64)
