"""Gauges of the fleet and of the process, kept up to date by the gateway itself."""

import asyncio
from dataclasses import replace

import pytest

from prfaas.clock import ManualClock
from prfaas.gateway import vitals
from prfaas.gateway.live import Live
from prfaas.gateway.vitals import LAG_EVERY_S, LOOKS_A_ROUND, Vitals
from prfaas.observe.metrics import Metrics
from prfaas.types import LinkStatistics
from tests.gateway.fakes import CLOUD_KV, Stand, eventually
from tests.gateway.stub_engine import hold


async def scrape(running: Stand) -> dict[str, float]:
    """Series and value of every line of /metrics."""
    async with running.client.get(f"{running.url}/metrics") as answer:
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_fleet_shows_as_it_is(running: Stand) -> None:
    """Health, roles, drain, load and readiness of the engines, at each scrape."""
    release = asyncio.Event()
    running.edge.script = hold(release)
    asking = asyncio.create_task(running.chat(2, stream=True))
    await running.edge.call(0)
    running.services.fleet.drain(["cloud-0"])
    told = await scrape(running)
    release.set()
    (await asking).close()
    assert told["prfaas_ready"] == 1
    assert told['prfaas_engine_healthy{engine="edge-0"}'] == 1
    assert told['prfaas_engine_role{engine="cloud-0",role="prefill",site="cloud"}'] == 1
    assert told['prfaas_engine_role{engine="cloud-0",role="decode",site="cloud"}'] == 0
    assert told['prfaas_engine_draining{engine="cloud-0"}'] == 1
    assert told['prfaas_engine_draining{engine="edge-0"}'] == 0
    assert told['prfaas_engine_inflight_requests{engine="edge-0"}'] == 1


async def test_gateway_without_decoder_is_not_ready(running: Stand) -> None:
    """The gauge says what /ready says."""
    running.services.fleet.drain(["edge-0"])
    assert (await scrape(running))["prfaas_ready"] == 0


async def test_links_between_sites_show_what_placement_sees(running: Stand) -> None:
    """Bandwidth from the start; what crosses once engines have told of it twice."""
    link = '{source="cloud",target="edge"}'
    assert (await scrape(running))[f"prfaas_site_link_bandwidth_bytes_per_second{link}"] == 1.25e9
    for total in (1000, 5000):
        running.reports.links_of[CLOUD_KV] = (LinkStatistics("edge-0", True, delivered_bytes=total, rtt_s=0.05),)
        await eventually(lambda total=total: _delivered(running) == total)  # type: ignore[misc]  # bound at once
    await eventually(lambda: running.services.view.links.crossed_bytes() == (4000,))
    told = await scrape(running)
    assert told[f"prfaas_site_link_bytes_total{link}"] == 4000
    assert told[f"prfaas_site_link_rtt_seconds{link}"] == 0.05
    assert f"prfaas_site_link_budget_left_bytes{link}" not in told


def _delivered(running: Stand) -> int | None:
    told = running.services.metrics.links.of("cloud-0")
    return told[0].delivered_bytes if told else None


async def test_process_shows_what_it_takes(running: Stand) -> None:
    """Memory, descriptors and processor time of this very process, under the standard names."""
    told = await scrape(running)
    assert told["process_resident_memory_bytes"] > 1e6
    assert 3 < told["process_open_fds"] < told["process_max_fds"]
    assert told["process_cpu_seconds_total"] > 0
    assert told["prfaas_workers"] == 1


async def test_late_wakes_are_lag(running: Stand) -> None:
    """A loop that comes back 0.3 s too late has that much lag, one that is in time none; gauges are told each round."""
    clock, metrics = ManualClock(), Metrics()
    delays = [0.3] + [0.0] * (LOOKS_A_ROUND - 1)

    async def sleep(seconds: float) -> None:
        assert seconds == LAG_EVERY_S
        if not delays:
            raise asyncio.CancelledError
        clock.advance(seconds + delays.pop(0))

    with pytest.raises(asyncio.CancelledError):
        await Vitals(Live(replace(running.services, clock=clock, metrics=metrics)), sleep).run()
    value = metrics.registry.get_sample_value
    assert value("prfaas_event_loop_lag_seconds_sum") == pytest.approx(0.3)
    assert value("prfaas_event_loop_lag_seconds_count") == LOOKS_A_ROUND
    assert value("prfaas_ready") == 1


async def test_gauges_of_many_engines_leave_room_for_streams(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many engines everybody else has a turn; an engine that is removed in it does not come back."""
    monkeypatch.setattr(vitals, "ENGINES_AT_ONCE", 1)
    live = Live(running.services)
    telling = asyncio.create_task(Vitals(live).tell())
    await asyncio.sleep(0)
    assert not telling.done()
    live._now = replace(running.services)  # as a reload does
    running.services.metrics.forget("edge-0")
    running.services.metrics.forget("cloud-0")
    await telling
    assert not [line for line in _lines(running) if 'engine="' in line]


def _lines(running: Stand) -> list[str]:
    exposed = running.services.metrics.exposition().decode().splitlines()
    return [line for line in exposed if line.startswith("prfaas_engine_healthy{")]


async def test_engine_that_is_gone_shows_nothing(running: Stand) -> None:
    """No series of an engine is left that the configuration has no more."""
    await scrape(running)
    running.services.metrics.forget("cloud-0")
    assert 'engine="cloud-0"' not in running.services.metrics.exposition().decode()
