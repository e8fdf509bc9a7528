"""What repeated measurements of one quantity come to: pure."""

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

CLEAR_FALL = 0.05
"""A fall by less is within what two machines of one kind differ by, even if it is seen every time."""


@dataclass(frozen=True, slots=True)
class Point:
    """Seconds at one size (tokens of a prompt, requests in a batch).

    Attributes:
        seconds: the median of all rounds.
        spread_s: the middle half of them is this wide.
    """

    size: int
    seconds: float
    spread_s: float


def points(samples: Mapping[int, Sequence[float]]) -> tuple[Point, ...]:
    """One for each size that was measured, in ascending order."""
    return tuple(_point(size, samples[size]) for size in sorted(samples) if samples[size])


def _point(size: int, seconds: Sequence[float]) -> Point:
    if len(seconds) == 1:
        return Point(size, seconds[0], 0.0)
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Point(size, middle, high - low)


def never_falling(measured: Sequence[Point], unit: str) -> tuple[tuple[Point, ...], tuple[str, ...], tuple[str, ...]]:
    """The same points, with their common mean where a larger size took less: more work takes no less time.

    Returns:
        the points, what was evened out within the noise, and falls that noise does not explain; in words.
    """
    runs: list[list[Point]] = []
    for point in measured:
        runs.append([point])
        while len(runs) > 1 and _mean(runs[-1]) < _mean(runs[-2]):
            runs[-2:] = [runs[-2] + runs[-1]]
    noise: list[str] = []
    falls: list[str] = []
    for run in (run for run in runs if len(run) > 1):
        first, last = max(run, key=lambda point: point.seconds), min(run, key=lambda point: point.seconds)
        told = (
            f"{', '.join(f'{p.seconds:.4g} s at {p.size}' for p in run)} {unit}: taken as {_mean(run):.4g} s, because "
            "more work is not done sooner"
        )
        allowed_s = max(first.spread_s + last.spread_s, CLEAR_FALL * first.seconds)
        (noise if first.seconds - last.seconds <= allowed_s else falls).append(told)
    evened = [replace(point, seconds=_mean(run)) for run in runs for point in run]
    return tuple(evened), tuple(noise), tuple(falls)


def _mean(run: Sequence[Point]) -> float:
    return statistics.fmean(point.seconds for point in run)


def weighted_median(values: Sequence[tuple[float, int]]) -> float:
    """The middle of values that count several times each; there has to be one."""
    ordered = sorted(values)
    half, passed = sum(weight for _, weight in ordered) / 2, 0
    for value, weight in ordered:
        passed += weight
        if passed >= half:
            return value
    raise ValueError("nothing to take the median of")


def interleaved(sizes: Sequence[int], rounds: int, seed: int) -> Iterator[tuple[int, int]]:
    """Round and size, each size once a round, in an order that the seed gives: a machine that slows down or speeds up
    meanwhile then does so for all sizes alike."""
    shuffle = random.Random(f"order {seed}")
    for at in range(rounds):
        for size in shuffle.sample(sorted(sizes), len(sizes)):
            yield at, size
