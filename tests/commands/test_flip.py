"""``prfaas flip``: an operator gives an engine its other role, under load."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Ask
from tests.commands.gateways import config_file
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import EVENTS, pause_after_first
from tests.gateway.wide import wide


def convertible(mode: str = "shadow") -> Any:
    """Two engines here that decode and may prefill, and a controller that looks often."""

    def edit(tree: dict[str, Any]) -> None:
        for name in ("edge-0", "edge-1"):
            tree["engines"][name]["convertible"] = True
        tree["policy"]["hand_over_min_tokens"] = 1
        tree["controller"] = {"mode": mode, "interval_s": 0.01, "plan_interval_s": 1, "min_prefill_engines": 0}

    return wide(without=("cloud-0", "moon-0"), edit=edit)


async def test_a_flip_under_load_loses_no_request(ask: Ask, tmp_path: Path) -> None:
    """The stream on the engine ends as it would have, new requests go to the other one, and then it prefills."""
    going_on = asyncio.Event()
    async with convertible() as running:
        file = config_file(tmp_path, running)
        for engine in running.engines.values():
            engine.script = pause_after_first(going_on)
        streams = [await running.chat(2, stream=True) for _ in range(2)]
        name = streams[0].headers["x-prfaas-engine"]
        other = ({"edge-0", "edge-1"} - {name}).pop()
        flipping = asyncio.create_task(ask("flip", name, "prefill", "--config", file))
        await eventually(lambda: running.services.fleet.status(name).is_draining)
        before = len(running.engines[other].calls)
        asking = asyncio.create_task(running.chat(2))
        await eventually(lambda: len(running.engines[other].calls) > before)
        going_on.set()  # not before: once the engine has its new role, it may prefill for the other one
        async with await asking as answer:
            assert (answer.status, answer.headers["x-prfaas-engine"]) == (200, other)
        assert [await stream.read() for stream in streams] == [b"".join(EVENTS)] * 2
        told = await flipping
        assert (told.code, told.out) == (0, f"{name}: prefill now\n")
        assert running.services.view.playing("prefill") == {name}
        told = await ask("flip", name, "decode", "--config", file, "--json")
        assert told.json == {"engine": name, "role": "decode", "done": True}
        assert running.services.view.playing("decode") == {"edge-0", "edge-1"}


async def test_a_flip_that_takes_too_long_says_what_it_waits_for(ask: Ask, tmp_path: Path) -> None:
    """Exit code 1; the conversion goes on."""
    async with convertible() as running:
        file = config_file(tmp_path, running)
        for engine in running.engines.values():
            engine.script = pause_after_first(asyncio.Event())
        streams = [await running.chat(2, stream=True) for _ in range(2)]
        told = await ask("flip", "edge-1", "prefill", "--timeout-s", "0.3", "--config", file)
        assert (told.code, told.out) == (1, "")
        assert "prfaas: not within 0.3 s: edge-1: converting, requests in flight: 1\n" in told.err
        assert running.services.fleet.status("edge-1").is_draining
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("mode", ["off", "shadow", "on"])
async def test_an_operators_word_counts_in_every_mode(ask: Ask, tmp_path: Path, mode: str) -> None:
    """Also without a controller, and it outlasts a reload."""
    async with convertible(mode) as running:
        file = config_file(tmp_path, running)
        assert (await ask("flip", "edge-1", "prefill", "--config", file)).code == 0
        running.tree["policy"]["threshold_tokens"] = 7
        assert (await ask("reload", "--config", file)).code == 0
        told = (await ask("status", "--json", "--config", file)).json
        assert told["controller"]["configured_threshold_tokens"] == 7
        assert {each["name"]: each["roles"] for each in told["engines"]} == {
            "edge-0": ["decode"],
            "edge-1": ["prefill"],
        }


@pytest.mark.parametrize(
    ("engine", "role", "why"),
    [
        ("edge-1", "decode", "its role is decode already"),
        ("edge-9", "prefill", "no engine 'edge-9'"),
    ],
)
async def test_what_cannot_be_is_refused(ask: Ask, tmp_path: Path, engine: str, role: str, why: str) -> None:
    """Exit code 1 and the reason; nothing is drained."""
    async with convertible() as running:
        told = await ask("flip", engine, role, "--config", config_file(tmp_path, running))
        assert (told.code, told.out) == (1, "")
        assert why in told.err
        assert not any(each.is_draining for each in running.services.fleet.statuses())


async def test_the_last_decode_engine_keeps_its_role(ask: Ask, tmp_path: Path) -> None:
    """An operator may do what the controller may, and no more."""
    async with convertible() as running:
        file = config_file(tmp_path, running)
        assert (await ask("drain", "edge-0", "--config", file)).code == 0
        told = await ask("flip", "edge-1", "prefill", "--config", file)
    assert told.code == 1
    assert "0 other engines would be left to decode, at least 1 have to be" in told.err


async def test_a_flip_that_is_called_off_fails(ask: Ask, tmp_path: Path) -> None:
    """An undrain ends it; the command says so with exit code 1."""
    async with convertible() as running:
        file = config_file(tmp_path, running)
        for engine in running.engines.values():
            engine.script = pause_after_first(asyncio.Event())
        streams = [await running.chat(2, stream=True) for _ in range(2)]
        assert (await ask("flip", "edge-1", "prefill", "--no-wait", "--config", file)).code == 0
        flipping = asyncio.create_task(ask("flip", "edge-1", "prefill", "--config", file))
        told = await flipping
        assert "it is being converted to prefill" in told.err
        assert (await ask("undrain", "edge-1", "--config", file)).code == 0
        assert running.services.view.playing("decode") == {"edge-0", "edge-1"}
        for stream in streams:
            stream.close()


async def test_a_wrong_role_is_wrong_use(ask: Ask) -> None:
    """The command line knows the roles."""
    told = await ask("flip", "edge-1", "both", "--url", "http://127.0.0.1:1")
    assert told.code == 2


@pytest.mark.parametrize(("body", "status"), [({"role": "both"}, 400), ({}, 400), ([], 400), ({"role": ["a"]}, 400)])
async def test_the_route_checks_its_body(body: object, status: int) -> None:
    """In OpenAI's shape, like every error."""
    async with (
        convertible() as running,
        running.client.post(f"{running.url}/prfaas/engines/edge-1/role", json=body) as answer,
    ):
        assert answer.status == status
        assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_the_route_is_the_operators(tmp_path: Path) -> None:
    """As the drain: nothing that a proxy passes on."""
    async with convertible() as running:
        url, headers = f"{running.url}/prfaas/engines/edge-1/role", {"x-forwarded-for": "10.0.0.1"}
        async with running.client.post(url, json={"role": "prefill"}, headers=headers) as answer:
            assert answer.status == 403
        assert not running.services.fleet.status("edge-1").is_draining
