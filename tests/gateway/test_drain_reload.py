"""Drain and reload of a running gateway, and who may ask for them."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.errors import ConfigError, GatewayUnavailable, PrfaasError
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource, Live
from prfaas.gateway.operator_client import OperatorClient, url_of
from prfaas.gateway.operator_key import read_key
from prfaas.gateway.operator_state import OperatorState, OperatorStore
from prfaas.prefix import PrefixUpdate
from prfaas.types import LinkStatistics
from tests.gateway.fakes import FakeReports, config_for, eventually
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


async def post(running: Wide, path: str, **headers: str) -> tuple[int, Any]:
    async with running.client.post(f"{running.url}{path}", headers=headers) as answer:
        return answer.status, await answer.json()


async def engine_of(running: Wide, name: str) -> dict[str, Any]:
    async with running.client.get(f"{running.url}/prfaas/engines") as answer:
        engines = {each["name"]: each for each in (await answer.json())["engines"]}
    engine: dict[str, Any] = engines[name]
    return engine


async def answered_by(running: Wide, words: int = 2) -> str:
    async with await running.chat(words) as answer:
        assert answer.status == 200
        return answer.headers["x-prfaas-engine"]


async def test_drained_engine_ends_what_it_has_and_gets_nothing_new() -> None:
    """The stream that runs goes on to its end while all new requests go elsewhere, until the engine is undrained."""
    going_on = asyncio.Event()
    async with wide() as running:
        for name in ("edge-0", "edge-1"):
            running.engines[name].script = pause_after_first(going_on)
        async with await running.chat(2, stream=True) as answer:
            name = answer.headers["x-prfaas-engine"]
            assert await answer.content.readany() == EVENTS[0]
            status, told = await post(running, f"/prfaas/engines/{name}/drain")
            assert (status, told["state"], told["inflight"]) == (200, "draining", 1)
            going_on.set()
            assert {await answered_by(running) for _ in range(4)} == {"edge-0", "edge-1"} - {name}
            assert await answer.read() == b"".join(EVENTS[1:])
        await eventually(lambda: running.services.fleet.status(name).inflight == 0)
        assert (await engine_of(running, name))["state"] == "drained"
        assert (await post(running, f"/prfaas/engines/{name}/undrain"))[1]["state"] == "healthy"
        assert {await answered_by(running) for _ in range(4)} == {"edge-0", "edge-1"}


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
            assert (await post(running, f"/prfaas/engines/{other}/drain"))[1]["state"] == "drained"
        elif change == "remove":
            del running.tree["engines"][other]
        else:
            running.tree["engines"][other]["url"] = running.engines["moon-0"].url
            del running.tree["engines"]["moon-0"]
        await post(running, "/prfaas/reload")
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
        assert (await post(running, "/prfaas/engines/edge-0/drain"))[1]["state"] == "draining"
        dying.set()
        async with await asking as answer:
            assert answer.status == 200
            assert answer.headers["x-prfaas-outcome"] == "recomputed"


async def test_drained_prefill_engines_are_not_used() -> None:
    """Long prompts go to the other site, and stay here when both are drained."""
    async with wide() as running:
        await post(running, "/prfaas/engines/cloud-0/drain")
        assert {await answered_by(running, 10) for _ in range(3)} == {"moon-0"}
        await post(running, "/prfaas/engines/moon-0/drain")
        assert (await answered_by(running, 10)).startswith("edge")


async def test_without_an_engine_that_decodes_requests_are_refused() -> None:
    """A drained engine takes nothing, also when it is the last; readiness tells it."""
    async with wide(without=("edge-1",)) as running:
        await post(running, "/prfaas/engines/edge-0/drain")
        async with await running.chat(2) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "engine_unavailable"
        assert running.engines["edge-0"].calls == []
        async with running.client.get(f"{running.url}/ready") as answer:
            assert answer.status == 503


async def test_unknown_engine_names_the_known_ones() -> None:
    """A slip of the hand is told, and drains nothing."""
    async with wide() as running:
        status, told = await post(running, "/prfaas/engines/edge-9/drain")
        assert status == 404
        assert "edge-0, edge-1, cloud-0, moon-0" in told["error"]["message"]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "origin"])
async def test_requests_for_others_are_no_operators(header: str) -> None:
    """What a proxy passes on, or a page in a browser sends, is refused without a key."""
    async with wide() as running:
        for path in ("/prfaas/engines/edge-0/drain", "/prfaas/reload"):
            assert (await post(running, path, **{header: "10.0.0.1"}))[0] == 403
        assert not running.services.fleet.status("edge-0").is_draining


async def test_with_a_key_only_the_key_opens(tmp_path: Path) -> None:
    """A key in a file is asked for also on this machine, and the command line's client gives it."""
    key = tmp_path / "key"
    key.write_text("a-long-enough-key\n")
    async with wide(operator_key_file=str(key)) as running:
        for given in ({}, {"authorization": "Bearer a-long-enough-kex"}, {"authorization": "Basic a-long-enough-key"}):
            assert (await post(running, "/prfaas/engines/edge-0/drain", **given))[0] == 401
        client = OperatorClient.of(running.services.config, running.url)
        told = await asyncio.to_thread(client.post, "/prfaas/engines/edge-0/drain")
        assert told["state"] == "drained"


