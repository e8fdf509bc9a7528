"""What the background work makes of engines that are late or gone, and of bugs of ours."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from prfaas.errors import EngineUnavailable
from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.guessed_prefixes import GUESS_TOKENS
from prfaas.gateway.link_watch import LinkWatch
from prfaas.gateway.upstream import EngineLate, Upstream
from prfaas.gateway.watch import EngineWatch
from prfaas.types import LinkStatistics, MoverStatistics
from tests.gateway.fakes import EDGE_KV, eventually, stand
from tests.gateway.stub_engine import StubEngine, hold

PROMPT = np.arange(2 * GUESS_TOKENS + 1, dtype=np.uint32)
LATE, GONE = EngineLate("late"), EngineUnavailable("gone")


@pytest.mark.parametrize(
    ("answers", "problems"),
    [
        ([LATE, None, LATE, None], ["", "", "", ""]),
        ([LATE, LATE, LATE, None], ["", "late", "late", ""]),
        ([LATE, GONE, LATE, LATE], ["", "gone", "late", "late"]),
        ([GONE, None, LATE, LATE], ["gone", "", "", "late"]),
    ],
)
async def test_late_engine_is_out_when_late_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[EngineUnavailable | None], problems: list[str]
) -> None:
    """One late answer of a well engine changes nothing, two in a row do; a broken connection counts at once."""
    async with stand(probe_interval_s=600) as running:
        watch, fleet = EngineWatch(running.services), running.services.fleet
        monkeypatch.setattr(running.services.upstream, "probe", one_by_one(answers))
        seen = []
        for _ in problems:
            seen.append(await watch.probe("edge-0"))
            fleet.note("edge-0", seen[-1])
    assert seen == problems


@pytest.mark.parametrize("engine", ["edge-0", "cloud-0"])
async def test_guesses_end_where_an_engine_was_away(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """One that comes back may have begun anew with an empty cache; a single late answer is no absence. A request that
    found it gone counts like a probe."""
    async with stand(probe_interval_s=600) as running:
        watch, fleet, prefixes = EngineWatch(running.services), running.services.fleet, running.services.prefixes
        monkeypatch.setattr(running.services.upstream, "probe", one_by_one([None, LATE, None, GONE, None, None]))

        async def guessed(sent: str = "") -> set[str]:
            hits = await prefixes.of(PROMPT, ContentKeys())
            if sent:
                prefixes.sent(sent, hits)
            return set((await prefixes.of(PROMPT, ContentKeys())).tokens)

        async def probed() -> None:
            fleet.note(engine, await watch.probe(engine))

        other = "cloud-0" if engine == "edge-0" else "edge-0"
        assert await guessed(other) == {other}
        assert await guessed(engine) == {engine, other}
        for _ in range(3):
            await probed()
        assert await guessed() == {engine, other}
        await probed()
        assert await guessed(engine) == {engine, other}
        await probed()
        assert await guessed() == {other}
        assert await guessed(engine) == {engine, other}
        fleet.note(engine, "broke off")
        await probed()
        assert await guessed() == {other}


def one_by_one(answers: list[EngineUnavailable | None]) -> Callable[..., Any]:
    left = iter(answers)

    async def probe(*_: object) -> None:
        if error := next(left):
            raise error

    return probe


async def test_silence_is_told_from_a_refused_connection() -> None:
    """An engine that accepts and says nothing is late; one that does not accept cannot be reached."""
    silent = socket.create_server(("127.0.0.1", 0))
    async with Upstream({"edge-0": f"http://127.0.0.1:{silent.getsockname()[1]}"}) as upstream:
        with silent, pytest.raises(EngineLate):
            await upstream.probe("edge-0", 0.05)
        with pytest.raises(EngineUnavailable, match="cannot be reached"):
            await upstream.probe("edge-0", 60)


async def test_probes_find_a_connection_beside_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are connections for as many requests as may be at once, with two engines each, and for probes."""
    monkeypatch.setattr("prfaas.gateway.upstream.SPARE_CONNECTIONS", 1)
    leaving = asyncio.Event()
    async with StubEngine().running() as engine, Upstream({"edge-0": engine.url}, max_requests=2) as upstream:
        engine.script = hold(leaving)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(upstream.post("edge-0", "/v1/completions", b"{}")) for _ in range(4)]
            await engine.call(3)
            await upstream.probe("edge-0", 30)
            leaving.set()
        for each in asked:
            each.result().close()


async def test_watch_that_ends_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A bug that ends some of the gateway's own work is logged when it happens; a gateway that stops tells nothing."""

    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with stand():
        pass
    assert "has ended" not in caplog.text
    monkeypatch.setattr("prfaas.gateway.pace.Pace.look", fail)
    async with stand() as running:
        monkeypatch.setattr(running.services.view.links, "step", fail)
        await eventually(lambda: "asking for links has ended" in caplog.text)
        assert "measuring load has ended" in caplog.text
    assert "RuntimeError: a bug" in caplog.text


async def test_bug_in_asking_for_links_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that nobody foresaw is logged once, its engine's figures go, and all are asked on."""
    figures = MoverStatistics(links=(LinkStatistics("cloud-0", False),))

    async def ask(target: str) -> MoverStatistics:
        if target == EDGE_KV:
            raise RuntimeError("a bug")
        return figures

    async with stand(probe_interval_s=600) as running:
        monkeypatch.setattr(running.services.reports, "statistics", ask)
        watch = LinkWatch(running.services)
        for _ in range(2):
            await watch.ask_all()
    assert running.services.metrics.links.of("edge-0") == ()
    assert running.services.metrics.links.of("cloud-0") == figures.links
    assert caplog.text.count("RuntimeError: a bug") == 1
