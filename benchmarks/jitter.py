"""What an incoming cache does to an engine that decodes: its inter-token latency with a transfer under way and without.

A decode engine answers one long request. Again and again a cache of 20,000 tokens comes in at the link's rate, from a
prefill engine that has it cached. Steps from the worker's order to load until the end of the load count as *with*;
those before, in which vLLM takes in a prompt of 20,000 tokens, as *intake*. As *without* count those of as much time
in which the prefill engine does the same for nobody: on two cores its work disturbs the decode engine's scheduler. As
*idle* count the steps of as much time again in which nothing else happens at all.
Beside it the same with the mover as threads of the worker (``--movers``): what the mover process is there to avoid.

vLLM's scheduler spins while it waits for a step. Linux may let a spinning session starve others on its core for many
seconds: with fewer cores than engines have processes, set ``sysctl kernel.sched_autogroup_enabled=0`` for the time.

    python -m benchmarks.jitter [--rounds 5] [--transfers 20] [--rate-gbps 1] [--movers process thread]
"""

import argparse
import asyncio
import bisect
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.engines import DECODE, PREFILL, EnginePair, serve
from tests.engine.models import prompt_tokens

CACHED_TOKENS = 20_000
CHUNK_TOKENS = 2048
BLOCK_TOKENS = 384
STREAM_TOKENS = 500
SETTLE_S = 0.05
"""After a load its request is answered, on both engines."""
FEW_CORES = 8
"""Below it the processes of two engines, their movers and the benchmark share cores."""
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
CONNECTORS = {"process": "benchmarks.step_times", "thread": "benchmarks.thread_mover"}


@dataclass
class Sample:
    """Inter-token latencies of one round in milliseconds, and how long its transfers took."""

    with_ms: list[float] = field(default_factory=list)
    intake_ms: list[float] = field(default_factory=list)
    idle_ms: list[float] = field(default_factory=list)
    without_ms: list[float] = field(default_factory=list)
    transfer_ms: list[float] = field(default_factory=list)

    def ratio(self, percent: int, base: str = "without") -> float:
        """Of a percentile with to without, or to another base."""
        return percentile(self.with_ms, percent) / percentile(getattr(self, f"{base}_ms"), percent)


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    args = _arguments()
    print(report.hardware())
    if AUTOGROUP.exists() and AUTOGROUP.read_text() != "0\n" and len(os.sched_getaffinity(0)) < FEW_CORES:
        print("few cores: if a transfer fails because nothing is heard, sysctl kernel.sched_autogroup_enabled=0 helps")
    rounds = asyncio.run(_measure(args))
    keys: dict[str, object] = {"rate_gbps": args.rate_gbps, "transfers": args.transfers}
    for name, samples in rounds.items():
        prefix = "" if name == "process" else f"{name}_"
        for percent in (50, 99):
            for base, suffix in (("without", ""), ("idle", "_idle")):
                ratios = [sample.ratio(percent, base) for sample in samples]
                keys[f"{prefix}itl_p{percent}_ratio{suffix}"] = round(statistics.median(ratios), 3)
        without = [each for s in samples for each in s.without_ms]
        intake = [each for s in samples for each in s.intake_ms]
        keys[f"{prefix}intake_ms"] = {f"p{n}": round(percentile(intake, n), 2) for n in (50, 99)}
        keys[f"{prefix}itl_ms"] = {f"p{n}": round(percentile(without, n), 2) for n in (50, 99)}
        keys[f"{prefix}transfer_ms"] = round(statistics.median(t for s in samples for t in s.transfer_ms), 1)
        keys[f"{prefix}steps"] = [sum(len(s.with_ms) for s in samples), len(without)]
    report.emit("jitter", keys)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jitter", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds after one warm-up")
    parser.add_argument("--transfers", type=int, default=20, help="transfers a round")
    parser.add_argument("--rate-gbps", type=float, default=1.0, help="the link's rate limit; 0 for none")
    parser.add_argument("--movers", nargs="+", default=["process"], choices=list(CONNECTORS))
    return parser.parse_args()


