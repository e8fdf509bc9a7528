"""Every query of every dashboard on a running stack: a real gateway with traffic, scraped by a real Prometheus.

Engines are stand-ins, also for the metrics that vLLM would have; ``test_dashboards`` compares those names with vLLM's.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from prfaas.prefix import FeedCounts, PrefixGeometry, PrefixUpdate
from prfaas.routing.figures import PrefillRate
from prfaas.types import LinkStatistics, TransferReport
from tests.deploy.promql import RULES, dashboard_queries, selectors
from tests.deploy.server import Prometheus, running_prometheus
from tests.gateway.fakes import CLOUD_KV, EDGE_KV, Stand, stand
from tests.gateway.stub_engine import answer_at_once, refuse

pytestmark = pytest.mark.slow

KEY = "sk-0123456789abcdef"
OPERATORS_KEY = "operators-0123456789abcdef"
SECTIONS: Mapping[str, Any] = {
    "tenants": {"acme": {"keys": [{"env": "ACME_KEY"}], "shares_cache": True}},
    "access": {"max_running": 2},
    "links": [{"from": "cloud", "to": "edge", "bandwidth_gbps": 1, "egress_budget_gb_per_day": 10}],
    "controller": {"mode": "shadow", "interval_s": 0.2, "min_requests": 5},
}
WINDOW, SCRAPES = "8s", 8
"""The window of all rates: some scrapes of it are there when queries are asked."""


async def ask(running: Stand, words: int, key: str = KEY, **fields: Any) -> None:
    """One request, read to its end."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": " ".join(["word"] * words)}], **fields}
    headers = {"authorization": f"Bearer {key}"}
    async with running.client.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()


async def traffic(running: Stand) -> None:
    """Everything that can happen to requests, again and again, until cancelled."""
    used = TransferReport(
        "t",
        ok=True,
        tokens=8,
        cache_bytes=4000,
        early_bytes=3000,
        prefilled_s=0.01,
        first_s=0.004,
        last_s=0.011,
        used_s=0.012,
    )
    for turn in itertools.count(1):
        running.reports.links_of = {CLOUD_KV: (link(turn, True),), EDGE_KV: (link(turn, False),)}
        await asyncio.gather(*(ask(running, 2, stream=True) for _ in range(6)))
        running.reports.default = used
        await ask(running, 9, stream=True)
        running.reports.default = TransferReport("t", ok=False, reason="the peer ended")
        await ask(running, 9, stream=True)
        running.edge.script = refuse(500)
        await ask(running, 2)
        running.edge.script = answer_at_once
        await ask(running, 2, model="other")
        await ask(running, 2, key="sk-unknown-to-everybody")
        await asyncio.sleep(0.05)


def link(turn: int, is_sending: bool) -> LinkStatistics:
    return LinkStatistics(
        "edge-0" if is_sending else "cloud-0",
        is_sending,
        connections=4,
        delivered_bytes=10_000 * turn,
        goodput_bytes_s=1e7,
        bandwidth_bytes_s=125e6,
        utilisation=0.2,
        rtt_s=0.03,
        min_rtt_s=0.02,
        active_s=0.01 * turn,
    )


def prepare(running: Stand) -> None:
    """What takes engines hours, or a controller that converts some."""
    geometry = PrefixGeometry(hash_tokens=16, align_tokens=16, root=bytes(32), groups=())
    update = PrefixUpdate(geometry=geometry, blocks=10, is_reset=True, counts=FeedCounts(gaps=3, losses=1))
    running.reports.prefixes_of = {CLOUD_KV: [update], EDGE_KV: [update]}
    for name in ("edge-0", "cloud-0"):
        running.services.view.set_rate(name, PrefillRate(0.0, 0.001, source="measured"))
    running.services.metrics.control.count_conversion("decode", "converted")
    running.services.metrics.control.count_change("threshold", "shadow")


