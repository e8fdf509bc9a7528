"""What the simulator says before ``benchmarks.selective`` measures: t, the rates to offer, and how long it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.selective_load import Mix, longest_s
from benchmarks.selective_result import ALL_LOCAL, ALL_REMOTE, SELECTIVE
from prfaas.planner.profile import EngineProfile
from prfaas.planner.simulator.arrivals import listed
from prfaas.planner.simulator.outcome import Outcome
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.spec import EngineSpec, FleetSpec, LinkSpec, Promise, Scenario

EVERYTHING = 1 << 20
"""Longer than any prompt."""
TUNING_SEEDS = range(1000, 1005)
"""Of the requests with which the simulator finds t and rates: others than those that are measured."""
TUNING_S = 40.0
PROMISED_SHARE = 0.9
CANDIDATES = 9
HALVINGS = 6
DRAIN_S = 2.0
"""Between two runs: engines and movers let go of what is left."""
MIN_SECONDS, MAX_SECONDS = 8, 15
"""Of arrivals, a run: fewer say little, more take too long."""


@dataclass(frozen=True)
class Predictor:
    """The simulator, with the profiles of these engines."""

    local: EngineProfile
    remote: EngineProfile
    promise: Promise
    chunk_tokens: int
    mix: Mix
    link: LinkSpec

    def outcome(self, threshold: int, arrivals: Sequence[Arrival]) -> Outcome:
        engines = (
            EngineSpec("local", "edge", self.local, "both", chunk_tokens=self.chunk_tokens),
            EngineSpec("remote", self.link.source, self.remote, "prefill", chunk_tokens=self.chunk_tokens),
        )
        scenario = Scenario("selective", FleetSpec("edge", engines, (self.link,)), listed(arrivals), self.promise)
        return simulate(scenario, Setting("threshold", threshold))

    def goodput(self, threshold: int, arrivals: Sequence[Arrival], duration_s: float) -> float:
        """Good answers a second of the arrivals' time."""
        return self.outcome(threshold, arrivals).good / duration_s

    def share(self, threshold: int, rate: float) -> float:
        """Of the answers that are good, of many requests."""
        arrivals = [self.mix.arrivals(rate, TUNING_S, seed) for seed in TUNING_SEEDS]
        good = sum(self.outcome(threshold, each).good for each in arrivals)
        return good / max(1, sum(map(len, arrivals)))

    def capacity(self, threshold: int) -> float:
        """The rate up to which the promised share is good, by halving; requests/s."""
        low, high = 0.1, 0.2
        while self.share(threshold, high) >= PROMISED_SHARE and high < 1000:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share(threshold, middle) >= PROMISED_SHARE else (low, middle)
        return low


@dataclass(frozen=True)
class Program:
    """What is measured.

    Attributes:
        thresholds: by way.
        capacities: by way, as the simulator has them, requests/s.
        rates: offered to every way, ascending, requests/s.
    """

    thresholds: Mapping[str, int]
    capacities: Mapping[str, float]
    rates: tuple[float, ...]

    def expected_s(self, predictor: Predictor, seeds: int, seconds: float) -> float:
        """Of all runs with so many seconds of arrivals each, until nothing can be good any more: as simulated with one
        seed."""
        a_seed_s = 0.0
        for rate in self.rates:
            arrivals = predictor.mix.arrivals(rate, seconds, TUNING_SEEDS[0])
            for threshold in self.thresholds.values():
                ended_s = predictor.outcome(threshold, arrivals).duration_s if arrivals else 0.0
                a_seed_s += min(ended_s, longest_s(arrivals, predictor.promise)) + DRAIN_S
        return seeds * a_seed_s

    def seconds_within(self, predictor: Predictor, seeds: int, left_s: float) -> float:
        """The most of arrivals a run with which all runs end in that time, within the bounds."""
        for seconds in range(MAX_SECONDS, MIN_SECONDS, -1):
            if self.expected_s(predictor, seeds, seconds) <= left_s:
                return float(seconds)
        return float(MIN_SECONDS)


def program(predictor: Predictor, shares: Sequence[float]) -> Program:
    """With the t that serves most, and the same rates for all ways: shares of the highest capacity of the three, so
    that the order of what is measured owes nothing to the order of what is simulated."""
    low, high = predictor.mix.short[1], predictor.mix.long[1]
    candidates = [round(low + (high - low) * at / CANDIDATES) for at in range(CANDIDATES)]
    found = {t: predictor.capacity(t) for t in candidates}
    best = max(candidates, key=lambda t: found[t])
    thresholds = {ALL_LOCAL: EVERYTHING, ALL_REMOTE: 0, SELECTIVE: best}
    capacities = {way: found[t] if t in found else predictor.capacity(t) for way, t in thresholds.items()}
    highest = max(capacities.values())
    return Program(thresholds, capacities, tuple(round(share * highest, 3) for share in sorted(set(shares))))


def promise(
    local: EngineProfile, mix: Mix, chunk_tokens: int, first_token_s: float | None, token_s: float | None
) -> Promise:
    """As asked for, or what a user of these engines would expect: three times the longest prompt's prefill, and a
    full step, of a chunk and the largest batch: then what counts is how long requests wait."""
    longest_s, chunk_s = local.prefill.at(np.array([float(mix.long[1]), float(chunk_tokens)]))
    assert local.decode is not None
    return Promise(first_token_s or 3 * float(longest_s), token_s or float(chunk_s) + local.decode.step_s[-1])