async def _measure(args: argparse.Namespace) -> dict[str, list[Sample]]:
    limits = [{"peers": [DECODE], "gbps": args.rate_gbps}] if args.rate_gbps else []
    # The decode engine computes on the last core; what moves bytes stays off it.
    movers = {"mover_cpus": sorted(os.sched_getaffinity(0))[:-1]}
    samples: dict[str, list[Sample]] = {name: [] for name in args.movers}
    async with contextlib.AsyncExitStack() as stack:
        pairs: list[EnginePair] = []
        for name in args.movers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            pair = await stack.enter_async_context(
                serve(
                    name,
                    folder,
                    chunk_tokens=CHUNK_TOKENS,
                    connector={PREFILL: {"rate_limits": limits, **movers}, DECODE: movers},
                    module=CONNECTORS[name],
                    vllm_args=("--prefix-cache-retention-interval", str(BLOCK_TOKENS)),
                )
            )
            pairs.append(pair)
            if len(args.movers) > 1:
                pair.pause()
        prompt = prompt_tokens(CACHED_TOKENS, seed=1)
        for at in range(args.rounds + 1):
            for pair in pairs:
                async with pair.running() if len(pairs) > 1 else contextlib.nullcontext():
                    sample = await _round(pair, prompt, args.transfers)
                if at:
                    samples[pair.name].append(sample)
                    told = ", ".join(f"p{n} ratio {sample.ratio(n):.3f}" for n in (50, 99))
                    print(f"  round {at}  {pair.name:<8} {told}", flush=True)
    return samples


async def _round(pair: EnginePair, prompt: list[int], transfers: int) -> Sample:
    """Let one request decode as long as the transfers last."""
    await pair.ask(PREFILL, pair.body(prompt, 1, salt="cached"))
    arrivals: list[tuple[float, float, float]] = []
    rests: list[tuple[float, float]] = []
    idles: list[tuple[float, float]] = []
    sample = Sample()
    decoding = asyncio.create_task(_decode(pair))
    try:
        for _ in range(transfers):
            await asyncio.sleep(SETTLE_S)
            began_s = time.monotonic()
            done = await pair.hand_over(prompt, 1, prefill_salt="cached")
            arrivals.append((began_s, pair.times(DECODE, "load")[-1], pair.times(DECODE, "loaded")[-1]))
            assert done.report is not None
            sample.transfer_ms.append(done.report.open_s * 1e3)
            await asyncio.sleep(SETTLE_S)
            began_s, length_s = time.monotonic(), arrivals[-1][2] - arrivals[-1][1]
            await asyncio.gather(pair.ask(PREFILL, pair.body(prompt, 1, salt="cached")), asyncio.sleep(length_s))
            rests.append((began_s, began_s + length_s))
            await asyncio.sleep(SETTLE_S)
            idles.append((time.monotonic(), time.monotonic() + length_s))
            await asyncio.sleep(length_s)
    finally:
        decoding.cancel()
        await asyncio.gather(decoding, return_exceptions=True)
    steps = pair.times(DECODE, "step")
    sample.intake_ms += latencies(steps, [(began_s, load_s) for began_s, load_s, _ in arrivals])
    sample.with_ms += latencies(steps, [(_step_before(steps, load_s), end_s) for _, load_s, end_s in arrivals])
    sample.without_ms += latencies(steps, rests)
    sample.idle_ms += latencies(steps, idles)
    return sample


def _step_before(steps: Sequence[float], moment_s: float) -> float:
    return steps[bisect.bisect_right(steps, moment_s) - 1]


async def _decode(pair: EnginePair) -> None:
    """One request after the other, until cancelled."""
    prompt = prompt_tokens(100, seed=2)
    while True:
        await pair.ask(DECODE, pair.body(prompt, STREAM_TOKENS))


def latencies(steps: Sequence[float], windows: Sequence[tuple[float, float]]) -> list[float]:
    """Milliseconds between consecutive steps that both lie in the same window."""
    found: list[float] = []
    for first, last in windows:
        inside = steps[bisect.bisect_left(steps, first) : bisect.bisect_right(steps, last)]
        found += [(after - before) * 1e3 for before, after in itertools.pairwise(inside)]
    return found


if __name__ == "__main__":
    main()
