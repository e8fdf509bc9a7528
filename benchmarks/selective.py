"""Selective prefill against all-local and all-remote, measured on real engines and predicted by the simulator.

Two engines, each confined to a core of its own with all its processes: one local that does everything, and one remote
that prefills, behind a WAN of 1 Gbit/s with 30 ms. First each is measured (``selective_profiles``). From these two
profiles the simulator finds the threshold t and the capacity of each way: the rate up to which it promises nine good
answers of ten. At shares of the highest capacity of the three, the same rates for all ways, the same requests go to
the gateway and to the simulator. *Goodput* is good answers a second (first token and pace as promised) by the time of
the arrivals.

    python -m benchmarks.selective [--seeds 5] [--minutes 18] [--loads 0.5 0.75 1.0] [--chunk-tokens 512]

Progress goes to stderr. Ctrl-C or SIGTERM stops the engines, and the runs so far are the result (`is_complete`).
"""

import argparse
import asyncio
import contextlib
import signal
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import yaml
from rich.console import Console

from benchmarks import report
from benchmarks.engines import serve
from benchmarks.selective_load import Answered, Mix, offer
from benchmarks.selective_predict import EVERYTHING, MAX_SECONDS, Predictor, Program, program, promise
from benchmarks.selective_profiles import profiles
from benchmarks.selective_result import MAX_SEEDS, MIN_SEEDS, WAYS, Findings
from benchmarks.selective_runs import Runs, tell
from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.gateway.operator_client import OperatorClient
from prfaas.launch.local import gateway_service, gateway_url
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.stack import Stack
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.spec import LinkSpec
from tests.wan.wan import Wan, missing

WAN_MBIT, WAN_RTT_MS = 1000, 30
MIX = Mix(short=(64, 256), long=(1024, 4096), long_share=0.3, output_tokens=24)
START_S, PROFILES_S, STOP_S = 60.0, 240.0, 15.0
"""About, on two idle cores; what is left of the time goes to the runs."""
ENDED = (KeyboardInterrupt, asyncio.CancelledError)


def main() -> None:
    args = _arguments()
    print(report.hardware(), flush=True)
    if reason := missing():
        report.emit("selective", {"missing": reason})
        return
    _announce(args)
    findings = Findings(facts={"is_complete": False, "is_trial": args.seeds < MIN_SEEDS, "seeds": args.seeds})
    try:
        with Wan(rate_mbit=WAN_MBIT, rtt_ms=WAN_RTT_MS) as wan, wan.inside("edge"):
            asyncio.run(_run(args, wan, findings))
        findings.facts["is_complete"] = True
    except ENDED:
        findings.facts["ended"] = "interrupted"
        raise SystemExit(130) from None
    except Exception as error:  # whatever it is, what was measured before it is told, and then it goes on
        findings.facts["ended"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        _print(findings)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selective", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=MIN_SEEDS)
    parser.add_argument("--trial", action="store_true", help=f"allow fewer than {MIN_SEEDS} seeds; the result says so")
    parser.add_argument("--minutes", type=float, default=18.0, help="in all; arrivals are shortened to fit")
    parser.add_argument("--seconds", type=float, help="of arrivals, a run; else what fits")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.75, 1.0], help="of the highest capacity")
    parser.add_argument("--rounds", type=int, default=3, help="of the profiles' measurement")
    parser.add_argument("--chunk-tokens", type=int, default=512)
    parser.add_argument("--first-token-s", type=float, help="promised; else 3 times the longest prompt's prefill")
    parser.add_argument("--token-s", type=float, help="promised; else a full step: a chunk and a batch")
    args = parser.parse_args()
    if args.seeds < MIN_SEEDS and not args.trial:
        parser.error(f"--seeds {args.seeds}: {MIN_SEEDS} or more make a result; --trial for a try with fewer")
    if not 1 <= args.seeds <= MAX_SEEDS:
        parser.error(f"--seeds {args.seeds}: 1 to {MAX_SEEDS}")
    if min(args.loads) <= 0 or (args.seconds is not None and args.seconds <= 0):
        parser.error("--loads and --seconds have to be above 0")
    return args


