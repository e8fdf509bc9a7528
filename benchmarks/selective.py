"""Selective prefill against all-local and all-remote, measured on real engines and predicted by the simulator.

Two engines, each on a core of its own: one local that does everything, and one remote that prefills, behind a WAN of
1 Gbit/s with 30 ms. First each is measured as `prfaas profile` measures. From these two profiles the simulator finds
the threshold t and, for each way, the rate up to which it promises nine good answers of ten. At shares of that rate
the same requests go to the gateway and to the simulator. *Goodput* is good answers a second (first token and pace as
promised) by the time of the arrivals, the highest of all rates.

    python -m benchmarks.selective [--seeds 5] [--seconds 20] [--loads 0.8 1.0] [--chunk-tokens 512]
"""

import argparse
import asyncio
import math
import statistics
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console

from benchmarks import report
from benchmarks.engines import DECODE, PREFILL, EnginePair, serve
from benchmarks.selective_load import Answered, Mix, offer
from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.gateway.operator_client import ask
from prfaas.launch.local import gateway_service, gateway_url
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.stack import Stack
from prfaas.measure.cache import Pair
from prfaas.measure.engine import Engine, session
from prfaas.measure.progress import Bars
from prfaas.measure.prompts import Prompts
from prfaas.measure.result import Origin, result
from prfaas.measure.run import Wish, measure
from prfaas.planner.families import model_cache
from prfaas.planner.profile import EngineProfile
from prfaas.planner.profile_file import dump_profile
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.spec import EngineSpec, FleetSpec, LinkSpec, Promise, Scenario
from prfaas.transport.report import ReportClient
from tests.wan.wan import Wan, missing

WAN_MBIT, WAN_RTT_MS = 1000, 30
MIX = Mix(short=(64, 256), long=(1024, 4096), long_share=0.3, output_tokens=24)
LENGTHS, BATCHES = (64, 256, 1024, 2048, 4096), (1, 2, 4, 8, 16)
EVERYTHING = 1 << 20
"""Longer than any prompt."""
TUNING_SEEDS = range(1000, 1010)
"""Of the requests with which the simulator finds t and rates: others than those that are measured."""
TUNING_S = 60.0
PROMISED_SHARE = 0.9
CONFIDENCE_T = {5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for 95 % by the number of seeds."""
DRAIN_S = 1.0


@dataclass
class Way:
    """All-local, all-remote or selective.

    Attributes:
        rates: offered, requests a second.
        measured, predicted: good answers a second, by rate one for each seed.
    """

    name: str
    threshold: int
    rates: list[float] = field(default_factory=list)
    measured: dict[float, list[float]] = field(default_factory=dict)
    predicted: dict[float, list[float]] = field(default_factory=dict)

    def errors(self) -> dict[float, float]:
        """The prediction's deviation from the measurement at each rate, means of all seeds."""
        return {
            rate: statistics.fmean(self.predicted[rate]) / max(1e-9, statistics.fmean(self.measured[rate])) - 1
            for rate in self.rates
        }

    def best(self) -> tuple[float, float]:
        """The highest mean goodput of all rates, and half the width of its confidence interval."""
        values = max(self.measured.values(), key=statistics.fmean)
        return statistics.fmean(values), half_width(values)


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % confidence interval of a mean; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    return CONFIDENCE_T.get(len(values), 2.0) * statistics.stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True)
class Predictor:
    """The simulator, with the profiles of these engines."""

    local: EngineProfile
    remote: EngineProfile
    promise: Promise
    chunk_tokens: int

    def goodput(self, threshold: int, arrivals: Sequence[Arrival], duration_s: float) -> float:
        """Good answers a second of the arrivals' time."""
        engines = (
            EngineSpec(DECODE, "edge", self.local, "both", chunk_tokens=self.chunk_tokens),
            EngineSpec(PREFILL, "cloud", self.remote, "prefill", chunk_tokens=self.chunk_tokens),
        )
        link = LinkSpec("cloud", WAN_MBIT * 125_000, WAN_RTT_MS / 1e3)
        scenario = Scenario("selective", FleetSpec("edge", engines, (link,)), lambda: arrivals, self.promise)
        return simulate(scenario, Setting("threshold", threshold)).good / duration_s

    def share(self, threshold: int, rate: float) -> float:
        """Of the answers that are good, of many requests."""
        arrivals = [MIX.arrivals(rate, TUNING_S, seed) for seed in TUNING_SEEDS]
        good = sum(self.goodput(threshold, each, 1.0) for each in arrivals)
        return good / sum(map(len, arrivals))

    def capacity(self, threshold: int) -> float:
        """The rate up to which the promised share is good, by halving; requests a second."""
        low, high = 0.01, 0.02
        while self.share(threshold, high) >= PROMISED_SHARE and high < 1000:
            low, high = high, 2 * high
        for _ in range(6):
            middle = (low + high) / 2
            low, high = (middle, high) if self.share(threshold, middle) >= PROMISED_SHARE else (low, middle)
        return low


