"""What being scraped costs the gateway.

    python -m benchmarks.scrape [--rounds 5]

Two questions:

    render    processor time of one /metrics with many tenants, engines and links in it
    latency   first chunks of streams at a steady rate, with and without a scrape a second, in turns; as ratios
"""

import argparse
import asyncio
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import aiohttp
import uvloop

from benchmarks.gateway import SEED, standing
from benchmarks.gateway_load import Sample, open_loop
from benchmarks.gateway_measure import WORDS
from benchmarks.report import emit
from prfaas.observe.decisions import ANSWERED, Decision, Try
from prfaas.observe.engines import EngineFigures
from prfaas.observe.metrics import Metrics
from prfaas.prefix import FeedCounts
from prfaas.types import LinkStatistics, MoverStatistics, TransferReport

TENANTS, LOCAL_ENGINES, REMOTE_ENGINES = 100, 8, 8
"""A large deployment: every local engine has a link to every remote one, and both ends tell of it."""
RATE, SECONDS, EVERY_S = 40.0, 6.0, 1.0
"""Streams begun a second, well below what one core takes; for so long a round; a scrape ten times as often as ours."""
RENDERS = 30


def filled() -> Metrics:
    """The metrics of such a deployment."""
    metrics = Metrics()
    local = [f"edge-{at}" for at in range(LOCAL_ENGINES)]
    remote = [f"cloud-{at}" for at in range(REMOTE_ENGINES)]
    for name in (*local, *remote):
        metrics.engines.tell(
            name,
            EngineFigures("edge", ("decode",), True, False, False, "exact", 3, 700, 9000.0),  # the site does not matter
        )
        metrics.feeds.note(name, FeedCounts())
        metrics.movers.note(name, MoverStatistics())
        peers = remote if name in local else local
        metrics.links.note(name, [LinkStatistics(peer, name in remote) for peer in peers])
    for at in range(TENANTS):
        for priority in ("interactive", "batch"):
            metrics.tenants.count_let_in(f"tenant-{at}", priority, 0.1)
        for code in ("queue_full", "rate_limit_exceeded", "invalid_request"):
            metrics.tenants.count_refused(f"tenant-{at}", code)
        metrics.tenants.count_tokens(f"tenant-{at}", 100)
    for placement, outcome in (("local", "local"), ("remote", "remote"), ("remote", "recomputed"), ("local", "error")):
        for status in (200, 400, 500, 503):
            metrics.count_ended(_ended(placement, outcome, status), is_stream=True, cause="stalled")
    return metrics


def _ended(placement: str, outcome: str, status: int) -> Decision:
    prefill = "cloud-0" if placement == "remote" else None
    report = TransferReport("t", ok=True, tokens=800, prefilled_s=1, first_s=0.1, last_s=1.1, used_s=1.2)
    decision = Decision("r", "chat", placement, "edge-0", prefill, (), 900, "t", uncached_tokens=800, status=status)
    tries = (Try("edge-0", prefill, "decode", ANSWERED, 1.5, 0.1),)
    decision.note(outcome=outcome, first_output_s=1.6, total_s=3.0, tries=tries, is_stream=True, reported_after_s=1.4)
    decision.note(report=report if prefill else None, tokenised_after_s=0.05, read_after_s=0.01)
    return decision


def measure_render() -> dict[str, float]:
    """Milliseconds of processor time for all of it and for the longest part, between which streams are served."""
    metrics, whole_ms, longest_ms = filled(), [], []
    for _ in range(RENDERS):
        at_s = [time.process_time()]
        for _part in metrics.parts():
            at_s.append(time.process_time())
        whole_ms.append(1e3 * (at_s[-1] - at_s[0]))
        longest_ms.append(1e3 * max(after - before for before, after in pairwise(at_s)))
    text = metrics.exposition()
    return {
        "series": sum(not line.startswith(b"#") for line in text.splitlines()),
        "kilobytes": round(len(text) / 1e3, 1),
        "whole_ms": round(statistics.median(whole_ms), 2),
        "longest_part_ms": round(statistics.median(longest_ms), 2),
    }


@contextlib.asynccontextmanager
async def scraping(url: str) -> AsyncIterator[None]:
    """Scrape once a second for the duration of the block."""

    async def scrape() -> None:
        async with aiohttp.ClientSession() as client:
            while True:
                async with client.get(url) as answer:
                    answer.raise_for_status()
                    await answer.read()
                await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(scrape())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def streams(port: int, requests: list[bytes], seed: int, *, is_scraped: bool) -> Sample:
    """One round."""
    async with scraping(f"http://127.0.0.1:{port}/metrics") if is_scraped else contextlib.nullcontext():
        return await open_loop(port, requests, RATE, seed)


def measure_latency(port: int, requests: list[bytes], rounds: int) -> dict[str, float]:
    """Medians over the rounds, each of which has both in another order than the one before."""
    found: dict[bool, list[Sample]] = {False: [], True: []}
    for at in range(rounds + 1):
        for is_scraped in (at % 2 == 0, at % 2 == 1):
            sample = uvloop.run(streams(port, requests, SEED + at, is_scraped=is_scraped))
            if at:  # the first round warms up
                found[is_scraped].append(sample)
                shares = [1e3 * sample.quantile_s(share) for share in (0.5, 0.99)]
                print(
                    f"  round {at}  scraped={is_scraped!s:<5}  p50 {shares[0]:.2f} ms  p99 {shares[1]:.2f} ms",
                    flush=True,
                )
    keys: dict[str, float] = {}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        medians = {key: statistics.median(each.quantile_s(share) for each in found[key]) for key in found}
        keys |= {f"{name}_ms": round(1e3 * medians[False], 3), f"{name}_scraped_ms": round(1e3 * medians[True], 3)}
        keys[f"{name}_ratio"] = round(medians[True] / medians[False], 3)
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # unwinds, and so ends what it has started
    rendered = measure_render()
    with tempfile.TemporaryDirectory() as name, standing(Path(name), ["prfaas"]) as (stand, _):
        requests = stand.requests("prfaas", WORDS[0], int(RATE * SECONDS))
        latency = measure_latency(stand.ports["prfaas"], requests, arguments.rounds)
    emit("scrape", {"render": rendered, "latency": latency})


if __name__ == "__main__":
    main()