def _announce(args: argparse.Namespace) -> None:
    """How long it takes, before anything is started."""
    runs = args.seeds * len(WAYS) * len(set(args.loads))
    before_s = START_S + PROFILES_S * args.rounds / 3 + STOP_S
    most_s = before_s + runs * 1.25 * (args.seconds or MAX_SECONDS)
    planned_s = most_s if args.seconds else min(most_s, args.minutes * 60)
    tell(f"{runs} runs: about {planned_s / 60:.0f} min in all, {before_s / 60:.1f} of them for start and profiles")
    if args.seeds < MIN_SEEDS:
        tell(f"a trial: {args.seeds} seeds are too few for a result")


async def _run(args: argparse.Namespace, wan: Wan, findings: Findings) -> None:
    began_s, task = time.monotonic(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    console = ConsoleProgress(Console(stderr=True), MonotonicClock())
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pair = await stack.enter_async_context(
            serve("wan", folder, chunk_tokens=args.chunk_tokens, wan=wan, is_confined=True)
        )
        local, remote = await profiles(pair, wan, args.rounds, folder)
        promised = promise(local, MIX, args.chunk_tokens, args.first_token_s, args.token_s)
        link = LinkSpec("cloud", WAN_MBIT * 125_000, WAN_RTT_MS / 1e3)
        predictor = Predictor(local, remote, promised, args.chunk_tokens, MIX, link)
        plan = program(predictor, args.loads)
        left_s = args.minutes * 60 - (time.monotonic() - began_s) - STOP_S
        seconds = args.seconds or plan.seconds_within(predictor, args.seeds, left_s)
        _tell_plan(plan, predictor, args.seeds, seconds, findings)
        gateway = await stack.enter_async_context(Stack(folder / "gateway", console))
        config = _gateway_config(pair.config, EVERYTHING, folder)
        await gateway.start([gateway_service(config, folder / "gateway.yaml")])
        timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, connector=connector))

        async def switch(threshold: int) -> None:
            _gateway_config(config, threshold, folder)
            await asyncio.to_thread(OperatorClient.of(config).post, "/prfaas/reload")

        async def load(arrivals: Sequence[Arrival]) -> Sequence[Answered]:
            return await offer(http, gateway_url(config), config.model.name, arrivals, uuid.uuid4().hex, promised)

        await Runs(plan, predictor, args.seeds, seconds, findings, switch, load).measure()


def _tell_plan(plan: Program, predictor: Predictor, seeds: int, seconds: float, findings: Findings) -> None:
    expected_s = plan.expected_s(predictor, seeds, seconds)
    capacities = {way: round(rate, 3) for way, rate in plan.capacities.items()}
    findings.facts |= {
        "t_tokens": plan.thresholds[WAYS[-1]],
        "first_token_s": round(predictor.promise.first_token_s, 3),
        "token_s": round(predictor.promise.token_s, 4),
        "simulated_capacity": capacities,
        "rates": list(plan.rates),
        "seconds": seconds,
    }
    tell(f"{predictor.promise}; t = {plan.thresholds[WAYS[-1]]}; simulated capacities, requests/s: {capacities}")
    tell(f"offered to all ways: {plan.rates} requests/s, {seconds:g} s each: {expected_s / 60:.1f} min from now")


def _print(findings: Findings) -> None:
    facts = findings.facts
    kind = "A trial: " if facts["is_trial"] else "" if facts["is_complete"] else "Not complete: "
    title = f"{kind}goodput, mean of the seeds and 95 % confidence; error of the prediction"
    Console(width=110, highlight=False).print(findings.table(title))
    report.emit("selective", findings.keys())


def _gateway_config(config: Config, threshold: int, folder: Path) -> Config:
    """Write the gateway's configuration."""
    tree = config.model_dump(mode="json", by_alias=True)
    tree["policy"] |= {"name": "threshold", "threshold_tokens": threshold, "brown_out": {"decode_load": None}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return parse_config(tree)


if __name__ == "__main__":
    main()