async def test_client_tells_refusals_in_the_gateways_words() -> None:
    """What the gateway says comes through, a wrong configuration as such; a gateway that is not there is told too."""
    async with wide() as running:
        client = OperatorClient.of(running.services.config, running.url)
        with pytest.raises(PrfaasError, match="no engine 'edge-9'"):
            await asyncio.to_thread(client.post, "/prfaas/engines/edge-9/drain")
        running.tree["gateway"]["port"] = 8001
        with pytest.raises(ConfigError, match=r"gateway\.port: changed, which needs a restart"):
            await asyncio.to_thread(client.post, "/prfaas/reload")
    with pytest.raises(GatewayUnavailable, match="cannot be asked"):
        await asyncio.to_thread(client.post, "/prfaas/reload")


async def test_reload_adds_an_engine_once_it_is_probed() -> None:
    """A new engine gets requests after a good probe, not before."""
    async with wide(without=("edge-1",)) as running:
        new = running.engines["edge-1"]
        new.health_status = 503
        add_engine(running, "edge-1")
        assert (await post(running, "/prfaas/reload"))[1] == {"changes": "added edge-1"}
        await eventually(lambda: "503" in running.services.fleet.status("edge-1").problem)
        assert {await answered_by(running) for _ in range(3)} == {"edge-0"}
        new.health_status = 200
        running.services.fleet.note("edge-1", "")
        assert {await answered_by(running) for _ in range(4)} == {"edge-0", "edge-1"}


def add_engine(running: Wide, name: str) -> None:
    engines = running.tree["engines"]
    engines[name] = {**engines["edge-0"], "url": running.engines[name].url, "kv": "127.0.0.1:7191"}


async def test_reload_probes_and_uses_a_new_engine() -> None:
    """From the file to the first request without a hand in between."""
    async with wide(without=("edge-1",), probe_interval_s=0.02) as running:
        add_engine(running, "edge-1")
        await post(running, "/prfaas/reload")
        await running.healthy("edge-1")
        assert {await answered_by(running) for _ in range(4)} == {"edge-0", "edge-1"}


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
            assert (await post(running, "/prfaas/reload"))[1] == {"changes": f"removed {name}"}
            going_on.set()
            assert {await answered_by(running) for _ in range(3)} == {"edge-0", "edge-1"} - {name}
            assert await answer.read() == b"".join(EVENTS[1:])
        async with running.client.get(f"{running.url}/metrics") as listing:
            assert f'engine="{name}"' not in await listing.text()
        assert len(running.engines[name].calls) == 1


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
        await post(running, "/prfaas/reload")
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
        assert (await post(running, "/prfaas/reload"))[1] == {"changes": "moved edge-0"}
        await running.healthy("edge-0")
        stopping.set()
        for each in asking:
            async with await each as answer:
                assert answer.status in (200, 503)
                await answer.read()
        await eventually(lambda: running.services.fleet.status("edge-0").inflight == 0)
        assert running.services.fleet.status("edge-0").is_healthy
        assert running.services.fleet.breakers.of("edge-0").failures == 0
        assert [await answered_by(running) for _ in range(2)] == ["edge-0"] * 2


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
        status, told = await post(running, "/prfaas/reload")
        assert (status, told["error"]["code"]) == (409, "config_refused")
        assert words in told["error"]["message"]
        assert {await answered_by(running) for _ in range(4)} == {"edge-0", "edge-1"}


