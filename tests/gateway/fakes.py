"""Fakes for the gateway's collaborators, and a gateway on a real socket around them."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn

from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.errors import RequestRejected, TransferFailed
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.access.visit import build_access
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.gateway.serve import server_settings
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import Upstream
from prfaas.observe.decisions import Decision
from prfaas.observe.metrics import Metrics
from prfaas.prefix import PrefixUpdate
from prfaas.tracing import NO_TRACER, Tracer
from prfaas.types import LinkStatistics, MoverStatistics, TransferReport
from tests.gateway.stub_engine import StubEngine

EDGE_KV, CLOUD_KV = "127.0.0.1:7101", "127.0.0.1:7111"


class WordTokenizer:
    """One token per word: its length."""

    def __init__(self, max_model_len: int) -> None:
        self._max_model_len = max_model_len
        self.is_stuck = False
        self.cancelled = 0

    def tokens_now(self, request: ApiRequest, above: int = 0) -> PromptTokens | None:
        if self.is_stuck:
            return None
        if request.body.get("untouched"):
            return PromptTokens(None, "the request says so")
        return PromptTokens(None, max_count=above) if request.body.get("short") else None

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        if self.is_stuck:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        text = request.body["messages"][-1]["content"] if request.endpoint == "chat" else request.body["prompt"]
        if not isinstance(text, str):
            return PromptTokens(None, "not a text")
        ids = [len(word) for word in text.split()]
        if len(ids) > self._max_model_len:
            raise RequestRejected(400, "too long", param="messages", code="context_length_exceeded")
        return PromptTokens(TokenIds.of(ids))

    def close(self) -> None:
        pass


class FakeReports:
    """Reports that a test hands out: one future for each transfer."""

    def __init__(self) -> None:
        self.waits: list[tuple[str, str, str]] = []
        self.timeouts_s: list[float] = []
        self._reports: dict[str, asyncio.Future[TransferReport]] = {}
        self.default: TransferReport | None = None
        self.links_of: dict[str, tuple[LinkStatistics, ...]] = {}
        self.prefixes_of: dict[str, list[PrefixUpdate]] = {}
        self.feeds_begun: list[str] = []

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        self.waits.append((target, transfer_id, secret))
        self.timeouts_s.append(timeout_s)
        if self.default is not None:
            return self.default
        return await self._report(transfer_id)

    async def statistics(self, target: str) -> MoverStatistics:
        if target not in self.links_of:
            raise TransferFailed(f"{target} cannot be reached")
        return MoverStatistics(links=self.links_of[target])

    async def prefixes(self, target: str) -> AsyncIterator[PrefixUpdate]:
        self.feeds_begun.append(target)
        if target not in self.prefixes_of:
            raise TransferFailed(f"{target} cannot be reached")
        for update in self.prefixes_of[target]:
            yield update
        await asyncio.Event().wait()

    def give(self, report: TransferReport) -> None:
        self._report(report.transfer_id).set_result(report)

    def refuse(self, transfer_id: str) -> None:
        self.fail(transfer_id, TransferFailed("unknown transfer"))

    def fail(self, transfer_id: str, error: Exception) -> None:
        self._report(transfer_id).set_exception(error)

    async def aclose(self) -> None:
        pass

    def _report(self, transfer_id: str) -> asyncio.Future[TransferReport]:
        return self._reports.setdefault(transfer_id, asyncio.get_running_loop().create_future())


class CountingIds:
    """Predictable ids."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def request_id(self) -> str:
        return f"req-{next(self._count)}"

    def transfer_id(self) -> str:
        return f"transfer-{next(self._count)}"

    def secret(self) -> str:
        return f"secret-{next(self._count)}"


