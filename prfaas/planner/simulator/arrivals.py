"""Requests one after the other, made as they are asked for: memory stays flat however many there are."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner.curve import FloatArray
from prfaas.planner.lengths import Lengths
from prfaas.planner.simulator.cache import BLOCK_TOKENS
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.trace import TraceRequest, read_trace

CHUNK = 4096
"""Random numbers are drawn so many at a time."""
GRID = 1 << 14
"""Quantiles of lengths that are kept: 0.006 % apart."""

Scale = Callable[[float], float]
"""A factor at a time in seconds."""


def constant(at_s: float) -> float:
    """1."""
    return 1.0


def ramp(begin_s: float, end_s: float, factor: float) -> Scale:
    """1 until ``begin_s``, ``factor`` from ``end_s`` on, a straight line between."""

    def scale(at_s: float) -> float:
        share = min(max((at_s - begin_s) / (end_s - begin_s), 0.0), 1.0)
        return 1.0 + (factor - 1.0) * share

    return scale


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prompts that begin alike.

    Attributes:
        share: of each prompt's tokens, in [0, 1), that it has in common with the others of its group.
        groups: so many different beginnings, drawn evenly.
    """

    share: float
    groups: int = 64

    def __post_init__(self) -> None:
        if not (0 <= self.share < 1 and 1 <= self.groups <= 1_000_000):
            raise ConfigError(f"prefixes: share {self.share:g} has to be in [0, 1), groups {self.groups} 1 or more")


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Requests out of distributions; call it for a new, equal sequence.

    Attributes:
        requests_s: mean rate.
        duration_s: arrivals end then.
        lengths: of prompts, cached beginnings included.
        output_tokens: mean of an answer.
        seed: of everything that is drawn.
        cv: coefficient of variation of the time between two arrivals: 1 is Poisson, more comes in bursts (Gamma).
        output_cv: of answers: 0 for all alike, 1 for exponential.
        length_scale: factor on prompts' lengths by time.
        max_tokens: of a prompt, whatever the scale.
        prefixes: None for prompts that have nothing in common.
    """

    requests_s: float
    duration_s: float
    lengths: Lengths
    output_tokens: float
    seed: int = 0
    cv: float = 1.0
    output_cv: float = 0.0
    length_scale: Scale = constant
    max_tokens: int = 131_072
    prefixes: Prefixes | None = None

    def __post_init__(self) -> None:
        if not (0 < self.requests_s < math.inf and 0 < self.duration_s < math.inf):
            raise ConfigError("workload: requests_s and duration_s have to be above 0, and finite")
        if self.cv < 0 or self.output_cv < 0 or self.output_tokens < 1 or self.seed < 0:
            raise ConfigError("workload: cv, output_cv and seed have to be 0 or more, output_tokens 1 or more")

    def __call__(self) -> Iterator[Arrival]:
        rng = np.random.default_rng(self.seed)
        table = self.lengths.quantiles((np.arange(GRID) + 0.5) / GRID)
        at_s, ids = 0.0, itertools.count(1 << 32)
        while True:
            gaps = _gamma(rng, 1 / self.requests_s, self.cv).tolist()
            lengths = table[rng.integers(0, GRID, CHUNK)].tolist()
            outputs = _gamma(rng, self.output_tokens, self.output_cv).tolist()
            groups = rng.integers(0, self.prefixes.groups, CHUNK).tolist() if self.prefixes else itertools.repeat(0)
            for gap, length, output, group in zip(gaps, lengths, outputs, groups, strict=False):
                at_s += gap
                if at_s > self.duration_s:
                    return
                tokens = max(1, min(round(length * self.length_scale(at_s)), self.max_tokens))
                blocks = self._blocks(tokens, group, ids) if self.prefixes else ()
                yield Arrival(at_s, tokens, max(1, round(output)), blocks)

    def _blocks(self, tokens: int, group: int, ids: Iterator[int]) -> tuple[int, ...]:
        """Of the common beginning the group's ids, then new ones."""
        assert self.prefixes is not None
        common, count = round(tokens * self.prefixes.share) // BLOCK_TOKENS, tokens // BLOCK_TOKENS
        first = group << 12
        return (*range(first, first + common), *itertools.islice(ids, count - common))


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace's requests, read as they are needed.

    Attributes:
        path: of a file in Mooncake's format.
        speed: its time passes so many times as fast.
        repeat: so many times one after the other; a later round has the same prompts.
        max_tokens: longer prompts are cut there.
    """

    path: str | Path
    speed: float = 1.0
    repeat: int = 1
    max_tokens: int = 131_072

    def __post_init__(self) -> None:
        if not (0 < self.speed < math.inf and self.repeat >= 1 and self.max_tokens >= 1):
            raise ConfigError("trace: speed has to be above 0, repeat and max_tokens 1 or more")

    def __call__(self) -> Iterator[Arrival]:
        began_s = last_s = 0.0
        for _ in range(self.repeat):
            for request in read_trace(self.path):
                last_s = began_s + request.at_s / self.speed
                yield self._arrival(request, last_s)
            began_s = last_s

    def _arrival(self, request: TraceRequest, at_s: float) -> Arrival:
        tokens = min(request.input_tokens, self.max_tokens)
        blocks = request.block_ids[: tokens // BLOCK_TOKENS]  # a block that is not full is not kept
        return Arrival(at_s, tokens, max(1, request.output_tokens), blocks)


def listed(arrivals: Iterable[Arrival]) -> Callable[[], Iterable[Arrival]]:
    """A few that are at hand."""
    kept = tuple(arrivals)
    return lambda: kept


def _gamma(rng: np.random.Generator, mean: float, cv: float) -> FloatArray:
    if not cv:
        return np.full(CHUNK, mean)
    shape = 1 / (cv * cv)
    return np.asarray(rng.gamma(shape, mean / shape, CHUNK), np.float64)
