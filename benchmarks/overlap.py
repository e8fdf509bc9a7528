"""How much of a cache crosses while it is still being computed, and how soon after that the first token is there.

Real engines, prompts of 2,000, 8,000 and 20,000 tokens, over loopback and over a WAN of 1 Gbit/s with 30 ms. Over
loopback beside vLLM's NixlConnector with the same model on engines of its own; the pair that rests is stopped.
*Hand-over* is the time from the end of the last prefill step to the decode engine's answer of one token, less one
decode step. It may take a round trip, the rest of the bytes at the link's rate, and 10 ms: what is beyond is *excess*.

    python -m benchmarks.overlap [--rounds 5] [--chunk-tokens 512] [--only PATH ...] [--lengths N ...]
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.engines import EnginePair, serve
from benchmarks.peers import nixl_engines
from tests.engine.models import prompt_tokens
from tests.wan.wan import Wan
from tests.wan.wan import missing as wan_missing

LENGTHS = (2_000, 8_000, 20_000)
STEP_TOKENS = 17
"""Of a second answer; the tokens after the first one tell how long a decode step takes at that length."""
GRACE_MS = 10.0
WAN_MBIT, WAN_RTT_MS = 1000, 30
LOOPBACK_MBIT = 10_000
"""What the local stack's configuration says of its link."""


@dataclass(frozen=True)
class Way:
    """A way between the engines."""

    name: str
    rtt_ms: float
    rate_mbit: float


LOOPBACK, WIDE = Way("loopback", 0.0, LOOPBACK_MBIT), Way("wan", WAN_RTT_MS, WAN_MBIT)


@dataclass
class Sample:
    """What the rounds of one length gave, in milliseconds and shares."""

    tail_ms: list[float] = field(default_factory=list)
    load_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    early_share: list[float] = field(default_factory=list)
    late_bytes: list[int] = field(default_factory=list)

    def summary(self, path: Way) -> dict[str, float]:
        """Medians, and what the hand-over takes beyond what it may."""
        step_ms = statistics.median(self.step_ms)
        handover_ms = statistics.median(self.tail_ms) - step_ms
        load_ms = statistics.median(self.load_ms)
        found = {"handover_ms": handover_ms, "until_loaded_ms": load_ms, "decode_step_ms": step_ms}
        if self.early_share:
            late_ms = statistics.median(self.late_bytes) / (path.rate_mbit * 125)
            found |= {
                "early_share": statistics.median(self.early_share),
                "excess_ms": handover_ms - path.rtt_ms - late_ms - GRACE_MS,
                "late_kib": statistics.median(self.late_bytes) / 1024,
            }
        return {name: round(value, 4 if name == "early_share" else 2) for name, value in found.items()}


Samples = dict[int, Sample]
Found = dict[str, dict[int, dict[str, float]]]
"""Pair -> length -> what its samples come to."""


def main() -> None:
    args = _arguments()
    print(report.hardware())
    found: Found = {}
    missing: dict[str, str] = {}
    if not args.only or "loopback" in args.only:
        found |= _apart(_over_loopback, args)
        if reason := nixl_engines.missing("nixl"):
            missing["nixl"] = reason
    if not args.only or "wan" in args.only:
        if reason := wan_missing():
            missing["wan"] = reason
        else:
            found |= _apart(_over_wan, args)
    report.emit("overlap", {**_keys(found), "ms": found, "missing": missing, "chunk_tokens": args.chunk_tokens})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds after one warm-up")
    parser.add_argument("--chunk-tokens", type=int, default=512, help="tokens prefilled in one step")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--only", nargs="*", default=[], choices=["loopback", "wan"])
    return parser.parse_args()