def main() -> None:
    args = _arguments()
    print(report.hardware())
    if reason := missing():
        report.emit("selective", {"missing": reason})
        return
    with Wan(rate_mbit=WAN_MBIT, rtt_ms=WAN_RTT_MS) as wan, wan.inside("edge"):
        found = asyncio.run(_run(args, wan))
    report.emit("selective", found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selective", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of arrivals, a run")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.8, 1.0], help="of each way's capacity")
    parser.add_argument("--rounds", type=int, default=3, help="of the profiles' measurement")
    parser.add_argument("--chunk-tokens", type=int, default=512)
    parser.add_argument("--first-token-s", type=float, help="promised; else 3 times the longest prompt's prefill")
    parser.add_argument("--token-s", type=float, help="promised; else a step with half a chunk in it")
    return parser.parse_args()


async def _run(args: argparse.Namespace, wan: Wan) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with serve("wan", folder, chunk_tokens=args.chunk_tokens, wan=wan) as pair:
            local, remote = await _profiles(pair, wan, args.rounds, folder)
            predictor = Predictor(local, remote, _promise(local, args), args.chunk_tokens)
            print(f"promise: {predictor.promise}", flush=True)
            ways = _ways(predictor, args.loads)
            async with Stack(folder / "gateway", ConsoleProgress(Console(), MonotonicClock())) as stack:
                config = _gateway_config(pair.config, EVERYTHING, folder)
                await stack.start([gateway_service(config, folder / "gateway.yaml")])
                await _measure(config, predictor, ways, args, folder)
    return _keys(ways, predictor)


async def _profiles(pair: EnginePair, wan: Wan, rounds: int, folder: Path) -> tuple[EngineProfile, EngineProfile]:
    """Of the local and of the remote engine, one after the other, each from its own site."""
    found = []
    reports = ReportClient()
    tree = yaml.safe_load(Path(pair.config.model.path, "config.json").read_text())  # noqa: ASYNC240 - before any load
    try:
        async with session() as http:
            urls = {name: pair.config.engines[name].url for name in (DECODE, PREFILL)}
            engines = {name: Engine(http, url, MonotonicClock()) for name, url in urls.items()}
            kv = {name: pair.config.engines[name].kv for name in urls}
            source = Pair(engines[PREFILL], engines[DECODE], kv[PREFILL], kv[DECODE], reports)
            for name, engine in engines.items():
                batches = BATCHES if name == DECODE else ()
                wish = Wish(LENGTHS, batches, rounds, steps=32, context_tokens=256)
                bars, facts = Bars(Console()), await engine.facts()
                prompts = Prompts(0, tree["vocab_size"], uuid.uuid4().hex)
                with bars.shown(), wan.inside(pair.config.engines[name].site):
                    measured = await measure(engine, facts, wish, prompts, source, is_computed=True, steps=bars)
                origin = Origin(name, report.hardware(), "now", "this commit", seed=0)
                made = result(measured, wish, origin, model_cache(tree, facts.cache_types))
                print("\n".join((f"{name}:", *made.file.caveats)), flush=True)
                dump_profile(made.file, folder / f"{name}.yaml")
                print((folder / f"{name}.yaml").read_text(), flush=True)
                found.append(made.file.profile())
    finally:
        await reports.aclose()
    return found[0], found[1]


