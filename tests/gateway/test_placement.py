"""Decisions on their way through the gateway: refusals, what is recorded, what counts as load meanwhile."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.gateway.record import outcome_of
from prfaas.observe.decisions import Decision
from prfaas.routing.figures import PrefillRate
from prfaas.routing.policy import BrownOut
from prfaas.types import LinkStatistics, TransferReport
from tests.gateway import fakes
from tests.gateway.fakes import Stand, config_for, eventually
from tests.gateway.stub_engine import hold
from tests.gateway.test_remote import USED


async def test_brown_out_is_a_429(running: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """A refused request has OpenAI's error with the time to try again, and its decision is kept, logged and counted."""
    caplog.set_level("INFO", logger="prfaas")
    view = running.services.view
    view.policy = replace(view.policy, threshold_tokens=5, brown_out=BrownOut(waiting_tokens=0))
    running.cloud.health_status = 500
    await eventually(lambda: not running.services.fleet.status("cloud-0").is_healthy)
    async with await running.chat(10) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert (await answer.json())["error"]["code"] == "overloaded"
        request_id = answer.headers["x-request-id"]
    decision = running.services.decisions.latest()
    assert (decision.request_id, decision.placement, decision.outcome, decision.status) == (
        request_id,
        "refused",
        "refused",
        429,
    )
    assert "brown-out: computing 10 tokens would starve decoding on edge-0" in decision.reasons[0]
    assert decision.reasons[0] in caplog.text
    assert 0 < decision.read_after_s <= decision.tokenised_after_s <= decision.placed_after_s
    assert running.services.metrics.registry.get_sample_value("prfaas_rejected_requests_total", {"status": "429"}) == 1
    assert running.edge.calls == []


async def test_decision_carries_candidates_and_prediction(running: Stand) -> None:
    """The record has what was compared and predicted, and the metric what became of the prediction."""
    view = running.services.view
    view.set_rate("edge-0", PrefillRate(4.0, 0.0))
    view.set_rate("cloud-0", PrefillRate(0.0, 0.1))
    view.policy = replace(view.policy, name="predictive")
    running.reports.default = USED
    async with await running.chat(10, stream=True) as answer:
        await answer.read()
    assert (await running.ended()).outcome == "remote"
    learnt = view.snapshot().cache
    assert learnt is not None
    assert learnt.bytes_per_token == pytest.approx(USED.cache_bytes / USED.tokens)
    async with running.client.get(f"{running.url}/prfaas/decisions") as answer:
        record = (await answer.json())["decisions"][0]
    assert record["predicted_first_token_s"] == pytest.approx(1.02)
    assert record["uncached_tokens"] == 10
    assert [(each["prefill"], each["first_token_s"]) for each in record["candidates"]] == [
        ("cloud-0", pytest.approx(1.02)),
        (None, 4.0),
    ]
    ratios = "prfaas_first_token_prediction_ratio_count"
    assert running.services.metrics.registry.get_sample_value(ratios, {"placement": "remote"}) == 1


async def test_tokens_wait_until_the_first_output(running: Stand) -> None:
    """While an engine prefills its uncached tokens are in the snapshot, afterwards no more. Meanwhile both requests
    are without their cache, the one that is prefilled where it is decoded as well."""
    going_on = asyncio.Event()
    running.edge.script = running.cloud.script = hold(going_on)
    running.reports.default = None

    def waiting() -> list[tuple[int, int]]:
        return [(engine.waiting_tokens, engine.awaiting) for engine in running.services.view.snapshot().engines]

    short, long = asyncio.create_task(running.chat(3, stream=True)), asyncio.create_task(running.chat(10))
    await eventually(lambda: waiting() == [(3, 2), (10, 0)])
    going_on.set()
    for asking in (short, long):
        (await asking).close()
    await eventually(lambda: waiting() == [(0, 0), (0, 0)])


async def test_tokens_do_not_wait_for_the_rest_of_an_answer(running: Stand) -> None:
    """A prompt is prefilled when its prefill elsewhere ends or its cache is used, though the answer comes later."""
    answering, prefilled = asyncio.Event(), asyncio.Event()
    running.edge.script, running.cloud.script = hold(answering), hold(prefilled)
    view, reports = running.services.view, running.reports

    def waiting() -> list[int]:
        return [engine.waiting_tokens for engine in view.look().engines]

    asking = [asyncio.create_task(running.chat(10))]
    await eventually(lambda: waiting() == [0, 10])
    prefilled.set()
    await eventually(lambda: waiting() == [0, 0])
    running.cloud.script = hold(answering)
    asking.append(asyncio.create_task(running.chat(20)))
    await eventually(lambda: waiting() == [0, 20])
    transfer = (await running.cloud.call(1)).params["prfaas"]["transfer_id"]
    reports.give(replace(USED, transfer_id=transfer))
    await eventually(lambda: waiting() == [0, 0])
    assert not any(each.done() for each in asking)
    answering.set()
    for each in asking:
        (await each).close()


