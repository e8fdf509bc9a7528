"""A gateway with something to see: three sites, engines in all states, links at work, requests of every kind.

``python -m tests.gateway.dashboard.fleet`` serves it, for looking at the page by hand.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import aiohttp
from aiohttp import web

from prfaas.clock import MonotonicClock
from prfaas.config import parse_config
from prfaas.fleet.breaker import BreakerPolicy
from prfaas.fleet.breakers import Breakers
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.access.visit import build_access
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import Upstream
from prfaas.observe.metrics import Metrics
from prfaas.types import LinkStatistics, TransferReport
from tests.gateway.fakes import FakeReports, WordTokenizer, eventually
from tests.gateway.stub_engine import EVENTS, Call, StubEngine, begin_stream
from tests.gateway.wide import served

ENGINES: dict[str, tuple[str, list[str]]] = {
    "edge-a1": ("edge", ["decode"]),
    "edge-a2": ("edge", ["decode"]),
    "edge-a3": ("edge", ["prefill", "decode"]),
    "edge-b1": ("edge", ["decode"]),
    "cloud-p1": ("cloud", ["prefill"]),
    "cloud-p2": ("cloud", ["prefill"]),
    "cloud-p3": ("cloud", ["prefill"]),
    "annex-p1": ("annex", ["prefill"]),
}
S_PER_TOKEN = {"edge": 80e-6, "cloud": 25e-6, "annex": 40e-6}
BYTES_PER_TOKEN = 24_000
STATE_BYTES = 70e6
LONG = 100_000
"""Seconds that a breaker stays open: longer than anybody looks."""


TIMES = ("open_s", "prefilled_s", "first_s", "last_s", "used_s")


class Reports(FakeReports):
    """What the decode side's mover would tell of transfers that take their time; of those in ``lost``, that they did
    not arrive."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.tokens_of: dict[str, int] = {}
        self.lost: set[str] = set()

    def times(self, tokens: int) -> TransferReport:
        """The prefill of so many tokens at "cloud", and its cache over 8 Gbit/s while it is computed."""
        prefilled = 0.12 + tokens * S_PER_TOKEN["cloud"]
        first = 0.12 + min(tokens, 2048) * S_PER_TOKEN["cloud"]
        size = tokens * BYTES_PER_TOKEN + STATE_BYTES
        last = max(prefilled + STATE_BYTES / 1e9, first + size / 1e9)
        early = int(size * min(1, (prefilled - first) / (last - first)))
        return TransferReport("", True, "", tokens, 0, int(size), early, last, prefilled, first, last, last + 0.018)

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        await eventually(lambda: transfer_id in self.tokens_of)
        told = self.times(self.tokens_of[transfer_id])
        scaled = {name: getattr(told, name) * self.speed for name in TIMES}
        await asyncio.sleep(scaled["used_s"])
        if transfer_id in self.lost:
            return TransferReport(transfer_id, ok=False, reason="not complete within its time", **scaled)
        return replace(told, transfer_id=transfer_id, **scaled)


@dataclass
class Populated:
    """The running gateway, and who sends requests to it."""

    services: GatewayServices
    reports: Reports
    client: aiohttp.ClientSession
    engines: dict[str, StubEngine]
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    starts: Iterator[int] = field(default_factory=lambda: count(100))

    async def chat(self, words: int, request_id: str = "", start: int = 0, **fields: object) -> int:
        """Send a streamed request of so many tokens and read its answer. Returns the status. A prompt is new unless
        ``start`` was the same before: its first token is that."""
        content = "x" * (start or next(self.starts)) + " a" * (words - 1)
        body = {"model": "hybrid-80b", "messages": [{"role": "user", "content": content}]}
        headers = {**self.headers, **({"x-request-id": request_id} if request_id else {})}
        async with self.client.post(
            f"{self.url}/v1/chat/completions", json={"stream": True, **body, **fields}, headers=headers
        ) as answer:
            await answer.read()
            return answer.status

    def break_link(self, source: str, target: str) -> None:
        """Transfers over it failed."""
        breakers: Breakers[tuple[str, str]] = Breakers(self.services.clock, BreakerPolicy(open_s=LONG, max_open_s=LONG))
        self.services.fleet.link_breakers = breakers
        for _ in range(3):
            breakers.blame((source, target))

    async def drain(self, engine: str, word: str = "drain") -> None:
        """As an operator does, or ``undrain``."""
        async with self.client.post(f"{self.url}/prfaas/engines/{engine}/{word}") as answer:
            assert answer.status == 200

    async def trouble(self) -> None:
        """A link is broken, an engine drains, another does not answer."""
        self.break_link("annex", "edge")
        await self.drain("edge-b1")
        self.engines["cloud-p3"].health_status = 503
        await eventually(lambda: not self.services.fleet.status("cloud-p3").is_healthy)

    async def traffic(self, seconds: float, every_s: float = 0.25, seed: int = 1) -> None:
        """Requests of all lengths, some lost on their way, for so long."""
        chance, sending = random.Random(seed), set[asyncio.Task[int]]()
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + seconds
        while (now_s := loop.time()) < ends_s:
            tokens = int(math.exp(chance.gauss(7.6, 1.1)))
            start = chance.choice((0, 0, 0, 10, 11, 12))  # half of them go on with one of three conversations
            sending.add(asyncio.create_task(self.chat(max(12, min(tokens, 30_000)), start=start)))
            self.load(0.42 + 0.3 * math.sin(now_s / 6) + 0.1 * chance.random())
            await asyncio.sleep(every_s)
        await asyncio.gather(*sending)

    def load(self, share: float) -> None:
        """The link from the cloud is used so much."""
        bandwidth = 10e9 / 8
        here = LinkStatistics(
            "edge-a1", True, 8, goodput_bytes_s=0.93 * bandwidth, bandwidth_bytes_s=bandwidth, utilisation=share,
            rtt_s=0.0312, min_rtt_s=0.03, in_flight_bytes=int(2e7), queued_bytes=int(share * 2e8),
        )  # fmt: skip
        self.reports.links_of[self.services.config.engines["cloud-p1"].kv] = (here,)


