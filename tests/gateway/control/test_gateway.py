"""The controller in a running gateway: engines over real sockets change their roles while answers run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no types
import pytest

from prfaas.planner.controller.advice import Advice, Conversion
from prfaas.types import TransferReport
from tests.gateway.access.test_access import KEYS, guarded
from tests.gateway.control.fakes import FakeController
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import EVENTS, pause_after_first
from tests.gateway.wide import Wide, wide

TO_PREFILL = Conversion("edge-1", "prefill")


@asynccontextmanager
async def steered(mode: str, controller: FakeController, without: tuple[str, ...] = ()) -> AsyncIterator[Wide]:
    """Two convertible engines here, both of which decode, and a controller that looks 200 times a second."""

    def edit(tree: dict[str, Any]) -> None:
        for name in ("edge-0", "edge-1"):
            tree["engines"][name]["convertible"] = True
        tree["policy"]["hand_over_min_tokens"] = 1
        tree["controller"] = {"mode": mode, "interval_s": 0.005, "plan_interval_s": 1, "min_prefill_engines": 0}

    async with wide(without, edit=edit, make_controller=lambda *_: controller) as running:
        running.reports.default = TransferReport("any", ok=True, tokens=9, cache_bytes=90)
        yield running


async def plan(running: Wide) -> dict[str, Any]:
    async with running.client.get(f"{running.url}/prfaas/plan") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        told: dict[str, Any] = await answer.json()
        return told


async def looks(running: Wide, controller: FakeController, count: int = 3) -> None:
    seen = len(controller.fleets)
    await eventually(lambda: len(controller.fleets) >= seen + count)


async def test_an_engine_changes_its_role_while_it_answers() -> None:
    """The stream that runs on it ends as it would have; from then on it prefills for the other one, and decodes when it
    is converted back. Nobody restarts it, and no request is refused."""
    going_on = asyncio.Event()
    controller = FakeController(Advice(50))
    async with steered("on", controller, without=("cloud-0", "moon-0")) as running:
        engines = running.engines
        for name in ("edge-0", "edge-1"):
            engines[name].script = pause_after_first(going_on)
        first, second = await running.chat(2, stream=True), await running.chat(2, stream=True)
        by_engine = {answer.headers["x-prfaas-engine"]: answer for answer in (first, second)}
        assert set(by_engine) == {"edge-0", "edge-1"}
        controller.script.extend([Advice(50, (TO_PREFILL,), ("decode has room",)), Advice(50)])
        await eventually(lambda: running.services.fleet.status("edge-1").is_draining)
        await looks(running, controller)
        told = await plan(running)
        assert [each["engine"] for each in told["conversions"]] == ["edge-1"]
        assert {each["name"]: each["roles"] for each in told["engines"]} == {"edge-0": ["decode"], "edge-1": ["decode"]}
        going_on.set()
        assert await by_engine["edge-1"].read() == b"".join(EVENTS)
        await by_engine["edge-0"].read()
        await eventually(lambda: running.services.view.playing("prefill") == {"edge-1"})

        async with await running.chat(10) as answer:
            assert answer.status == 200
        decision = await running.ended()
        assert (decision.decode, decision.prefill) == ("edge-0", "edge-1")
        assert engines["edge-1"].calls[-1].body["max_tokens"] == 1

        controller.script.extend([Advice(50, (Conversion("edge-1", "decode"),), ("decode binds",)), Advice(50)])
        await eventually(lambda: running.services.view.playing("decode") == {"edge-0", "edge-1"})
        answered = set()
        for _ in range(4):
            async with await running.chat(2) as answer:
                answered.add(answer.headers["x-prfaas-engine"])
        assert answered == {"edge-0", "edge-1"}
        kinds = [each["kind"] for each in (await plan(running))["changes"]]
        assert kinds == ["converted", "conversion", "converted", "conversion", "threshold"]


async def test_the_threshold_moves_requests() -> None:
    """A prompt that was prefilled elsewhere stays here once the controller says so."""
    controller = FakeController(Advice(5))
    async with steered("on", controller) as running:
        await looks(running, controller)
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-placement"] == "remote"
        controller.advice = Advice(20, reasons=("the links are used to 95%",))
        await looks(running, controller)
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-placement"] == "local"
            assert "within the threshold of 20" in answer.headers["x-prfaas-reason"]


async def test_shadow_leaves_every_request_where_it_was() -> None:
    """The plan shows what it would do; threshold, roles and placements are the file's."""
    controller = FakeController(Advice(20, (TO_PREFILL,), ("prefill binds",)))
    async with steered("shadow", controller) as running:
        await looks(running, controller)
        told = await plan(running)
        assert (told["mode"], told["threshold_tokens"], told["wanted_threshold_tokens"]) == ("shadow", 5, 20)
        assert [each["what"] for each in told["changes"]] == [
            "would convert edge-1 to prefill",
            "would set the threshold from 5 to 20 tokens",
        ]
        assert told["changes"][0]["reasons"] == ["prefill binds"]
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-placement"] == "remote"
        assert running.services.view.playing("decode") == {"edge-0", "edge-1"}


