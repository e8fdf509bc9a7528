"""The profiles of the two engines of ``benchmarks.selective``: as ``prfaas profile`` measures them, then at work.

A profile's prefill is the latency of one prompt on an idle engine. With engines of milliseconds that is neither what
an engine is busy with (round trips and parsing are in it) nor all that it is busy with: a prefill engine also stages
and sends, and the decode engine injects. So the prefills are measured once more as throughput, with several
requests always under way: the local engine's alone, the remote one's as whole hand-overs.
"""

import asyncio
import random
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from benchmarks import report
from benchmarks.engines import DECODE, PREFILL, EnginePair
from benchmarks.selective_load import FIRST_ID, LAST_ID
from benchmarks.selective_runs import tell
from prfaas.clock import MonotonicClock
from prfaas.measure.cache import Pair
from prfaas.measure.engine import Engine, session
from prfaas.measure.progress import Bars
from prfaas.measure.prompts import Prompts
from prfaas.measure.result import Origin, result
from prfaas.measure.run import Wish, measure
from prfaas.planner.families import model_cache
from prfaas.planner.profile import EngineProfile, prefill_curve
from prfaas.planner.profile_file import dump_profile
from prfaas.transport.report import ReportClient
from tests.wan.wan import Wan

LENGTHS, BATCHES = (64, 256, 1024, 2048, 4096), (1, 2, 4, 8, 16)
UNDER_WAY = 6
"""Requests at once: enough that an engine never waits for the next one, about what waits at nine tenths of its load."""
A_ROUND_S, FEWEST = 2.0, 12

Work = Callable[[Sequence[int]], Awaitable[object]]
"""One request with this prompt, to its end."""


async def profiles(pair: EnginePair, wan: Wan, rounds: int, folder: Path) -> tuple[EngineProfile, EngineProfile]:
    """Of the local and of the remote engine, with prefills as at work."""
    alone = await _alone(pair, wan, rounds, folder)
    works: dict[str, Work] = {
        DECODE: lambda prompt: pair.ask(DECODE, pair.body(prompt, 1)),
        PREFILL: lambda prompt: pair.hand_over(prompt, 1, uuid.uuid4().hex),
    }
    local, remote = [await at_work(name, alone[name], work, rounds) for name, work in works.items()]
    return local, remote


async def at_work(name: str, alone: EngineProfile, work: Work, rounds: int) -> EngineProfile:
    """The same profile with prefill seconds as the reciprocal of throughput: the median of the rounds."""
    expected_s = dict(zip(LENGTHS, alone.prefill.at(np.array(LENGTHS, float)).tolist(), strict=True))
    found: dict[int, list[float]] = {tokens: [] for tokens in LENGTHS}
    for at in range(rounds):
        for tokens in random.Random(at).sample(LENGTHS, len(LENGTHS)):
            count = max(FEWEST, round(A_ROUND_S / expected_s[tokens]))
            found[tokens].append(await _seconds_each(work, tokens, count))
    # Longer prompts are never less work: where noise says otherwise the shorter one's figure holds.
    seconds = np.maximum.accumulate([statistics.median(found[tokens]) for tokens in LENGTHS]).tolist()
    for tokens, second in zip(LENGTHS, seconds, strict=True):
        spread = ", ".join(f"{each:.4f}" for each in found[tokens])
        tell(f"{name} at work: {tokens} tokens {second:.4f} s ({spread}), alone {expected_s[tokens]:.4f} s")
    return replace(alone, prefill=prefill_curve(LENGTHS, seconds))


async def _seconds_each(work: Work, tokens: int, count: int) -> float:
    """Of so many requests, always some of them under way."""
    turns = asyncio.Semaphore(UNDER_WAY)

    async def one() -> None:
        async with turns:
            await work(random.choices(range(FIRST_ID, LAST_ID), k=tokens))

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return (time.monotonic() - began_s) / count


async def _alone(pair: EnginePair, wan: Wan, rounds: int, folder: Path) -> dict[str, EngineProfile]:
    """One engine after the other, each from its own site."""
    found = {}
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
                bars, facts = Bars(Console(stderr=True)), await engine.facts()
                prompts = Prompts(0, tree["vocab_size"], uuid.uuid4().hex)
                with bars.shown(), wan.inside(pair.config.engines[name].site):
                    measured = await measure(engine, facts, wish, prompts, source, is_computed=True, steps=bars)
                origin = Origin(name, report.hardware(), "now", "this commit", seed=0)
                made = result(measured, wish, origin, model_cache(tree, facts.cache_types))
                dump_profile(made.file, folder / f"{name}.yaml")
                print((folder / f"{name}.yaml").read_text(), flush=True)
                found[name] = made.file.profile()
    finally:
        await reports.aclose()
    return found
