"""``prfaas bench`` against a gateway with stub engines, whose answers are counted by hand."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import web

from prfaas.commands.benching.load import Answer, Answers, Load
from prfaas.commands.benching.report import summary
from tests.commands.conftest import Ask
from tests.commands.gateways import config_file, process
from tests.gateway.access.test_access import KEYS, guarded
from tests.gateway.fakes import Stand
from tests.gateway.stub_engine import (
    EVENTS,
    Call,
    Script,
    answer_at_once,
    begin_stream,
    break_off,
    hold,
    one_after_another,
    refuse,
)
from tests.ports import free_port


async def test_load_reaches_the_engines(running: Stand, tmp_path: Path) -> None:
    """So many requests with such prompts, and as many answers; text for people, JSON for programs."""
    file = config_file(tmp_path, running)
    options = ("--requests", "6", "--concurrency", "2", "--prompt-tokens", "2,4", "--output-tokens", "3")
    told = await process("bench", *options, "--json", "--config", file)
    assert (told.code, told.err) == (0, "")
    found = told.json
    assert (found["all"]["requests"], found["all"]["failed"], found["model"]) == (6, 0, "tiny")
    assert found["by_placement"]["local"]["requests"] == 6
    assert found["all"]["ttft_s"]["p50"] > 0
    assert sorted(len(call.body["prompt"]) for call in running.edge.calls) == [2, 2, 2, 4, 4, 4]
    assert {call.body["max_tokens"] for call in running.edge.calls} == {3}
    assert len({json.dumps(call.body["prompt"]) for call in running.edge.calls}) == 6
    told = await process("bench", *options, "--config", file)
    assert told.code == 0
    assert "TTFT p50" in told.out
    assert "local" in told.out


@pytest.mark.parametrize("script", [refuse(400), break_off])
async def test_failed_requests_are_told(running: Stand, tmp_path: Path, script: object) -> None:
    """Exit code 1, the number and the first reason; figures are those of the others."""
    running.edge.script = script  # type: ignore[assignment]  # one of two scripts
    told = await process(
        "bench", "-n", "3", "--prompt-tokens", "2", "--json", "--config", config_file(tmp_path, running)
    )
    assert told.code == 1
    assert told.json["all"]["failed"] == 3
    assert told.json["all"]["ttft_s"]["p50"] is None
    assert told.err.startswith("prfaas: 3 of 3 requests failed, the first: ")


@pytest.mark.parametrize("event", ["[1]", "7", '{"usage": 3}', '{"usage": {"completion_tokens": [1]}}', "no JSON"])
async def test_events_of_another_shape(running: Stand, tmp_path: Path, event: str) -> None:
    """Such an answer has failed, and the others count."""
    told_so = begin_with(f"data: {event}\n\n".encode())
    running.edge.script = one_after_another(told_so, answer_at_once)
    options = ("-n", "2", "-j", "1", "--prompt-tokens", "2", "--json")
    told = await process("bench", *options, "--config", config_file(tmp_path, running))
    assert (told.code, told.json["all"]["failed"]) == (1, 1)
    assert told.json["all"]["ttft_s"]["p50"] is not None
    assert told.err.startswith("prfaas: 1 of 2 requests failed, the first: ")


def begin_with(event: bytes) -> Script:
    """An event before the usual ones."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        response = await begin_stream(call, request)
        await response.write(event)
        for usual in EVENTS:
            await response.write(usual)
        return response

    return script


async def test_a_tenants_key(tmp_path: Path) -> None:
    """It is given from a file; without it the gateway says what is missing."""
    async with guarded() as running:
        key = tmp_path / "key"
        key.write_text(KEYS["acme"])
        options = ("-n", "1", "--prompt-tokens", "2", "--url", running.url)
        assert (await process("bench", *options, "--api-key-file", key)).code == 0
        told = await process("bench", *options)
        assert (told.code, len(told.err.splitlines())) == (2, 1)
        assert "answers 401" in told.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "http://gateway.example:8000"), "--mine"),
        (("--url", "http://gateway.example:8000", "--mine", "--api-key-file", "KEY"), "plain text"),
        (("--url", "http://127.0.0.1:1", "--prompt-tokens", "many"), "--prompt-tokens many"),
        (("--url", "http://127.0.0.1:1", "--prompt-tokens", "0"), "--prompt-tokens 0"),
        (("--url", "http://127.0.0.1:1", "--requests", "100000"), "10000"),
    ],
)
async def test_wrong_use(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    """A server that may be another's is not loaded unasked, no key is shown to others, and the load is bounded."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KEY").write_text("a key")
    told = await ask("bench", *options)
    assert told.code == 2
    assert words in told.err


async def test_server_that_is_not_there() -> None:
    """Exit code 3 and a line, as for every command that asks a gateway."""
    told = await process("bench", "--url", f"http://127.0.0.1:{free_port()}")
    assert (told.code, len(told.err.splitlines())) == (3, 1)
    assert "cannot be asked" in told.err


async def test_unknown_model(running: Stand) -> None:
    """Those that there are."""
    told = await process("bench", "--url", running.url, "--model", "huge")
    assert (told.code, told.err) == (2, "prfaas: config: --model huge: there is tiny\n")


def test_figures_by_hand() -> None:
    """Two local answers, a remote one and a failed one: percentiles by rank, tokens over the whole time."""
    answers = (
        Answer(10, "local", first_s=0.1, gaps_s=(0.01, 0.02), total_s=0.13, tokens=3),
        Answer(10, "local", first_s=0.3, gaps_s=(0.03,), total_s=0.33, tokens=2),
        Answer(90, "remote", first_s=0.5, gaps_s=(0.04,), total_s=0.54, tokens=2),
        Answer(90, "remote", error="429: enough"),
    )
    load = Load("http://127.0.0.1:1", None, (10, 90), 3, 4, 2, 0, 60)
    told = summary(load, Answers("tiny", answers, 2.0))
    assert told["all"]["requests_s"] == 1.5
    assert told["all"]["output_tokens_s"] == 3.5
    local, remote = told["by_placement"]["local"], told["by_placement"]["remote"]
    assert (local["ttft_s"]["p50"], local["ttft_s"]["p99"]) == (0.1, 0.3)
    assert (local["itl_s"]["p50"], local["itl_s"]["p90"]) == (0.02, 0.03)
    assert (remote["requests"], remote["failed"], remote["mean_prompt_tokens"]) == (2, 1, 90)


def test_lengths_are_the_same_for_a_seed() -> None:
    """As often each, in an order that another seed changes."""
    loads = [Load("", None, (1, 2), 1, 20, 1, seed, 1).lengths() for seed in (0, 0, 1)]
    assert loads[0] == loads[1] != loads[2]
    assert sorted(loads[2]) == [1] * 10 + [2] * 10


async def test_ctrl_c_ends_the_load(running: Stand, tmp_path: Path) -> None:
    """Code 130, and no request is left on the engine."""
    running.edge.script = hold(asyncio.Event())
    argv = ("bench", "-n", "4", "-j", "2", "--prompt-tokens", "2", "--config", str(config_file(tmp_path, running)))
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "prfaas.cli", *argv, stderr=asyncio.subprocess.PIPE
    )
    calls = [await running.edge.call(at) for at in range(2)]
    started.send_signal(2)
    _, err = await started.communicate()
    assert (started.returncode, err) == (130, b"")
    for call in calls:
        await call.is_aborted.wait()