@contextlib.asynccontextmanager
async def vllm_metrics() -> AsyncIterator[str]:
    """Serves every metric of vLLM's that a query names, growing with each scrape; yields "host:port"."""
    registry, labels = CollectorRegistry(), {"engine": "0", "model_name": "tiny"}
    names = {name for _, query in dashboard_queries("1m") for name, _ in selectors(query) if name.startswith("vllm:")}
    made: list[Counter | Gauge | Histogram] = []
    for name in sorted(names):
        kind = Counter if name.endswith("_total") else Histogram if name.endswith("_bucket") else Gauge
        made.append(kind(name.removesuffix("_bucket"), "As vLLM's.", [*labels], registry=registry))

    async def scrape(_: web.Request) -> web.Response:
        for each in made:
            child = each.labels(**labels)
            child.observe(0.02) if isinstance(child, Histogram) else child.inc()
        return web.Response(body=generate_latest(registry), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def config_of(gateway: str, engine: str, key_file: Path) -> dict[str, Any]:
    """deploy/prometheus/prometheus.yml with other targets and another file of the key, once a second."""
    config: dict[str, Any] = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    del config["alerting"]
    of_gateway, of_engines = config["scrape_configs"]
    of_gateway["static_configs"] = [{"targets": [gateway]}]
    of_gateway["authorization"]["credentials_file"] = str(key_file)
    del of_engines["file_sd_configs"], of_engines["scrape_interval"]
    of_engines["static_configs"] = [{"targets": [engine], "labels": {"engine": "edge-0", "site": "edge"}}]
    return config


@contextlib.asynccontextmanager
async def scraped(folder: Path) -> AsyncIterator[Prometheus]:
    """Gateway, traffic and Prometheus, once it has scraped often enough. The gateway asks for the operators' key."""
    key_file = folder / "operator.key"
    key_file.write_text(f"{OPERATORS_KEY}\n")
    of_gateway = {"site": "edge", "operator_key_file": str(key_file)}
    async with stand(env={"ACME_KEY": KEY}, gateway=of_gateway, **SECTIONS) as running, vllm_metrics() as engine:
        prepare(running)
        sending = asyncio.create_task(traffic(running))
        try:
            config = config_of(running.url.removeprefix("http://"), engine, key_file)
            async with running_prometheus(config, folder) as prometheus:
                while not await _has_enough(prometheus):
                    assert not sending.done(), sending.result()
                    await asyncio.sleep(0.2)  # scrapes have no event
                yield prometheus
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


async def _has_enough(prometheus: Prometheus) -> bool:
    counts = await prometheus.query("min(count_over_time(up[5m]))")
    return bool(counts) and float(counts[0]["value"][1]) >= SCRAPES


def values(result: list[dict[str, Any]]) -> list[float]:
    return [float(each["value"][1]) for each in result]


async def test_every_query_returns_data(tmp_path: Path) -> None:
    """Data, not merely no error: a series, and one whose value is a number. Targets are up, rules can be evaluated, and
    no alert of a broken gateway fires."""
    async with scraped(tmp_path) as prometheus:
        assert {each["health"] for each in await prometheus.targets()} == {"up"}
        without = {}
        for name, query in dashboard_queries(WINDOW):
            told = values(await prometheus.query(query))
            if not told or all(math.isnan(value) for value in told):
                without[name] = query
        assert without == {}
        async with prometheus.client.get(f"{prometheus.url}/api/v1/rules") as answer:
            groups = (await answer.json())["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    assert {rule["name"] for group in groups for rule in group["rules"] if rule["state"] == "firing"} == set()


async def test_query_without_data_is_found(tmp_path: Path) -> None:
    """What the test above goes by: no series for what nobody counts, and Prometheus' words for what is no query."""
    (tmp_path / "operator.key").write_text(OPERATORS_KEY)
    async with (
        vllm_metrics() as engine,
        running_prometheus(config_of(engine, engine, tmp_path / "operator.key"), tmp_path) as prometheus,
    ):
        assert await prometheus.query("prfaas_nobody_counts_this") == []
        with pytest.raises(ValueError, match="parse error"):
            await prometheus.query("rate(")