def scripts(reports: Reports, name: str, site: str) -> Any:
    """An engine that takes as long as such a one would, in the reports' time."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        ours = call.params.get("prfaas", {})
        transfer_id = ours.get("transfer_id")
        if ours.get("role") == "prefill":
            tokens = len(call.body["prompt"])
            reports.tokens_of[transfer_id] = tokens
            await asyncio.sleep((reports.times(tokens).prefilled_s + 0.01) * reports.speed)
            return web.json_response({"choices": [{"text": "x"}]})
        if ours:
            await eventually(lambda: transfer_id in reports.tokens_of)
            wait_s = reports.times(reports.tokens_of[transfer_id]).used_s + 0.03
        else:
            wait_s = 0.03 + len(str(call.body.get("messages", ""))) / 2 * S_PER_TOKEN[site]
        await asyncio.sleep(wait_s * reports.speed)
        response = await begin_stream(call, request)
        for event in EVENTS:
            await response.write(event)
            await asyncio.sleep(0.2 * reports.speed)
        return response

    return script


def tree_of(engines: dict[str, StubEngine], **sections: Any) -> dict[str, Any]:
    return {
        "model": {"name": "hybrid-80b", "path": "/nowhere", "max_model_len": 131_072},
        "gateway": {"site": "edge", "request_timeout_s": 60, "shutdown_grace_s": 1},
        "sites": {site: {"tls": "off"} for site in ("edge", "cloud", "annex")},
        "engines": {
            name: {
                "site": site,
                "url": engines[name].url,
                "kv": f"127.0.0.1:{7101 + 10 * at}",
                "roles": roles,
                "max_requests": 16,
                "prefill": {"fixed_s": 0.03, "s_per_token": S_PER_TOKEN[site]},
            }
            for at, (name, (site, roles)) in enumerate(ENGINES.items())
        },
        "links": [
            {"from": "cloud", "to": "edge", "bandwidth_gbps": 10, "egress_budget_gb_per_day": 4000},
            {"from": "annex", "to": "edge", "bandwidth_gbps": 1},
        ],
        "policy": {
            "threshold_tokens": 2000,
            "remote_timeout_s": 30,
            "cache": {"bytes_per_token": BYTES_PER_TOKEN, "state_bytes": STATE_BYTES},
        },
        **sections,
    }


@contextlib.asynccontextmanager
async def populated(
    speed: float = 0.02, env: dict[str, str] | None = None, **sections: Any
) -> AsyncIterator[Populated]:
    """``speed``: how many seconds of ours a second of the fleet takes."""
    reports = Reports(speed)
    async with contextlib.AsyncExitStack() as stack:
        engines = {name: await stack.enter_async_context(StubEngine().running()) for name in ENGINES}
        for name, engine in engines.items():
            engine.script = scripts(reports, name, ENGINES[name][0])
        config = parse_config(tree_of(engines, **sections))
        clock, metrics = MonotonicClock(), Metrics()
        fleet = Fleet(config.engines, clock)
        services = GatewayServices(
            config=config,
            tokenizer=CheckedTokenizer(WordTokenizer(config.model.max_model_len)),
            upstream=Upstream({name: engine.url for name, engine in config.engines.items()}),
            reports=reports,
            clock=clock,
            fleet=fleet,
            view=FleetView(config, fleet),
            prefixes=PrefixHits(PrefixIndex(), config.engines),
            metrics=metrics,
            access=build_access(config, env or {}, clock, metrics),
            probe_interval_s=0.05,
        )
        client = await stack.enter_async_context(aiohttp.ClientSession())
        running = Populated(services, reports, client, engines)
        running.url = await stack.enter_async_context(served(services, ConfigSource(lambda: config, lambda _: reports)))
        await eventually(lambda: all(each.is_healthy for each in fleet.statuses()))
        running.load(0.4)
        yield running


async def main() -> None:
    """Serve until interrupted, with traffic."""
    async with populated(speed=1.0) as running:
        print(f"{running.url}/dashboard", flush=True)
        await running.trouble()
        await running.traffic(24 * 3600.0, every_s=0.4)


if __name__ == "__main__":
    asyncio.run(main())