async def test_a_request_awaits_its_cache_until_it_is_there(running: Stand) -> None:
    """The end of its prefill is not enough: the cache may be on the link for long. Nor has it to be answered."""
    answering, prefilled = asyncio.Event(), asyncio.Event()
    running.edge.script, running.cloud.script = hold(answering), hold(prefilled)

    def seen() -> tuple[int, int, int]:
        decoder, prefiller = running.services.view.look().engines
        return decoder.inflight, decoder.awaiting, prefiller.waiting_tokens

    asking = asyncio.create_task(running.chat(10))
    await eventually(lambda: seen() == (1, 1, 10))
    running.reports.default = None
    prefilled.set()
    await eventually(lambda: seen() == (1, 1, 0))
    transfer = (await running.cloud.call(0)).params["prfaas"]["transfer_id"]
    running.reports.give(replace(USED, transfer_id=transfer))
    await eventually(lambda: seen() == (1, 0, 0))
    answering.set()
    (await asking).close()


async def test_whole_answers_wait_as_long_as_their_prefill_should_take(running: Stand) -> None:
    """Nobody says when the prefill of a whole answer ends: it counts for as long as predicted, or not at all."""
    answering = asyncio.Event()
    running.edge.script = hold(answering)
    view = running.services.view

    def waiting() -> int:
        return view.look().engines[0].waiting_tokens

    asking = [asyncio.create_task(running.chat(3))]
    await running.edge.call(0)
    assert waiting() == 0
    view.set_rate("edge-0", PrefillRate(0.0, 1000.0))
    asking.append(asyncio.create_task(running.chat(4)))
    await running.edge.call(1)
    assert waiting() == 4
    assert view.prefill_s("edge-0", 2) == 6000
    view.set_rate("edge-0", PrefillRate(0.0, 0.001))
    asking.append(asyncio.create_task(running.chat(5)))
    await running.edge.call(2)
    await eventually(lambda: waiting() == 4)
    assert not any(each.done() for each in asking)
    answering.set()
    for each in asking:
        (await each).close()
    assert waiting() == 0


async def test_links_reach_the_snapshot(running: Stand) -> None:
    """What the movers tell of a link is what placement sees of it."""
    target = running.services.config.engines["cloud-0"].kv
    running.reports.links_of[target] = (LinkStatistics("edge-0", True, queued_bytes=700, is_congested=True),)
    await eventually(lambda: running.services.view.snapshot().links[0].queued_bytes == 700)
    assert running.services.view.snapshot().links[0].is_scarce


@pytest.mark.parametrize(
    ("placement", "prefill", "ok", "outcome"),
    [
        ("local", None, None, "local"),
        ("local", "edge-p", True, "local"),
        ("local", "edge-p", False, "recomputed"),
        ("local", "edge-p", None, "unknown"),
        ("remote", "cloud-0", True, "remote"),
    ],
)
def test_outcome_of_a_hand_over(placement: str, prefill: str | None, ok: bool | None, outcome: str) -> None:
    """A cache from next door can be missed like one from afar, and is no remote one."""
    decision = Decision("r", "chat", placement, "edge-0", prefill, ("why",), 900, prefill and "t")
    report = None if ok is None else TransferReport("t", ok=ok)
    assert outcome_of(decision, is_recomputed=False, report=report) == outcome


async def test_cache_from_next_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of the site that only prefills gets the prompt's tokens, the decode engine where to fetch the cache."""

    def one_site(*urls: Any, **options: Any) -> Config:
        tree = config_for(*urls, **options).model_dump(by_alias=True)
        tree["engines"]["cloud-0"]["site"], tree["links"] = "edge", []
        tree["engines"]["edge-0"]["roles"] = ["decode"]
        tree["policy"] |= {"threshold_tokens": 50, "hand_over_min_tokens": 5}
        return parse_config(tree)

    monkeypatch.setattr(fakes, "config_for", one_site)
    async with fakes.stand() as running:
        running.reports.default = USED
        async with await running.chat(10) as answer:
            assert answer.status == 200
            seen = [answer.headers[f"x-prfaas-{name}"] for name in ("placement", "site", "engine", "remote-tokens")]
        assert seen == ["local", "edge", "cloud-0", "0"]
        assert (await running.cloud.call(0)).body["prompt"] == [4] * 10
        assert (await running.edge.call(0)).params["prfaas"]["remote"] == fakes.CLOUD_KV
        ended = await running.ended()
        assert (ended.outcome, ended.reasons[-1]) == ("local", "cloud-0 of the same site prefills")
        value = running.services.metrics.registry.get_sample_value
        assert (value("prfaas_site_transfer_tokens_total"), value("prfaas_remote_tokens_total")) == (9, 0)
        async with await running.chat(5) as answer:
            assert answer.headers["x-prfaas-engine"] == "edge-0"