def _promise(local: EngineProfile, args: argparse.Namespace) -> Promise:
    """As asked for, or what a user of these engines would expect."""
    import numpy as np

    longest_s, chunk_s = local.prefill.at(np.array([float(MIX.long[1]), float(args.chunk_tokens)]))
    assert local.decode is not None
    return Promise(
        first_token_s=args.first_token_s or 3 * float(longest_s),
        token_s=args.token_s or float(chunk_s) / 2 + local.decode.step_s[0],
    )


def _ways(predictor: Predictor, loads: Sequence[float]) -> list[Way]:
    """With the t that serves most, and rates around what each way serves."""
    low, high = MIX.short[0], MIX.long[1]
    candidates = sorted({MIX.short[1], *(round(low + (high - low) * at / 12) for at in range(1, 12))})
    capacities = {t: predictor.capacity(t) for t in candidates}
    best = max(candidates, key=lambda t: capacities[t])
    print(f"t = {best}: " + ", ".join(f"{t}: {rate:.2f}/s" for t, rate in capacities.items()), flush=True)
    ways = [Way("all_local", EVERYTHING), Way("all_remote", 0), Way("selective", best)]
    for way in ways:
        capacity = capacities.get(way.threshold) or predictor.capacity(way.threshold)
        way.rates = [round(load * capacity, 3) for load in loads]
        print(f"{way.name}: {capacity:.3f} requests/s promised", flush=True)
    return ways


def _gateway_config(config: Config, threshold: int, folder: Path) -> Config:
    """Write the gateway's configuration."""
    tree = config.model_dump(mode="json", by_alias=True)
    tree["policy"] |= {"name": "threshold", "threshold_tokens": threshold, "brown_out": {"decode_load": None}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return parse_config(tree)


async def _measure(
    config: Config, predictor: Predictor, ways: Sequence[Way], args: argparse.Namespace, folder: Path
) -> None:
    """Every way at every rate, seed after seed, so that a machine that changes changes for all."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        for seed in range(args.seeds + 1):
            for way in ways:
                config = _gateway_config(config, way.threshold, folder)
                await asyncio.to_thread(ask, config, "/prfaas/reload")
                for rate in way.rates[:1] if not seed else way.rates:
                    arrivals = MIX.arrivals(rate, args.seconds if seed else args.seconds / 2, seed)
                    answers = await offer(http, gateway_url(config), config.model.name, arrivals, uuid.uuid4().hex)
                    await asyncio.sleep(DRAIN_S)
                    if seed:  # the first ones warm up
                        _note(way, rate, seed, answers, predictor, arrivals, args.seconds)


def _note(
    way: Way,
    rate: float,
    seed: int,
    answers: Sequence[Answered],
    predictor: Predictor,
    arrivals: Sequence[Arrival],
    duration_s: float,
) -> None:
    good = sum(each.is_good(predictor.promise) for each in answers) / duration_s
    expected = predictor.goodput(way.threshold, arrivals, duration_s)
    way.measured.setdefault(rate, []).append(good)
    way.predicted.setdefault(rate, []).append(expected)
    first = sorted(each.first_s for each in answers)
    remote = sum(each.is_remote for each in answers)
    print(
        f"  seed {seed}  {way.name:<10} {rate:.2f}/s  {len(answers)} requests, {remote} remote  "
        f"good {good:.3f}/s predicted {expected:.3f}/s  "
        f"first token p50 {first[len(first) // 2]:.3f} s p90 {first[len(first) * 9 // 10]:.3f} s  "
        f"token {statistics.median(each.token_s for each in answers) * 1e3:.1f} ms",
        flush=True,
    )


def _keys(ways: Sequence[Way], predictor: Predictor) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for way in ways:
        goodput, half = way.best()
        found |= {f"goodput_{way.name}": round(goodput, 4), f"confidence_{way.name}": round(half, 4)}
    found["max_prediction_error"] = round(max(abs(e) for way in ways for e in way.errors().values()), 4)
    return found | {
        "t_tokens": ways[-1].threshold,
        "first_token_s": round(predictor.promise.first_token_s, 3),
        "token_s": round(predictor.promise.token_s, 4),
        "prediction_errors": {way.name: {rate: round(e, 4) for rate, e in way.errors().items()} for way in ways},
        "good_per_s": {way.name: way.measured for way in ways},
        "predicted_per_s": {way.name: way.predicted for way in ways},
    }


if __name__ == "__main__":
    main()