async def test_the_controller_hears_of_arrivals_and_answers() -> None:
    """Uncached lengths as this site would have to prefill them, wherever they went; estimates for prompts that nobody
    counted; tokens of answers as the engines told them, or by events."""
    controller = FakeController(Advice(5))
    async with steered("on", controller) as running:
        for words, fields in ((10, {}), (3, {}), (3, {"short": True}), (3, {"stream": True})):
            async with await running.chat(words, **fields) as answer:
                await answer.read()
        await eventually(lambda: len(controller.arrivals) == 4 and controller.answers)
        await looks(running, controller)
        assert [tokens for _, tokens in controller.arrivals] == [10, 3, 5, 3]
        times = [at_s for at_s, _ in controller.arrivals]
        assert times == sorted(times)
        assert controller.answers


async def test_refused_requests_are_demand_too() -> None:
    """Nobody could take it, which is when a controller has to know of it."""
    controller = FakeController(Advice(5))
    async with steered("on", controller) as running:
        running.services.fleet.drain({"edge-0", "edge-1"})
        async with await running.chat(7) as answer:
            assert answer.status == 503
        await eventually(lambda: controller.arrivals)
        assert controller.arrivals[0][1] == 7


async def test_operators_see_roles_and_conversions_and_have_the_last_word() -> None:
    """The listing says ``converting``; an undrain ends the conversion, a drain stays when the controller lets go."""
    going_on = asyncio.Event()
    controller = FakeController(Advice(50))
    async with steered("on", controller, without=("cloud-0", "moon-0")) as running:

        async def told() -> dict[str, Any]:
            async with running.client.get(f"{running.url}/prfaas/engines") as answer:
                engine: dict[str, Any] = (await answer.json())["engines"][1]
                return engine

        async def say(word: str) -> None:
            async with running.client.post(f"{running.url}/prfaas/engines/edge-1/{word}") as answer:
                assert answer.status == 200

        async def convert() -> None:
            controller.script.append(Advice(50, (TO_PREFILL,)))
            controller.script.append(Advice(50))
            await eventually(lambda: running.services.fleet.status("edge-1").converting_s is not None)

        running.engines["edge-0"].script = running.engines["edge-1"].script = pause_after_first(going_on)
        streams = [await running.chat(2, stream=True) for _ in range(2)]
        await convert()
        assert ((await told())["state"], (await told())["roles"]) == ("converting", ["decode"])
        await say("undrain")
        await looks(running, controller)
        assert (await told())["state"] == "healthy"
        await convert()
        await say("drain")
        await looks(running, controller)
        going_on.set()
        for stream in streams:
            await stream.read()
        await eventually(lambda: running.services.fleet.status("edge-1").inflight == 0)
        await looks(running, controller)
        assert ((await told())["state"], (await told())["roles"]) == ("drained", ["decode"])


async def test_errors_of_the_controller_harm_no_request() -> None:
    """They are in the plan and in the metrics, and requests are answered."""
    controller = FakeController(Advice(5))
    async with steered("on", controller) as running:
        controller.script.extend([RuntimeError("a bug")] * 3)
        await looks(running, controller, 4)
        async with await running.chat(2) as answer:
            assert answer.status == 200
        async with running.client.get(f"{running.url}/metrics") as answer:
            assert "prfaas_controller_errors_total 3.0" in await answer.text()


async def test_the_plan_is_for_operators_where_there_are_tenants() -> None:
    """As the decisions: a tenant's key does not show it, and a proxy's request is refused."""
    async with guarded() as running:
        headers = {"authorization": f"Bearer {KEYS['acme']}", "x-forwarded-for": "10.0.0.1"}
        for path in ("/prfaas/plan", "/prfaas/decisions"):
            async with running.client.get(f"{running.url}{path}", headers=headers) as answer:
                assert answer.status == 403


@pytest.mark.parametrize("mode", ["off", "shadow", "on"])
async def test_the_plan_is_as_described(mode: str) -> None:
    """It keeps to the schema in ``/openapi.json``, in every mode."""
    controller = FakeController(Advice(9, (TO_PREFILL,), ("prefill binds",)))
    async with steered(mode, controller) as running:
        if mode != "off":
            await looks(running, controller)
        async with running.client.get(f"{running.url}/openapi.json") as answer:
            described = (await answer.json())["paths"]["/prfaas/plan"]["get"]["responses"]["200"]
        told = await plan(running)
        jsonschema.validate(told, described["content"]["application/json"]["schema"])
        assert (told["mode"], bool(told["changes"])) == (mode, mode != "off")
