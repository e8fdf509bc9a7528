"""A gateway in front of several sites: two local engines, and one engine in each of two sites that may prefill."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from prfaas.clock import Clock, MonotonicClock
from prfaas.config import parse_config
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.app import create_app
from prfaas.gateway.control.loop import MakeController
from prfaas.gateway.control.make import controller_of
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import Upstream
from prfaas.observe.decisions import Decision
from prfaas.tracing import NO_TRACER, Tracer
from tests.gateway.fakes import CountingIds, FakeReports, WordTokenizer, eventually
from tests.gateway.stub_engine import StubEngine

SITES = {"edge-0": "edge", "edge-1": "edge", "cloud-0": "cloud", "moon-0": "moon"}


@dataclass
class Wide:
    """The running gateway. ``tree`` is its configuration file: change it and have it read again."""

    engines: dict[str, StubEngine]
    tree: dict[str, Any]
    services: GatewayServices
    reports: FakeReports
    client: aiohttp.ClientSession
    url: str = ""

    async def chat(self, words: int, **fields: object) -> aiohttp.ClientResponse:
        """Send a chat request of so many tokens; more than five are prefilled elsewhere."""
        content = " ".join(["word"] * words)
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}
        return await self.client.post(f"{self.url}/v1/chat/completions", json=body)

    async def answered_by(self, words: int = 2) -> str:
        """The engine that answers such a request."""
        async with await self.chat(words) as answer:
            assert answer.status == 200
            return answer.headers["x-prfaas-engine"]

    async def post(self, path: str, **headers: str) -> tuple[int, Any]:
        """Ask as an operator does."""
        async with self.client.post(f"{self.url}{path}", headers=headers) as answer:
            return answer.status, await answer.json()

    async def healthy(self, *names: str) -> None:
        """Wait until the gateway knows that these engines are well."""
        await eventually(lambda: all(self.services.fleet.status(name).is_healthy for name in names))

    async def ended(self) -> Decision:
        """The latest decision, once its request has ended."""
        await eventually(lambda: self.services.decisions.latest().outcome != "running")
        return self.services.decisions.latest()

    def value(self, name: str, **labels: str) -> float | None:
        return self.services.metrics.registry.get_sample_value(name, labels)


def tree_of(engines: dict[str, StubEngine], **gateway: object) -> dict[str, Any]:
    return {
        "model": {"name": "tiny", "path": "/nowhere", "max_model_len": 100},
        "gateway": {"site": "edge", "request_timeout_s": 60, "shutdown_grace_s": 1, **gateway},
        "sites": {site: {"tls": "off"} for site in ("edge", "cloud", "moon")},
        "engines": {
            name: {
                "site": SITES[name],
                "url": engine.url,
                "kv": f"127.0.0.1:{7101 + 10 * index}",
                "roles": ["decode"] if SITES[name] == "edge" else ["prefill"],
            }
            for index, (name, engine) in enumerate(engines.items())
        },
        "links": [{"from": "cloud", "to": "edge"}, {"from": "moon", "to": "edge"}],
        "policy": {"threshold_tokens": 5, "remote_timeout_s": gateway.get("request_timeout_s", 30)},
    }


@contextlib.asynccontextmanager
async def wide(
    without: tuple[str, ...] = (),
    probe_interval_s: float = 600,
    state_file: Path | None = None,
    edit: Callable[[dict[str, Any]], object] = lambda _: None,
    make_controller: MakeController = controller_of,
    policy: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    tracer: Tracer = NO_TRACER,
    **gateway: object,
) -> AsyncIterator[Wide]:
    """All engines run, those in ``without`` are not configured. By default each is probed once. ``edit`` changes the
    configuration before it is used."""
    async with contextlib.AsyncExitStack() as stack:
        engines = {name: await stack.enter_async_context(StubEngine().running()) for name in SITES}
        if state_file is not None:
            gateway["state_file"] = str(state_file)
        tree = tree_of(engines, **gateway)
        tree["policy"] |= policy or {}
        for name in without:
            del tree["engines"][name]
        edit(tree)
        config, reports, clock = parse_config(tree), FakeReports(), clock or MonotonicClock()
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
            ids=CountingIds(),
            probe_interval_s=probe_interval_s,
            tracer=tracer,
        )
        client = await stack.enter_async_context(aiohttp.ClientSession())
        running = Wide(engines, tree, services, reports, client)
        source = ConfigSource(lambda: parse_config(running.tree), lambda _: reports)
        running.url = await stack.enter_async_context(served(services, source, make_controller))
        await running.healthy(*config.engines)
        yield running


@contextlib.asynccontextmanager
async def served(
    services: GatewayServices, source: ConfigSource, make_controller: MakeController = controller_of
) -> AsyncIterator[str]:
    """Serve on a socket of its own; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(services, source, make_controller=make_controller)
        settings = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(settings)
        serving = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
