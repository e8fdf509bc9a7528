"""What the index predicts is what real engines report as cached tokens."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from prfaas.doctor.engines import check_engines
from prfaas.doctor.scope import Scope
from prfaas.fleet.block_hash import ContentKeys
from tests.engine.models import prompt_tokens
from tests.engine.pair import DECODE, PREFILL, engine_pair, until
from tests.engine.watched import Watched, watching

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

BLOCKS = 48
"""Shared by three recurrent groups and attention: a few conversations fill them, and evict others."""
BLOCK_TOKENS = 384
INTERVAL_TOKENS = 768


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("prefixes")
    few = ("--num-gpu-blocks-override", str(BLOCKS), "--max-model-len", "12000")
    args = {PREFILL: few, DECODE: (*few, "--prefix-cache-retention-interval", str(INTERVAL_TOKENS))}
    async with (
        engine_pair("qwen3_next", folder, chunk_tokens=2048, args=args) as pair,
        watching(pair, BLOCK_TOKENS) as watched,
    ):
        yield watched


async def test_shared_system_prompts_growing_conversations_and_salts_under_eviction(watched: Watched) -> None:
    """Both engines take the same walk through conversations, one with checkpoints at intervals, one without."""

    async def walk(engine: str) -> None:
        rng = random.Random(11)
        systems = [prompt_tokens(length, seed=length) for length in (400, 1_200, 2_000)]
        conversations = [[*rng.choice(systems), *prompt_tokens(60, seed=n)] for n in range(5)]
        salts = [None, None, None, "one", "two"]
        for turn in range(36):
            at = rng.randrange(len(conversations))
            grown = await watched.check(engine, conversations[at], ContentKeys(salts[at]))
            conversations[at] = [*grown, *prompt_tokens(rng.choice([5, 150, 700]), seed=1_000 + turn)]
            if len(conversations[at]) > 6_000 or rng.random() < 0.15:
                conversations[at] = [*rng.choice(systems), *prompt_tokens(60, seed=2_000 + turn)]

    await asyncio.gather(walk(PREFILL), walk(DECODE))
    hits = [hit for _, hit in watched.seen]
    assert sum(hit > 0 for hit in hits) > 10, "the walk has to hit something to say anything"
    assert watched.index.state(DECODE).is_exact
    assert watched.index.state(PREFILL).is_exact


async def test_a_reset_cache_and_an_evicted_one_hit_nothing(watched: Watched) -> None:
    prompt = prompt_tokens(2_000, seed=77)
    for _ in range(3):
        await watched.check(DECODE, prompt)
    assert watched.seen[-1][1] > 0
    for seed in range(4):
        await watched.check(DECODE, prompt_tokens(5_500, seed=7_000 + seed))
    await watched.check(DECODE, prompt)
    assert watched.seen[-1][1] == 0


async def test_the_doctor_sees_how_engines_were_started(watched: Watched) -> None:
    """What the connector tells of a real engine is as it should be, and what was given on the command line is seen:
    shorter prompts for both, and for one of them checkpoints at junctions alone. They agree: no pair is a finding."""
    checked = await check_engines(Scope(watched.pair.config, watched.pair.config.gateway.site), None)
    assert [(each.code, each.where) for each in checked.findings] == [
        ("engines.model", f"engines.{DECODE}"),
        ("engines.model", f"engines.{PREFILL}"),
        ("engines.retention", f"engines.{PREFILL}"),
    ]
    assert all("vLLM 0.32" in line and "connector at" in line for line in checked.seen)


async def test_what_came_over_the_link_is_cached_as_predicted(watched: Watched) -> None:
    """A load stores blocks as a prefill does."""
    prompt = prompt_tokens(3_000, seed=78)
    await watched.pair.remote(prompt, 2, salt="linked")
    for _ in range(2):
        await watched.check(DECODE, prompt, ContentKeys("linked"))
        await watched.check(PREFILL, prompt, ContentKeys("linked"))


async def test_after_a_restart_nothing_is_predicted_from_before(watched: Watched) -> None:
    pair, prompt = watched.pair, prompt_tokens(2_000, seed=79)
    for _ in range(3):
        await watched.check(PREFILL, prompt)
    next(child for child in reversed(pair.stack.children) if child.name == PREFILL).kill()

    async def is_forgotten() -> bool:
        return not watched.index.state(PREFILL).is_followed

    await until(is_forgotten)
    await pair.stack.start([pair.services[PREFILL]])

    async def is_followed() -> bool:
        return watched.index.state(PREFILL).is_exact

    await until(is_followed)
    assert watched.predicted(PREFILL, prompt) == 0
    for _ in range(3):
        await watched.check(PREFILL, prompt)
    assert watched.seen[-1][1] > 0
