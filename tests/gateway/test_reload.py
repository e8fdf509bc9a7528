"""Reload of a running gateway's configuration."""

import asyncio
import os
import signal
from collections.abc import Iterable
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource, Live
from prfaas.prefix import PrefixUpdate
from prfaas.types import LinkStatistics, MoverStatistics
from tests.gateway.fakes import FakeReports, eventually
from tests.gateway.stub_engine import (
    EVENTS,
    answer_at_once,
    break_off,
    die,
    hold,
    one_after_another,
    pause_after_first,
)
from tests.gateway.test_prefix_routing import GEOMETRY
from tests.gateway.wide import Wide, wide


async def test_reload_adds_an_engine_once_it_is_probed() -> None:
    """A new engine gets requests after a good probe, not before."""
    async with wide(without=("edge-1",)) as running:
        new = running.engines["edge-1"]
        new.health_status = 503
        add_engine(running, "edge-1")
        assert (await running.post("/prfaas/reload"))[1] == {"changes": "added edge-1"}
        await eventually(lambda: "503" in running.services.fleet.status("edge-1").problem)
        assert {await running.answered_by() for _ in range(3)} == {"edge-0"}
        new.health_status = 200
        running.services.fleet.note("edge-1", "")
        assert {await running.answered_by() for _ in range(4)} == {"edge-0", "edge-1"}


def add_engine(running: Wide, name: str) -> None:
    engines = running.tree["engines"]
    engines[name] = {**engines["edge-0"], "url": running.engines[name].url, "kv": "127.0.0.1:7191"}


async def test_reload_probes_and_uses_a_new_engine() -> None:
    """From the file to the first request without a hand in between."""
    async with wide(without=("edge-1",), probe_interval_s=0.02) as running:
        add_engine(running, "edge-1")
        await running.post("/prfaas/reload")
        await running.healthy("edge-1")
        assert {await running.answered_by() for _ in range(4)} == {"edge-0", "edge-1"}


async def test_reload_lets_a_removed_engine_end_its_requests() -> None:
    """Its stream goes on with the configuration that it began with; its metrics go; nothing new is sent there."""
    going_on = asyncio.Event()
    async with wide(probe_interval_s=0.02) as running:
        for name in ("edge-0", "edge-1"):
            running.engines[name].script = pause_after_first(going_on)
        async with await running.chat(2, stream=True) as answer:
            assert await answer.content.readany() == EVENTS[0]
            name = answer.headers["x-prfaas-engine"]
            async with running.client.get(f"{running.url}/metrics") as listing:
                assert f'prfaas_engine_healthy{{engine="{name}"}}' in await listing.text()
            del running.tree["engines"][name]
            assert (await running.post("/prfaas/reload"))[1] == {"changes": f"removed {name}"}
            going_on.set()
            assert {await running.answered_by() for _ in range(3)} == {"edge-0", "edge-1"} - {name}
            assert await answer.read() == b"".join(EVENTS[1:])
        async with running.client.get(f"{running.url}/metrics") as listing:
            assert f'engine="{name}"' not in await listing.text()
        assert len(running.engines[name].calls) == 1


async def test_last_answer_of_a_removed_engine_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mover's figures that come while it is being removed go with it, or they were shown for ever."""
    figures, noted = MoverStatistics(links=(LinkStatistics("cloud-0", False),)), asyncio.Event()
    async with wide(probe_interval_s=0.02) as running:
        metrics, address = running.services.metrics, running.services.config.engines["edge-1"].kv
        await eventually(lambda: "edge-1" in metrics.links._links)
        others, forget, note = running.reports.statistics, metrics.forget, metrics.links.note
        answer = asyncio.get_running_loop().create_future()

        async def ask(target: str) -> MoverStatistics:
            return await (answer if target == address else others(target))

        def forget_too_soon(name: str) -> None:
            if not answer.done():
                answer.set_result(figures)
            forget(name)

        def note_it(name: str, links: Iterable[LinkStatistics]) -> None:
            note(name, links)
            if links == figures.links:
                noted.set()

        monkeypatch.setattr(metrics, "forget", forget_too_soon)
        monkeypatch.setattr(metrics.links, "note", note_it)
        monkeypatch.setattr(running.reports, "statistics", ask)
        await asyncio.sleep(0.1)  # five rounds: the one that hangs has begun
        del running.tree["engines"]["edge-1"]
        assert (await running.post("/prfaas/reload"))[1] == {"changes": "removed edge-1"}
        await noted.wait()
        await eventually(lambda: metrics.links.of("edge-1") == ())
        assert 'engine="edge-1"' not in metrics.exposition().decode()


async def test_request_on_a_removed_engine_still_falls_back() -> None:
    """A request whose engine is removed and then dies goes on with another engine."""
    dying = asyncio.Event()
    async with wide() as running:
        script = one_after_another(hold(dying, die), answer_at_once)
        running.engines["edge-0"].script = running.engines["edge-1"].script = script
        asking = asyncio.create_task(running.chat(2))
        await eventually(lambda: running.engines["edge-0"].calls or running.engines["edge-1"].calls)
        name = "edge-0" if running.engines["edge-0"].calls else "edge-1"
        del running.tree["engines"][name]
        await running.post("/prfaas/reload")
        dying.set()
        async with await asking as answer:
            assert answer.status == 200


