"""Bytes of caches, from a pair of engines or a gateway, beside those of the model's layers."""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from prfaas.clock import MonotonicClock
from prfaas.errors import EngineUnavailable, TransferFailed
from prfaas.measure import cache
from prfaas.measure.cache import Gateway, Pair, disagreements, measure_cache
from prfaas.measure.engine import Engine, session
from prfaas.measure.prompts import Prompts
from prfaas.planner.layers import AttentionCache, ModelCache, StateCache
from prfaas.types import TransferReport
from tests.measure.stub_vllm import NoSteps

PROMPTS = Prompts(1, None, "run")
LAYERS = ModelCache((AttentionCache(2, 100), StateCache(1, 5000, 1)))
Answer = Callable[[dict[str, Any]], Awaitable[web.Response]]


@asynccontextmanager
async def server(answer: Answer):  # type: ignore[no-untyped-def]  # yields an Engine
    app = web.Application(client_max_size=2**26)

    async def handle(request: web.Request) -> web.Response:
        return await answer(json.loads(await request.read()))

    app.router.add_post("/v1/completions", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with session() as http:
            yield Engine(http, f"http://127.0.0.1:{runner.addresses[0][1]}", MonotonicClock())
    finally:
        await runner.cleanup()


class Reports:
    """What transfers had, by what both engines were told of them."""

    def __init__(self, *failures: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failures = list(failures)

    async def engines(self, body: dict[str, Any]) -> web.Response:
        self.asked.append(body)
        return web.json_response({"choices": [{}]})

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        both = [b for b in self.asked if b["kv_transfer_params"]["prfaas"]["transfer_id"] == transfer_id]
        assert {body["kv_transfer_params"]["prfaas"]["role"] for body in both} == {"prefill", "decode"}
        assert all(body["kv_transfer_params"]["prfaas"]["secret"] == secret for body in both)
        assert both[0]["prompt"] == both[1]["prompt"]
        if self.failures:
            return TransferReport(transfer_id, ok=False, reason=self.failures.pop(0))
        return TransferReport(transfer_id, ok=True, cache_bytes=LAYERS.prompt_bytes(len(both[0]["prompt"])))


async def measured(engine: Engine, reports: Reports, lengths: Sequence[int] = (10, 100)) -> Any:
    pair = Pair(engine, engine, "there:1", "here:1", reports)
    return await measure_cache(pair, "tiny", lengths, PROMPTS, NoSteps())


async def test_a_pair_tells_bytes_on_the_wire() -> None:
    """Both engines are told of the same transfer, and what the decode engine reports is taken."""
    reports = Reports()
    async with server(reports.engines) as engine:
        found, missing = await measured(engine, reports)
    assert found == {10: 5000 + 9 * 200, 100: 5000 + 99 * 200}
    assert not missing
    assert disagreements(found, LAYERS, block_tokens=1) == ()


async def test_a_failed_transfer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that have just started may not know each other; what goes on failing is told with its length."""
    monkeypatch.setattr(cache, "PAUSE_S", 0.0)
    reports = Reports("no", "no", "no", "late")
    async with server(reports.engines) as engine:
        found, missing = await measured(engine, reports)
    assert found == {100: 5000 + 99 * 200}
    assert missing == ["cache: of 10 tokens nothing was measured: no"]


async def test_an_engine_that_fails_ends_the_measurement() -> None:
    """One error of ours, not a group of them."""

    async def fail(body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": "out of order"}}, status=500)

    async with server(fail) as engine:
        with pytest.raises(EngineUnavailable, match=r"answers 500.*out of order"):
            await measured(engine, Reports())


async def test_a_gateway_tells_it_in_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts are remote and have their bytes; a short one stays local, which is told with the reason."""
    monkeypatch.setattr(cache, "PAUSE_S", 0.0)

    async def answer(body: dict[str, Any]) -> web.Response:
        is_remote = len(body["prompt"]) > 50
        remote = {"x-prfaas-outcome": "remote", "x-prfaas-cache-bytes": "12345"}
        return web.json_response({}, headers=remote if is_remote else {"x-prfaas-reason": "below the threshold"})

    async with server(answer) as engine:
        found, missing = await measure_cache(Gateway(engine), "tiny", (10, 100), PROMPTS, NoSteps())
        with pytest.raises(TransferFailed):
            await Gateway(engine).cache_bytes("tiny", [40] * 10, "salt")
    assert found == {100: 12345}
    assert "of 10 tokens" in missing[0]
    assert "below the threshold" in missing[0]


@pytest.mark.parametrize(
    ("factor", "is_wrong"), [(1.0, False), (1.04, False), (0.96, False), (1.06, True), (0.5, True)]
)
def test_a_difference_above_five_percent_is_told(factor: float, is_wrong: bool) -> None:
    """With the length and both figures."""
    on_wire = round(LAYERS.prompt_bytes(1000) * factor)
    found = disagreements({1000: on_wire}, LAYERS, block_tokens=1)
    assert bool(found) == is_wrong
    assert all(f"{on_wire:,}" in text and f"{LAYERS.prompt_bytes(1000):,}" in text for text in found)