async def test_reload_changes_the_policy() -> None:
    """The next request is placed by the new threshold."""
    async with wide() as running:
        running.tree["policy"]["threshold_tokens"] = 20
        assert (await post(running, "/prfaas/reload"))[1] == {"changes": "changed policy"}
        assert (await answered_by(running, 10)).startswith("edge")


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
        await post(running, "/prfaas/reload")
        crossed(1)  # an engine's first word only sets the mark
        await eventually(lambda: running.services.metrics.links.of("cloud-0"))
        crossed(5)
        await left(6)
        running.tree["policy"]["threshold_tokens"] = 20
        await post(running, "/prfaas/reload")
        assert views[-1].links.states()[0].budget_left_bytes == 6e9
        crossed(6)
        await left(5)
        running.tree["links"][0]["egress_budget_gb_per_day"] = 7
        await post(running, "/prfaas/reload")
        await left(2)


async def test_reload_keeps_the_feeds_of_engines_that_stay() -> None:
    """What an engine that is not touched has cached is known all through a reload."""
    async with wide(without=("edge-1",), probe_interval_s=0.02) as running:
        index, reports = running.services.prefixes.index, running.reports
        elsewhere, new = "127.0.0.1:7391", "127.0.0.1:7191"
        running.tree["engines"]["edge-0"]["kv"] = elsewhere
        reports.prefixes_of[elsewhere] = [PrefixUpdate(GEOMETRY, 1_000, is_reset=True)]
        await post(running, "/prfaas/reload")
        await eventually(lambda: index.state("edge-0").is_exact)
        add_engine(running, "edge-1")
        await post(running, "/prfaas/reload")
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


async def test_state_file_reaches_other_processes_and_the_next_start(tmp_path: Path) -> None:
    """Two gateways on one file: what one is told the other does, drains and reloads; a third begins with it."""
    file = tmp_path / "state.json"
    async with wide(state_file=file) as one, wide(state_file=file) as other:
        other.tree["policy"]["threshold_tokens"] = 20
        await post(one, "/prfaas/engines/edge-0/drain")
        await post(one, "/prfaas/reload")
        await eventually(lambda: other.services.fleet.status("edge-0").is_draining)
        assert (await answered_by(other, 10)) == "edge-1"
        await post(other, "/prfaas/engines/edge-0/undrain")
        await post(other, "/prfaas/engines/cloud-0/drain")
        await eventually(lambda: not one.services.fleet.status("edge-0").is_draining)
    async with wide(state_file=file) as third:
        assert [each.name for each in third.services.fleet.statuses() if each.is_draining] == ["cloud-0"]


def test_state_of_another_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    """A file that is something else is told with its path, and stays as it is."""
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"drained": 7}))
    store = OperatorStore(path)
    with pytest.raises(ConfigError, match=r"gateway\.state_file: .*not a state of ours"):
        store.update(lambda state: OperatorState(frozenset({"a"})))
    assert json.loads(path.read_text()) == {"drained": 7}


@pytest.mark.parametrize("content", ["short", "", "two long words here", "schlüssel-lang-genug"])
def test_weak_key_stops_the_start(tmp_path: Path, content: str) -> None:
    """A key that can be guessed, or that no header can carry, is refused with its file."""
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"gateway\.operator_key_file: "):
        read_key(path)


def test_wildcard_host_is_asked_on_the_loopback_interface() -> None:
    """The command line finds a gateway that listens everywhere on this machine."""
    config = config_for("http://127.0.0.1:9", "http://127.0.0.2:9")
    for host, shown in (("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]"), ("gate", "gate")):
        gateway = config.gateway.model_copy(update={"host": host})
        changed = config.model_copy(update={"gateway": gateway})
        assert url_of(changed) == f"http://{shown}:8000"
