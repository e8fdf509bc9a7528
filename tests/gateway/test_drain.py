"""Drain of engines in a running gateway."""

import asyncio
import itertools
from typing import Any

import pytest

from prfaas.types import TransferReport
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import EVENTS, answer_at_once, die, hold, one_after_another, pause_after_first
from tests.gateway.wide import Wide, wide


async def engine_of(running: Wide, name: str) -> dict[str, Any]:
    async with running.client.get(f"{running.url}/prfaas/engines") as answer:
        engines = {each["name"]: each for each in (await answer.json())["engines"]}
    engine: dict[str, Any] = engines[name]
    return engine


async def test_drained_engine_ends_what_it_has_and_gets_nothing_new() -> None:
    """The stream that runs goes on to its end while all new requests go elsewhere, until the engine is undrained."""
    going_on = asyncio.Event()
    async with wide() as running:
        for name in ("edge-0", "edge-1"):
            running.engines[name].script = pause_after_first(going_on)
        async with await running.chat(2, stream=True) as answer:
            name = answer.headers["x-prfaas-engine"]
            assert await answer.content.readany() == EVENTS[0]
            status, told = await running.post(f"/prfaas/engines/{name}/drain")
            assert (status, told["state"], told["inflight"]) == (200, "draining", 1)
            going_on.set()
            assert {await running.answered_by() for _ in range(4)} == {"edge-0", "edge-1"} - {name}
            assert await answer.read() == b"".join(EVENTS[1:])
        await eventually(lambda: running.services.fleet.status(name).inflight == 0)
        assert (await engine_of(running, name))["state"] == "drained"
        assert (await running.post(f"/prfaas/engines/{name}/undrain"))[1]["state"] == "healthy"
        assert {await running.answered_by() for _ in range(4)} == {"edge-0", "edge-1"}


@pytest.mark.parametrize("change", ["drain", "remove", "move"])
async def test_nothing_is_tried_again_on_an_engine_that_takes_nothing_new(change: str) -> None:
    """A request whose engine dies goes on with none that was drained, removed or moved after it had been placed."""
    dying = asyncio.Event()
    async with wide() as running:
        running.engines["edge-0"].script = running.engines["edge-1"].script = hold(dying, die)
        asking = asyncio.create_task(running.chat(2))
        await eventually(lambda: running.engines["edge-0"].calls or running.engines["edge-1"].calls)
        other = "edge-1" if running.engines["edge-0"].calls else "edge-0"
        if change == "drain":
            assert (await running.post(f"/prfaas/engines/{other}/drain"))[1]["state"] == "drained"
        elif change == "remove":
            del running.tree["engines"][other]
        else:
            running.tree["engines"][other]["url"] = running.engines["moon-0"].url
            del running.tree["engines"]["moon-0"]
        await running.post("/prfaas/reload")
        dying.set()
        async with await asking as answer:
            assert answer.status == 503
        assert running.engines[other].calls == []


async def test_request_ends_on_an_engine_that_is_drained_meanwhile() -> None:
    """The decode engine that has it recomputes when the prefill elsewhere fails, also while it drains."""
    dying = asyncio.Event()
    async with wide(without=("edge-1", "moon-0")) as running:
        running.engines["cloud-0"].script = hold(dying, die)
        running.engines["edge-0"].script = one_after_another(hold(asyncio.Event()), answer_at_once)
        asking = asyncio.create_task(running.chat(10))
        await running.engines["cloud-0"].call(0)
        await running.engines["edge-0"].call(0)
        assert (await running.post("/prfaas/engines/edge-0/drain"))[1]["state"] == "draining"
        dying.set()
        async with await asking as answer:
            assert answer.status == 200
            assert answer.headers["x-prfaas-outcome"] == "recomputed"


async def test_engine_has_a_request_between_two_tries() -> None:
    """While the first one is given up, too: whoever stopped the engine then would lose the request."""
    seen: list[bool] = []
    async with wide(without=("edge-1", "moon-0")) as running:
        running.engines["cloud-0"].script = die
        running.engines["edge-0"].script = one_after_another(hold(asyncio.Event()), answer_at_once)
        asking = asyncio.create_task(running.chat(10))
        while not asking.done():
            seen.append(running.services.fleet.status("edge-0").inflight > 0)
            await asyncio.sleep(0)  # so as to see every turn of the loop that the gateway runs in, too
        async with asking.result() as answer:
            assert answer.headers["x-prfaas-outcome"] == "recomputed"
    assert [has_one for has_one, _ in itertools.groupby(seen)] in ([False, True], [False, True, False])


@pytest.mark.parametrize("arrival", ["report", "first output"])
async def test_prefill_engine_has_a_request_until_its_cache_has_arrived(arrival: str) -> None:
    """Its answer comes before: on a slow link long before. Whoever stopped it then would lose the cache. It has arrived
    when the decode side says so, or has an output; the end of a long answer is not waited for."""
    begin, going_on = asyncio.Event(), asyncio.Event()
    async with wide(without=("edge-1", "moon-0")) as running:
        running.engines["edge-0"].script = hold(begin, pause_after_first(going_on))
        asking = asyncio.create_task(running.chat(10, stream=True))
        call = await running.engines["cloud-0"].call(0)
        await eventually(lambda: not any(each.waiting_tokens for each in running.services.view.look().engines))
        assert (await running.post("/prfaas/engines/cloud-0/drain"))[1]["state"] == "draining"
        if arrival == "report":
            running.reports.give(TransferReport(call.params["prfaas"]["transfer_id"], ok=True, tokens=9))
        else:
            begin.set()
        await eventually(lambda: running.services.fleet.status("cloud-0").inflight == 0)
        assert (await engine_of(running, "cloud-0"))["state"] == "drained"
        assert running.services.decisions.latest().outcome == "running"
        begin.set()
        going_on.set()
        async with await asking as answer:
            assert answer.headers["x-prfaas-placement"] == "remote"
            await answer.read()


async def test_drained_prefill_engines_are_not_used() -> None:
    """Long prompts go to the other site, and stay here when both are drained."""
    async with wide() as running:
        await running.post("/prfaas/engines/cloud-0/drain")
        assert {await running.answered_by(10) for _ in range(3)} == {"moon-0"}
        await running.post("/prfaas/engines/moon-0/drain")
        assert (await running.answered_by(10)).startswith("edge")


async def test_without_an_engine_that_decodes_requests_are_refused() -> None:
    """A drained engine takes nothing, also when it is the last; readiness tells it."""
    async with wide(without=("edge-1",)) as running:
        await running.post("/prfaas/engines/edge-0/drain")
        async with await running.chat(2) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "engine_unavailable"
        assert running.engines["edge-0"].calls == []
        async with running.client.get(f"{running.url}/ready") as answer:
            assert answer.status == 503