def config_for(
    edge_url: str,
    cloud_url: str,
    request_timeout_s: float = 60,
    adapters: Mapping[str, str] | None = None,
    **sections: Any,
) -> Config:
    """One decode engine here, one prefill engine there, and a threshold of five tokens; further sections as given."""
    return parse_config(
        {
            "model": {"name": "tiny", "path": "/nowhere", "max_model_len": 100, "adapters": dict(adapters or {})},
            "gateway": {
                "site": "edge",
                "max_body_bytes": 65536,
                "request_timeout_s": request_timeout_s,
                "shutdown_grace_s": 1,
            },
            "sites": {"edge": {"tls": "off"}, "cloud": {"tls": "off"}},
            "engines": {
                "edge-0": {"site": "edge", "url": edge_url, "kv": EDGE_KV},
                "cloud-0": {"site": "cloud", "url": cloud_url, "kv": CLOUD_KV, "roles": ["prefill"]},
            },
            "links": [{"from": "cloud", "to": "edge"}],
            "policy": {"threshold_tokens": 5, "remote_timeout_s": min(30, request_timeout_s)},
            **sections,
        }
    )


async def eventually(predicate: Callable[[], object]) -> None:
    """Wait for something that has no event of its own; the test's timeout is the bound."""
    while True:
        if predicate():
            return
        await asyncio.sleep(0.002)


@dataclass
class Stand:
    """A running gateway with its two engines, and a client."""

    edge: StubEngine
    cloud: StubEngine
    url: str
    server: uvicorn.Server
    services: GatewayServices
    tokenizer: WordTokenizer
    client: aiohttp.ClientSession
    reports: FakeReports = field(default_factory=FakeReports)

    async def chat(self, words: int, **fields: object) -> aiohttp.ClientResponse:
        """Send a chat request of so many tokens."""
        content = " ".join(["word"] * words)
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}
        return await self.client.post(f"{self.url}/v1/chat/completions", json=body)

    async def probed(self) -> "Stand":
        """Wait until the gateway knows that both engines are well."""
        await eventually(lambda: all(status.is_healthy for status in self.services.fleet.statuses()))
        return self

    async def ended(self) -> Decision:
        """The latest decision, once its request has ended."""
        await eventually(lambda: self._latest().outcome != "running")
        return self._latest()

    def _latest(self) -> Decision:
        return self.services.decisions.latest()


@contextlib.asynccontextmanager
async def gateway(
    services: GatewayServices, source: ConfigSource | None = None
) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """Serve on a socket of its own; yields the URL and the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_settings(services, source))
        serving = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def stand(
    request_timeout_s: float = 60,
    probe_interval_s: float = 0.02,
    env: Mapping[str, str] | None = None,
    source: ConfigSource | None = None,
    adapters: Mapping[str, str] | None = None,
    tracer: Tracer = NO_TRACER,
    **sections: Any,
) -> AsyncIterator[Stand]:
    """Two stub engines, which have the adapters, a gateway in front of them, and a client; ``sections`` are more of the
    configuration, which is read again from ``source``."""
    reports = FakeReports()
    async with StubEngine().running() as edge, StubEngine().running() as cloud:
        edge.adapters, cloud.adapters = dict(adapters or {}), dict(adapters or {})
        config = config_for(edge.url, cloud.url, request_timeout_s, adapters, **sections)
        clock, metrics = MonotonicClock(), Metrics()
        fleet = Fleet(config.engines, clock)
        tokenizer = WordTokenizer(config.model.max_model_len)
        services = GatewayServices(
            config=config,
            tokenizer=CheckedTokenizer(tokenizer),
            upstream=Upstream({name: engine.url for name, engine in config.engines.items()}),
            reports=reports,
            clock=clock,
            metrics=metrics,
            access=build_access(config, env or {}, clock, metrics),
            fleet=fleet,
            view=FleetView(config, fleet),
            prefixes=PrefixHits(PrefixIndex(), config.engines),
            ids=CountingIds(),
            probe_interval_s=probe_interval_s,
            tracer=tracer,
        )
        async with gateway(services, source) as (url, server), aiohttp.ClientSession() as client:
            yield await Stand(edge, cloud, url, server, services, tokenizer, client, reports).probed()
