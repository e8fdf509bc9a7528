"""The runs of ``benchmarks.selective``: every way at every rate, seed after seed, however the fleet is reached."""

import asyncio
import math
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.selective_load import Answered
from benchmarks.selective_predict import DRAIN_S, Predictor, Program
from benchmarks.selective_result import Findings, Run
from prfaas.planner.simulator.request import Arrival

LOST_SHARE = 0.5
"""Of a run and of its retry: then an engine is gone, and nothing that follows would be a measurement."""

Switch = Callable[[int], Awaitable[None]]
"""Lets the gateway use this threshold from now on."""
Offer = Callable[[Sequence[Arrival]], Awaitable[Sequence[Answered]]]


class FleetLost(RuntimeError):
    """Requests of two tries were not answered."""


@dataclass(frozen=True)
class Runs:
    """All of them.

    Attributes:
        seconds: of arrivals, a run.
        findings: the runs go there as they end.
        drain_s: between two.
    """

    program: Program
    predictor: Predictor
    seeds: int
    seconds: float
    findings: Findings
    switch: Switch
    offer: Offer
    drain_s: float = DRAIN_S

    async def measure(self) -> None:
        """Ways in turns at each rate, so that a machine that changes changes for all. Raises FleetLost."""
        await self._warm_up()
        began_s, done = time.monotonic(), 0
        count = self.seeds * len(self.program.rates) * len(self.program.thresholds)
        for seed in range(1, self.seeds + 1):
            for rate in self.program.rates:
                for way in self.program.thresholds:
                    line = await self._one(way, rate, seed)
                    done += 1
                    left_s = (time.monotonic() - began_s) / done * (count - done)
                    tell(f"[{done}/{count}, {left_s / 60:.1f} min left] {line}")

    async def _warm_up(self) -> None:
        for way, threshold in self.program.thresholds.items():
            tell(f"warm-up: {way}")
            await self.switch(threshold)
            await self.offer(self.predictor.mix.arrivals(self.program.rates[0], self.seconds / 3, 0))
            await asyncio.sleep(self.drain_s)

    async def _one(self, way: str, rate: float, seed: int) -> str:
        threshold = self.program.thresholds[way]
        arrivals = self.predictor.mix.arrivals(rate, self.seconds, seed)
        await self.switch(threshold)
        answers = await self._offered(arrivals)
        lost, is_retried = _lost(answers), False
        if lost:
            tell(f"{way} at {rate:g}/s, seed {seed}: {lost} of {len(answers)} requests were not answered: once more")
            answers, is_retried = await self._offered(arrivals), True
            if _lost(answers) > LOST_SHARE * len(answers):
                raise FleetLost(f"{way} at {rate:g}/s, seed {seed}: {_lost(answers)} of {len(answers)} lost, twice")
        good = sum(each.is_good(self.predictor.promise) for each in answers) / self.seconds
        predicted = self.predictor.goodput(threshold, arrivals, self.seconds) if arrivals else 0.0
        self.findings.runs.append(Run(way, rate, seed, good, predicted, is_retried))
        return f"seed {seed} {way:<10} {rate:g}/s: good {good:.3f}/s, predicted {predicted:.3f}/s; {_summary(answers)}"

    async def _offered(self, arrivals: Sequence[Arrival]) -> Sequence[Answered]:
        answers = await self.offer(arrivals)
        await asyncio.sleep(self.drain_s)
        return answers


def tell(line: str) -> None:
    """Progress goes to stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def _lost(answers: Sequence[Answered]) -> int:
    """All of them where not one was answered: under any load the first ones are, unless an engine hangs."""
    if all(math.isinf(each.first_s) for each in answers):
        return len(answers)
    return sum(each.is_lost for each in answers)


def _summary(answers: Sequence[Answered]) -> str:
    if not answers:
        return "no request"
    first = sorted(each.first_s for each in answers)
    return (
        f"{len(answers)} requests, {sum(each.is_remote for each in answers)} remote, {_lost(answers)} lost, "
        f"first token p50 {first[len(first) // 2]:.3f} s p90 {first[len(first) * 9 // 10]:.3f} s, "
        f"token {statistics.median(each.token_s for each in answers) * 1e3:.1f} ms"
    )
