"""``prfaas status``, ``top`` and ``decisions`` against a gateway: text, JSON, filters, widths."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prfaas.commands.views import request as request_view
from prfaas.commands.views import status as status_view
from prfaas.commands.views import top as top_view
from tests.commands.conftest import Ask
from tests.commands.gateways import config_file, process
from tests.gateway.fakes import Stand, eventually
from tests.gateway.stub_engine import pause_after_first
from tests.gateway.test_remote import USED
from tests.gateway.wide import wide


async def served(running: Stand) -> None:
    """A local, a remote and a failed request, in this order."""
    running.reports.default = USED
    for words in (2, 10):
        async with await running.chat(words) as answer:
            assert answer.status == 200
        await running.ended()
    await running.edge.stop()
    async with await running.chat(3) as answer:
        assert answer.status >= 500
    await running.ended()


async def test_status_shows_what_there_is(ask: Ask, running: Stand, tmp_path: Path) -> None:
    """Engines, links, queues, threshold and outcomes, once and without colours, since nobody draws over a file."""
    await served(running)
    told = await ask("status", "--config", config_file(tmp_path, running))
    assert told.code == 0
    for words in ("edge-0", "cloud → edge", "threshold: 5 tokens", "last 3 requests: 1 error, 1 local, 1 remote"):
        assert words in told.out
    assert "\x1b" not in told.out


async def test_status_as_json_is_the_gateways_own(ask: Ask, running: Stand, tmp_path: Path) -> None:
    """One document, as the route has it."""
    told = await ask("status", "--json", "--config", config_file(tmp_path, running))
    assert {"gateway", "sites", "engines", "links", "recent"} <= told.json.keys()


async def test_trouble_is_on_top(ask: Ask, tmp_path: Path) -> None:
    """An engine that is ill comes before those that are well, with what is wrong."""
    async with wide(probe_interval_s=0.02) as running:
        running.engines["moon-0"].health_status = 503
        await eventually(lambda: not running.services.fleet.status("moon-0").is_healthy)
        told = await ask("status", "--config", config_file(tmp_path, running))
    rows = [line.split()[0] for line in told.out.splitlines() if line.startswith((" edge-", " cloud-", " moon-"))]
    assert rows == ["moon-0", "edge-0", "edge-1", "cloud-0"]
    assert "/health answers 503" in told.out


async def test_an_older_gateway_is_shown(running: Stand) -> None:
    """One that does not say how many of its workers it has heard."""
    async with running.client.get(f"{running.url}/prfaas/status") as answer:
        told = await answer.json()
    told["gateway"] |= {"workers": 2}
    del told["gateway"]["heard_workers"]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_view.draw(told, 200))
    assert " · 2 workers · " in captured.get()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
async def test_every_view_fits(running: Stand, width: int) -> None:
    """No line is longer than the terminal, and every engine is named on the narrowest."""
    await served(running)

    async def get(path: str) -> Any:
        async with running.client.get(running.url + path) as answer:
            return await answer.json()

    status, decisions = await get("/prfaas/status"), (await get("/prfaas/decisions"))["decisions"]
    one = await get(f"/prfaas/requests/{decisions[1]['request_id']}")
    for drawn in (
        status_view.draw(status, width),
        top_view.draw(top_view.ranked(status, decisions), width),
        request_view.draw(one, width),
    ):
        console = Console(width=width)
        with console.capture() as captured:
            console.print(drawn)
        assert max(map(len, captured.get().splitlines())) <= width
    with console.capture() as captured:
        console.print(status_view.draw(status, width))
    assert "edge-0" in captured.get()


async def test_top_ranks_by_load(ask: Ask, tmp_path: Path) -> None:
    """Running requests by their prompts, engines by what they have to do, tenants by what they send."""
    going_on = asyncio.Event()
    async with wide() as running:
        for engine in running.engines.values():
            engine.script = pause_after_first(going_on)
        streams = [await running.chat(words, stream=True) for words in (2, 4, 3)]
        told = await ask("top", "--json", "--config", config_file(tmp_path, running))
        text = await ask("top", "--config", config_file(tmp_path, running))
        going_on.set()
        for stream in streams:
            await stream.read()
    assert [each["prompt_tokens"] for each in told.json["requests"]] == [4, 3, 2]
    loads = [each["inflight"] for each in told.json["engines"]]
    assert loads == sorted(loads, reverse=True)
    assert sum(loads) == 3
    assert [(each["tenant"], each["running"]) for each in told.json["tenants"]] == [("", 3)]
    for words in ("engines: 4", "requests: 3", "(everybody)"):
        assert words in text.out


def test_rates_of_tenants() -> None:
    """Of the last minute, or as far back as decisions reach: 3 requests in 20 s, one of them of umbrella."""
    decisions = [
        {"tenant": tenant, "arrived_unix_s": at_s, "outcome": "local", "prompt_tokens": 100, "waited_s": 0.5}
        for tenant, at_s in (("acme", 995.0), ("acme", 990.0), ("umbrella", 980.0))
    ]
    acme, umbrella = top_view.ranked({"gateway": {"unix_s": 1000.0}, "engines": []}, decisions)["tenants"]
    assert (acme["tenant"], acme["requests_s"], acme["prompt_tokens_s"], acme["mean_waited_s"]) == (
        "acme",
        0.1,
        10,
        0.5,
    )
    assert (umbrella["requests_s"], umbrella["prompt_tokens_s"]) == (0.05, 5)


async def test_decisions_and_their_filters(ask: Ask, running: Stand, tmp_path: Path) -> None:
    """Latest first; by outcome, by engine, at most so many."""
    await served(running)
    file = config_file(tmp_path, running)

    async def outcomes(*options: str) -> list[str]:
        told = await ask("decisions", "--json", "--config", file, *options)
        return [each["outcome"] for each in told.json["decisions"]]

    assert await outcomes() == ["error", "remote", "local"]
    assert await outcomes("--outcome", "local", "--outcome", "error") == ["error", "local"]
    assert await outcomes("--engine", "cloud-0") == ["remote"]
    assert await outcomes("--limit", "1") == ["error"]
    assert await outcomes("--tenant", "acme") == []
    told = await ask("decisions", "--config", file)
    assert "cloud-0 → edge-0" in told.out
    assert "within the threshold of 5" in told.out


async def test_one_request_in_full(ask: Ask, running: Stand, tmp_path: Path) -> None:
    """Reasons, cache, tries and the way as a time line; an id that nobody knows is refused."""
    await served(running)
    file = config_file(tmp_path, running)
    listed = (await ask("decisions", "--outcome", "remote", "--json", "--config", file)).json["decisions"]
    told = await ask("decisions", listed[0]["request_id"], "--config", file)
    assert told.code == 0
    for words in ("because", "cloud-0 → edge-0", "prefill", "━"):
        assert words in told.out
    told = await ask("decisions", listed[0]["request_id"], "--json", "--config", file)
    assert told.json["decision"]["outcome"] == "remote"
    told = await ask("decisions", "req-nobody", "--config", file)
    assert told.code == 1
    assert "only the last ones" in told.err


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--outcome", "lost"), "there are running, local"), (("req-1", "--follow"), "either")],
)
async def test_wrong_filters(ask: Ask, options: tuple[str, ...], words: str) -> None:
    """Told before anybody is asked."""
    told = await ask("decisions", *options, "--url", "http://127.0.0.1:1")
    assert told.code == 2
    assert words in told.err


async def test_follow_tells_each_request_once(running: Stand, tmp_path: Path) -> None:
    """As it ends, a line of JSON each, and Ctrl-C ends with 130."""
    file = config_file(tmp_path, running)
    argv = ("decisions", "--follow", "--json", "--interval-s", "0.1", "--config", str(file))
    following = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "prfaas.cli", *argv, stdout=asyncio.subprocess.PIPE
    )
    assert following.stdout is not None
    seen = []
    for words in (2, 3, 4):
        async with await running.chat(words) as answer:
            await answer.read()
        seen.append(json.loads(await following.stdout.readline())["prompt_tokens"])
    following.send_signal(2)
    rest, _ = await following.communicate()
    assert (seen, rest, following.returncode) == ([2, 3, 4], b"", 130)


async def test_nobody_reads(running: Stand, tmp_path: Path) -> None:
    """A pipe that is closed ends a command quietly."""
    file = config_file(tmp_path, running)
    script = f"{sys.executable} -m prfaas.cli status --watch --interval-s 0.1 --config {file} | head -1"
    piped = await asyncio.create_subprocess_shell(
        script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await piped.communicate()
    assert (len(out.splitlines()), err) == (1, b"")


async def test_colours_only_where_they_are_wanted(running: Stand, tmp_path: Path) -> None:
    """FORCE_COLOR paints into a pipe, NO_COLOR wins over it."""
    file = config_file(tmp_path, running)
    painted = await process("status", "--once", "--config", file, FORCE_COLOR="1")
    assert "\x1b[32m" in painted.out
    plain = await process("status", "--once", "--config", file, FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[32m" not in plain.out