async def test_engine_that_is_moved_is_not_blamed_for_its_old_process() -> None:
    """Streams and requests that break when the old process stops say nothing of the one that has its name now."""
    stopping = asyncio.Event()
    async with wide(without=("edge-1",)) as running:
        old, new = running.engines["edge-0"], running.engines["edge-1"]
        old.script = one_after_another(hold(stopping, break_off), *[hold(stopping, die)] * 3)
        asking = [asyncio.create_task(running.chat(2, stream=True)) for _ in range(4)]
        await old.call(3)
        running.tree["engines"]["edge-0"]["url"] = new.url
        assert (await running.post("/prfaas/reload"))[1] == {"changes": "moved edge-0"}
        await running.healthy("edge-0")
        stopping.set()
        for each in asking:
            async with await each as answer:
                assert answer.status in (200, 503)
                await answer.read()
        await eventually(lambda: running.services.fleet.status("edge-0").inflight == 0)
        assert running.services.fleet.status("edge-0").is_healthy
        assert running.services.fleet.breakers.of("edge-0").failures == 0
        assert [await running.answered_by() for _ in range(2)] == ["edge-0"] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": {"treshold_tokens": 3}}, "threshold_tokens"),
        ({"model": {"name": "other", "path": "/nowhere", "max_model_len": 100}}, "model.name: changed"),
    ],
)
async def test_bad_file_changes_nothing(change: dict[str, Any], words: str) -> None:
    """A file that is wrong, or needs a restart, is refused with its reasons, and the old one goes on."""
    async with wide() as running:
        del running.tree["engines"]["edge-0"]
        running.tree.update(change)
        status, told = await running.post("/prfaas/reload")
        assert (status, told["error"]["code"]) == (409, "config_refused")
        assert words in told["error"]["message"]
        assert {await running.answered_by() for _ in range(4)} == {"edge-0", "edge-1"}


async def test_reload_changes_the_policy() -> None:
    """The next request is placed by the new threshold."""
    async with wide() as running:
        running.tree["policy"]["threshold_tokens"] = 20
        assert (await running.post("/prfaas/reload"))[1] == {"changes": "changed policy"}
        assert (await running.answered_by(10)).startswith("edge")


async def test_reload_does_not_refill_an_egress_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has crossed a link counts on, also against another budget, and what crosses during the reload is counted."""

    views: list[FleetView] = []
    following = FleetView.following

    def seen(view: FleetView, config: Config) -> FleetView:
        views.append(following(view, config))
        return views[-1]

    monkeypatch.setattr(FleetView, "following", seen)

    def crossed(gigabytes: float) -> None:
        kv = running.services.config.engines["cloud-0"].kv
        running.reports.links_of[kv] = (LinkStatistics("edge-0", True, delivered_bytes=int(gigabytes * 1e9)),)

    async def left(gigabytes: float) -> None:
        await eventually(lambda: views[-1].links.states()[0].budget_left_bytes == gigabytes * 1e9)

    async with wide(probe_interval_s=0.02) as running:
        running.tree["links"][0]["egress_budget_gb_per_day"] = 10
        await running.post("/prfaas/reload")
        crossed(1)  # an engine's first word only sets the mark
        await eventually(lambda: running.services.metrics.links.of("cloud-0"))
        crossed(5)
        await left(6)
        running.tree["policy"]["threshold_tokens"] = 20
        await running.post("/prfaas/reload")
        assert views[-1].links.states()[0].budget_left_bytes == 6e9
        crossed(6)
        await left(5)
        running.tree["links"][0]["egress_budget_gb_per_day"] = 7
        await running.post("/prfaas/reload")
        await left(2)


async def test_reload_keeps_the_feeds_of_engines_that_stay() -> None:
    """What an engine that is not touched has cached is known all through a reload."""
    async with wide(without=("edge-1",), probe_interval_s=0.02) as running:
        index, reports = running.services.prefixes.index, running.reports
        elsewhere, new = "127.0.0.1:7391", "127.0.0.1:7191"
        running.tree["engines"]["edge-0"]["kv"] = elsewhere
        reports.prefixes_of[elsewhere] = [PrefixUpdate(GEOMETRY, 1_000, is_reset=True)]
        await running.post("/prfaas/reload")
        await eventually(lambda: index.state("edge-0").is_exact)
        add_engine(running, "edge-1")
        await running.post("/prfaas/reload")
        assert index.state("edge-0").is_exact
        await eventually(lambda: new in reports.feeds_begun)
        assert index.state("edge-0").is_exact
        assert reports.feeds_begun.count(elsewhere) == 1


@pytest.mark.parametrize("with_tls", [False, True])
async def test_reload_keeps_the_client_to_the_movers(with_tls: bool) -> None:
    """A new one is made where certificates or the addresses that they are for change, not with every engine."""
    made: list[FakeReports] = []

    def make(_: Config) -> FakeReports:
        made.append(FakeReports())
        return made[-1]

    def edit(tree: dict[str, Any]) -> None:
        for site in tree["sites"] if with_tls else ():
            tree["sites"][site] = {"tls": {"ca": "ca.crt", "cert": f"{site}.crt", "key": f"{site}.key"}}

    async with wide(without=("edge-1",), edit=edit) as running:
        live = Live(running.services, ConfigSource(lambda: parse_config(running.tree), make))
        running.tree["policy"]["threshold_tokens"] = 20
        live.reload()
        assert (live.now.config.policy.threshold_tokens, made) == (20, [])
        add_engine(running, "edge-1")
        live.reload()
        assert len(made) == with_tls
        assert live.now.reports is (made[0] if with_tls else running.reports)


async def test_hang_up_reads_the_file_again(caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP does what the route does; a refusal is in the log."""
    async with wide(without=("edge-1",)) as running:
        add_engine(running, "edge-1")
        os.kill(os.getpid(), signal.SIGHUP)
        await running.healthy("edge-1")
        running.tree["model"]["name"] = "other"
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: "configuration kept as it was: model.name" in caplog.text)
