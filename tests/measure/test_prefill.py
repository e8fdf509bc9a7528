"""Measuring prefills, over real sockets, of an engine whose times are known."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.measure.engine import Engine, session
from prfaas.measure.prefill import measure_prefill
from prfaas.measure.prompts import Prompts
from tests.measure.stub_vllm import NoSteps, StubVllm

PROMPTS = Prompts(seed=3, vocabulary=1000, run="run")


@pytest.fixture
async def stub() -> AsyncIterator[StubVllm]:
    async with StubVllm().serving() as engine:
        yield engine


async def measured(stub: StubVllm, lengths: tuple[int, ...] = (10, 100), rounds: int = 2) -> dict[int, list[float]]:
    steps = NoSteps()
    async with session() as http:
        found = await measure_prefill(Engine(http, stub.url, stub.clock), "tiny", lengths, rounds, PROMPTS, steps)
    assert steps.work == {"prefill": 0}
    return found


async def test_seconds_to_the_first_token(stub: StubVllm) -> None:
    """What the engine took is what is told, for each round and length, and nothing is taken off."""
    stub.prefill_s = lambda tokens: 0.5 + tokens / 100
    found = await measured(stub)
    assert found == {10: pytest.approx([0.6, 0.6], abs=0.05), 100: pytest.approx([1.5, 1.5], abs=0.05)}


async def test_the_warm_up_does_not_count(stub: StubVllm) -> None:
    """The first prompt of each length is slow, as on an engine that compiles, and in no sample."""
    seen: set[int] = set()

    def prefill_s(tokens: int) -> float:
        first = tokens not in seen
        seen.add(tokens)
        return 100.0 if first else 1.0

    stub.prefill_s = prefill_s
    assert all(max(seconds) < 2 for seconds in (await measured(stub)).values())


async def test_prompts_are_new_each_time_and_the_same_for_the_seed(stub: StubVllm) -> None:
    """No two prompts of a run are alike; another run has the same ones in the same order, with other salts."""
    await measured(stub)
    first = [(body["prompt"], body["cache_salt"]) for body in stub.bodies]
    assert len({tuple(prompt) for prompt, _ in first}) == len({salt for _, salt in first}) == 6
    assert all(32 <= token < 950 for prompt, _ in first for token in prompt)
    stub.bodies.clear()
    await measured(stub)
    assert [body["prompt"] for body in stub.bodies] == [prompt for prompt, _ in first]
    assert Prompts(3, 1000, "other").salt(1) != PROMPTS.salt(1)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"others": 3}, EngineUnavailable, "busy with requests of others .3 running.*drain"),
        ({"others_finished": 2}, EngineUnavailable, "answered 2 requests of others while a prompt of 10 tokens"),
        ({"hit_tokens": 4}, ConfigError, "4 of 10 tokens.*in its cache"),
        ({"max_tokens": 50}, ConfigError, "answers 400 while a prompt of 100 tokens was prefilled: longer than 50"),
        ({"dies_after": 3}, EngineUnavailable, "went away while a prompt of (10|100) tokens was prefilled"),
        ({"refuses": ("ignore_eos",)}, ConfigError, "unknown field ignore_eos"),
    ],
)
async def test_faults_are_named(stub: StubVllm, fault: dict[str, Any], error: type[Exception], message: str) -> None:
    """Others' requests, a cache that hits, a prompt that is too long, an engine that dies: in words."""
    for name, value in fault.items():
        setattr(stub, name, value)
    with pytest.raises(error, match=message):
        await measured(stub)


async def test_no_engine_at_all(stub: StubVllm) -> None:
    """An address where nobody listens."""
    async with session() as http:
        with pytest.raises(EngineUnavailable, match="cannot be asked"):
            await Engine(http, "http://127.0.0.1:9", stub.clock).facts()


async def test_what_an_engine_says_of_itself(stub: StubVllm) -> None:
    """Version, model, room and cache settings; adapters are no models, and a wrong name is told with the right ones."""
    async with session() as http:
        engine = Engine(http, stub.url, stub.clock)
        facts = await engine.facts()
        assert (facts.version, facts.model, facts.max_tokens) == ("0.32.0", "tiny", 100_000)
        assert facts.cache["block_size"] == "16"
        with pytest.raises(ConfigError, match="no model 'other'; there are: tiny"):
            await engine.facts("other")
