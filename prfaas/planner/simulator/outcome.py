"""What became of the requests, in memory that does not grow with their number."""

import math
from dataclasses import dataclass

from prfaas.planner.simulator.spec import Promise

BUCKETS_PER_OCTAVE = 8
"""Quantiles are known to 9 %, and interpolated within that."""
SMALLEST_S, OCTAVES = 1e-4, 30
"""From 0.1 ms to a day."""
ROUNDING = 1e-6
"""Of a pace that is exactly what was promised."""
SLICE_S, MAX_SLICES = 60.0, 20_000
"""Good answers are counted by the minute of their arrival, for two weeks; later ones count in the last slice."""


class Histogram:
    """Seconds in buckets of equal ratio."""

    def __init__(self) -> None:
        self._counts = [0] * (BUCKETS_PER_OCTAVE * OCTAVES)
        self._last = len(self._counts) - 1
        self.count, self.sum_s, self.max_s = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        at = int(math.log2(seconds / SMALLEST_S) * BUCKETS_PER_OCTAVE) if seconds > SMALLEST_S else 0
        self._counts[at if at < self._last else self._last] += 1
        self.count += 1
        self.sum_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The seconds that this share, in [0, 1], does not exceed; 0 of nothing."""
        left = share * self.count
        for at, count in enumerate(self._counts):
            if count and left <= count:
                low = SMALLEST_S * 2 ** (at / BUCKETS_PER_OCTAVE)
                return min(low * 2 ** (left / count / BUCKETS_PER_OCTAVE), self.max_s)
            left -= count
        return self.max_s


class Tally:
    """Counts while the simulation runs."""

    def __init__(self, promise: Promise) -> None:
        self._first_token_s, self._token_s = promise.first_token_s, promise.token_s
        self.arrived = self.refused = self.failed = self.answered = self.good = 0
        self.remote = self.retried = self.prompt_tokens = self.cached_tokens = self.output_tokens = 0
        self.first_token, self.token = Histogram(), Histogram()
        self.first_arrival_s = self.last_arrival_s = 0.0
        self.good_by_slice: list[int] = []
        self.conversions: list[float] = []
        self.reasons: list[tuple[float, str]] = []

    def arrive(self, at_s: float) -> None:
        if not self.arrived:
            self.first_arrival_s = at_s
        self.arrived += 1
        self.last_arrival_s = at_s

    def answer(self, arrived_s: float, first_token_s: float, ended_s: float, output_tokens: int) -> None:
        """An answer has ended."""
        wait_s = first_token_s - arrived_s
        self.answered += 1
        self.output_tokens += output_tokens
        self.first_token.add(wait_s)
        pace_s = 0.0
        if output_tokens > 1:
            pace_s = max(ended_s - first_token_s, 0.0) / (output_tokens - 1)
            self.token.add(pace_s)
        if wait_s <= self._first_token_s and pace_s <= self._token_s * (1 + ROUNDING):
            self.good += 1
            at = min(int(arrived_s / SLICE_S), MAX_SLICES)
            while len(self.good_by_slice) <= at:
                self.good_by_slice.append(0)
            self.good_by_slice[at] += 1


@dataclass(frozen=True, slots=True)
class Use:
    """How busy one part of the fleet was.

    Attributes:
        what: an engine's name, or "link from" a site.
        prefill_share: of the time, with a prefill at work; of a link, with bytes on it.
        batch: answers that were decoded at once, on average; of a link, Gbit/s.
    """

    what: str
    prefill_share: float
    batch: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. Every arrival is in exactly one of answered, refused and failed.

    Attributes:
        setting: which one was simulated.
        good: answers that kept the promise.
        goodput_requests_s: those, by the second between the first and the last arrival.
        refused: by the router or the gate; failed: an engine was lost after the first token, or every way was.
        remote: placed on another site's prefill at first.
        retried: tries beyond the first.
        cached_share: of the prompts' tokens, found in the cache of the engine that prefilled.
        token_p90_s: of the answers' mean seconds between two tokens.
        duration_s: until the last answer ended.
        good_by_slice: by minute of arrival.
        conversions: when an engine's conversion began.
        reasons: what a controller said and when, the first few hundred.
    """

    setting: str
    arrived: int
    answered: int
    refused: int
    failed: int
    good: int
    goodput_requests_s: float
    offered_requests_s: float
    remote: int
    retried: int
    cached_share: float
    output_tokens_s: float
    first_token_mean_s: float
    first_token_p50_s: float
    first_token_p90_s: float
    first_token_p99_s: float
    token_mean_s: float
    token_p90_s: float
    duration_s: float
    uses: tuple[Use, ...]
    good_by_slice: tuple[int, ...]
    conversions: tuple[float, ...]
    reasons: tuple[tuple[float, str], ...]

    @property
    def good_share(self) -> float:
        return self.good / self.arrived if self.arrived else 0.0

    @property
    def max_conversions_per_hour(self) -> int:
        """The most that began within any hour."""
        times = self.conversions
        return max((sum(at <= each < at + 3600 for each in times) for at in times), default=0)


def outcome_of(setting: str, tally: Tally, uses: tuple[Use, ...], ended_s: float) -> Outcome:
    """What the counts amount to. A single arrival, or all at once, make no rate: then it is by the whole run."""
    span_s = (tally.last_arrival_s - tally.first_arrival_s) or ended_s or 1.0
    first, token = tally.first_token, tally.token
    return Outcome(
        setting=setting,
        arrived=tally.arrived,
        answered=tally.answered,
        refused=tally.refused,
        failed=tally.failed,
        good=tally.good,
        goodput_requests_s=tally.good / span_s,
        offered_requests_s=tally.arrived / span_s,
        remote=tally.remote,
        retried=tally.retried,
        cached_share=tally.cached_tokens / max(tally.prompt_tokens, 1),
        output_tokens_s=tally.output_tokens / max(ended_s, 1e-9),
        first_token_mean_s=first.mean_s,
        first_token_p50_s=first.quantile(0.5),
        first_token_p90_s=first.quantile(0.9),
        first_token_p99_s=first.quantile(0.99),
        token_mean_s=token.mean_s,
        token_p90_s=token.quantile(0.9),
        duration_s=ended_s,
        uses=uses,
        good_by_slice=tuple(tally.good_by_slice),
        conversions=tuple(tally.conversions),
        reasons=tuple(tally.reasons),
    )
