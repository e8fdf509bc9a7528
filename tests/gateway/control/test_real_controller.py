"""The real controller in a running gateway: what it decides from the demand is done to engines over real sockets, or in
shadow only told. Time passes by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prfaas.clock import ManualClock
from prfaas.types import TransferReport
from tests.gateway.control.test_gateway import plan
from tests.gateway.control.test_make import with_profile
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import EVENTS, answer_at_once, one_after_another, pause_after_first
from tests.gateway.wide import Wide, wide

STEP_S, REQUESTS_S = 5, 12
TIMEOUT_S = 3600
"""For answers that run while minutes pass; the most that there is."""
STUB_OF_EDGE_2 = "cloud-0"
"""Its engine stands in this site under another name."""


@asynccontextmanager
async def prefill_bound(mode: str, folder: Path, clock: ManualClock) -> AsyncIterator[Wide]:
    """Three convertible engines of one site, and profiles that say what they can do: edge-2 prefills 11 prompts of 90
    tokens a second, edge-0 and edge-1 decode 25 answers of 20 tokens each."""

    def edit(tree: dict[str, Any]) -> None:
        tree["engines"]["edge-2"] = {**tree["engines"].pop(STUB_OF_EDGE_2), "site": "edge"}
        for engine in tree["engines"].values():
            engine["convertible"] = True
        tree["links"] = []
        tree["policy"]["hand_over_min_tokens"] = 1
        tree["controller"] = {"mode": mode, "interval_s": 0.005, "plan_interval_s": 5}
        with_profile(tree, folder)

    async with wide(("moon-0",), edit=edit, clock=clock, request_timeout_s=TIMEOUT_S) as running:
        running.reports.default = TransferReport("any", ok=True, tokens=9, cache_bytes=90)
        yield running


async def ask(running: Wide, clock: ManualClock, seconds: int) -> None:
    """More than edge-2 can prefill comes, and all of it is answered; the controller looks every few seconds."""
    for _ in range(seconds // STEP_S):
        for at in range(STEP_S * REQUESTS_S):
            running.services.demand.note_arrival(clock.now_s() + at / REQUESTS_S, 90)
            running.services.demand.note_answer(20)
        clock.advance(STEP_S)
        looks = (await plan(running))["looks"]
        while (await plan(running))["looks"] == looks:
            pass  # the controller looks 200 times a second


async def roles(running: Wide) -> dict[str, tuple[str, list[str]]]:
    """Engine -> state and roles, as an operator sees them."""
    async with running.client.get(f"{running.url}/prfaas/engines") as answer:
        return {each["name"]: (each["state"], each["roles"]) for each in (await answer.json())["engines"]}


async def ways(running: Wide, requests: int) -> set[tuple[str, str | None]]:
    """The engines that decode and prefill so many long prompts."""
    found = set()
    for _ in range(requests):
        async with await running.chat(10) as answer:
            assert answer.status == 200
        decision = await running.ended()
        found.add((decision.decode, decision.prefill))
    return found


async def test_an_engine_is_converted_for_the_demand_and_requests_follow(tmp_path: Path) -> None:
    """Prefill binds: the controller wants one of two equal decode engines, which gets nothing new, ends its answer, and
    then prefills beside the one that did so before."""
    clock, going_on = ManualClock(100), asyncio.Event()
    async with prefill_bound("on", tmp_path, clock) as running:
        for name in ("edge-0", "edge-1"):
            running.engines[name].script = one_after_another(pause_after_first(going_on), answer_at_once)
        streams = [await running.chat(1, stream=True) for _ in range(2)]
        of_edge_0 = next(each for each in streams if each.headers["x-prfaas-engine"] == "edge-0")
        await ask(running, clock, 180)
        assert await roles(running) == {
            "edge-0": ("converting", ["decode"]),
            "edge-1": ("healthy", ["decode"]),
            "edge-2": ("healthy", ["prefill"]),
        }
        assert await ways(running, 4) == {("edge-1", "edge-2")}
        going_on.set()
        assert await of_edge_0.read() == b"".join(EVENTS)
        await eventually(lambda: running.services.view.playing("prefill") == {"edge-0", "edge-2"})
        assert (await roles(running))["edge-0"] == ("healthy", ["prefill"])
        assert await ways(running, 4) == {("edge-1", "edge-0"), ("edge-1", "edge-2")}
        assert running.engines["edge-0"].calls[-1].body["max_tokens"] == 1
        told = await plan(running)
        done = [each for each in told["changes"] if each["kind"] in ("conversion", "converted")]
        assert [each["what"].partition(":")[0] for each in done] == [
            "edge-0 is converted to prefill",
            "edge-0 begins to be converted to prefill",
        ]
        assert "local prefill binds" in "; ".join(done[1]["reasons"])
        assert told["errors"] == 0


async def test_in_shadow_the_same_demand_moves_nothing(tmp_path: Path) -> None:
    """What would be converted and why is told; roles and ways stay those of the file."""
    clock = ManualClock(100)
    async with prefill_bound("shadow", tmp_path, clock) as running:
        await ask(running, clock, 180)
        told = await plan(running)
        [wanted] = [each for each in told["changes"] if each["kind"] == "conversion"]
        assert wanted["what"] == "would convert edge-0 to prefill"
        assert "local prefill binds" in "; ".join(wanted["reasons"])
        assert (told["conversions"], told["threshold_tokens"], told["errors"]) == ([], 5, 0)
        assert await roles(running) == {
            "edge-0": ("healthy", ["decode"]),
            "edge-1": ("healthy", ["decode"]),
            "edge-2": ("healthy", ["prefill"]),
        }
        assert await ways(running, 4) == {("edge-0", "edge-2"), ("edge-1", "edge-2")}