def _apart(measure: Callable[[argparse.Namespace], Found], args: argparse.Namespace) -> Found:
    """Measure in a process of its own: the threads of gRPC stay in the network where the first of them began."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, args).result()


def _over_loopback(args: argparse.Namespace) -> Found:
    return asyncio.run(_loopback(args))


async def _loopback(args: argparse.Namespace) -> Found:
    """Our connector and the peer's, in turns."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "prfaas").mkdir()
        ours = await stack.enter_async_context(serve("prfaas", folder / "prfaas", chunk_tokens=args.chunk_tokens))
        pairs = [ours]
        if reason := nixl_engines.missing("nixl"):
            print(f"  missing: nixl: {reason}")
        else:
            ours.pause()
            stack.callback(ours.resume)
            (folder / "nixl").mkdir()
            wiring = nixl_engines.wiring(folder / "nixl")
            theirs = await stack.enter_async_context(
                serve("nixl", folder / "nixl", nixl_engines.NixlPair, chunk_tokens=args.chunk_tokens, wiring=wiring)
            )
            nixl_engines.tune(theirs)
            theirs.pause()
            pairs.append(theirs)
        samples = await _rounds(pairs, args)
    return {name: {n: sample.summary(LOOPBACK) for n, sample in each.items()} for name, each in samples.items()}


def _over_wan(args: argparse.Namespace) -> Found:
    """Our connector with a wide-area link between the engines; this process is at the decode side's end."""

    async def run(wan: Wan) -> dict[str, Samples]:
        with tempfile.TemporaryDirectory() as folder:
            async with serve("wan", Path(folder), chunk_tokens=args.chunk_tokens, wan=wan) as pair:
                return await _rounds([pair], args)

    with Wan(rate_mbit=WAN_MBIT, rtt_ms=WAN_RTT_MS) as wan, wan.inside("edge"):
        samples = asyncio.run(run(wan))
    return {name: {n: sample.summary(WIDE) for n, sample in each.items()} for name, each in samples.items()}


async def _rounds(pairs: Sequence[EnginePair], args: argparse.Namespace) -> dict[str, Samples]:
    samples = {pair.name: {length: Sample() for length in args.lengths} for pair in pairs}
    for at in range(args.rounds + 1):
        for length in args.lengths:
            for pair in pairs:
                async with pair.running():
                    sample = samples[pair.name][length] if at else Sample()
                    await _measure(pair, prompt_tokens(length, seed=1000 * at + length % 997), sample)
                told = f"{pair.name:<8} {length:>6} tokens  tail {sample.tail_ms[-1]:7.1f} ms"
                print(f"  {f'round {at}' if at else 'warm-up'}  {told}", flush=True)
    return samples


async def _measure(pair: EnginePair, prompt: list[int], sample: Sample) -> None:
    """One answer of one token, and one of more for the length of a decode step."""
    first = await pair.hand_over(prompt, 1)
    more = await pair.hand_over(prompt, STEP_TOKENS)
    sample.tail_ms.append(first.tail_s * 1e3)
    sample.load_ms.append((first.loaded_s - first.prefill_end_s) * 1e3)
    sample.step_ms.append((more.tail_s - first.tail_s) / (STEP_TOKENS - 1) * 1e3)
    if first.report:
        sample.early_share.append(first.report.early_bytes / first.report.cache_bytes)
        sample.late_bytes.append(first.report.cache_bytes - first.report.early_bytes)


def _keys(found: Found) -> dict[str, float | None]:
    """What the overlap is judged by; the worst of all lengths and ways."""
    ours = [found[name] for name in ("prfaas", "wan") if name in found]
    last = max(LENGTHS)
    early, early_short = (
        min((lengths[n]["early_share"] for lengths in ours if n in lengths), default=None) for n in (last, min(LENGTHS))
    )
    excess = [each["excess_ms"] for lengths in ours for each in lengths.values()]
    ratios = [
        found["prfaas"][n]["handover_ms"] / each["handover_ms"]
        for n, each in found.get("nixl", {}).items()
        if n in found.get("prfaas", {})
    ]
    return {
        "early_share_20k": early,
        "early_share_2k": early_short,
        "handover_excess_ms": max(excess, default=None),
        "handover_vs_nixl": round(max(ratios), 3) if ratios else None,
    }


if __name__ == "__main__":
    main()
