"""A prefill engine and a decode engine for tests: real vLLM servers, a core for each, spoken to over HTTP."""

import asyncio
import functools
import itertools
import json
import os
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console

from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.engine.tiny import ARCHITECTURES
from prfaas.errors import TransferFailed
from prfaas.launch.child import Child
from prfaas.launch.engine_command import Command, engine_command
from prfaas.launch.local import free_ports, local_tree
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.stack import Service, Stack
from prfaas.transport.report import ReportClient
from prfaas.types import MoverStatistics
from tests.engine.instrumented import RECORDS
from tests.engine.models import prompt_tokens, tiny_model
from tests.engine.wire_tap import tapped

PREFILL, DECODE = "cloud-0", "edge-0"
REPOSITORY = Path(__file__).parents[2]
CLEAR_LEAD = 0.1
"""Of a greedy token over the next, in nats: several times what another chunking moves logprobs by."""
LEASE_S = 5.0
PATIENCE_S = 60.0
"""Bound of every wait, also for blocks and staging to come home: the lease, and a busy machine's delays."""

AFLOAT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""For forked processes, which no setting can bind any more, and for more engines than cores. One that waits for a cache
spins (vLLM yields its core but does not sleep): bound to the same core, the engine that computes that cache may take a
minute for what takes a second."""
SERVER, FORKING_SERVER = "vllm.entrypoints.openai.api_server", "tests.engine.forking_server"


@dataclass(frozen=True)
class Answer:
    """A greedy completion: token ids, their logprobs, and what the engine says of the transfer.

    Attributes:
        lead: smallest lead of a chosen token over the runner-up, in nats.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    lead: float = 0.0
    cached_tokens: int = 0
    transfer: Mapping[str, Any] = field(default_factory=dict)

    def shifted(self) -> "Answer":
        """The answer without its first token."""
        return replace(self, tokens=self.tokens[1:], logprobs=self.logprobs[1:])

    def logprob_difference(self, other: "Answer") -> float:
        """Largest difference between the logprobs of two answers of equal length."""
        pairs = zip(self.logprobs, other.logprobs, strict=True)
        return max((abs(a - b) for a, b in pairs), default=0.0)


async def until(is_so: Callable[[], Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    """Ask until the answer is yes; another process has no event to wait for."""
    async with asyncio.timeout(timeout_s):
        while not await is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class EnginePair:
    """The two engines and how to ask them."""

    config: Config
    http: aiohttp.ClientSession
    reports: ReportClient
    stack: Stack
    services: Mapping[str, Service]
    records: Path
    chunk_tokens: int
    caches_prefixes: bool
    adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _salts: Iterator[int] = field(default_factory=itertools.count)

    def salt(self) -> str:
        """A cache salt of its own: nothing cached so far can be hit with it."""
        return f"salt-{next(self._salts)}"

    async def complete(self, engine: str, prompt: Sequence[int], max_tokens: int, **fields: Any) -> Answer:
        """Ask one engine by token ids, greedily, for exactly ``max_tokens`` tokens."""
        body = {
            "model": self.config.model.name,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "min_tokens": max_tokens,
            "temperature": 0,
            "logprobs": 2,
            "return_token_ids": True,
            **fields,
        }
        async with self.http.post(f"{self.config.engines[engine].url}/v1/completions", json=body) as response:
            text = await response.text()
            assert response.status == 200, text
        return parse_answer(json.loads(text))

    async def alone(self, prompt: Sequence[int], max_tokens: int, salt: str | None = None, **fields: Any) -> Answer:
        """What the decode engine says without help, from a cold cache unless a salt is given."""
        return await self.complete(DECODE, prompt, max_tokens, cache_salt=salt or self.salt(), **fields)

    async def remote(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        salt: str | None = None,
        transfer_id: str | None = None,
        model: str | None = None,
        prefill_model: str | None = None,
    ) -> Answer:
        """Prefill on one engine, decode on the other, both asked at the same moment."""
        transfer, ours = (
            self.transfer(transfer_id),
            {"cache_salt": salt or self.salt(), "model": model or self.config.model.name},
        )
        theirs = {**ours, "model": prefill_model or model}
        prefill = asyncio.ensure_future(self.prefill(prompt, transfer, **theirs))
        try:
            return await self.decode(prompt, max_tokens, transfer, **ours)
        finally:
            await prefill

    def transfer(self, transfer_id: str | None = None) -> dict[str, Any]:
        """What both sides have to be told of a new transfer."""
        return {"transfer_id": transfer_id or uuid.uuid4().hex, "secret": secrets.token_urlsafe(16), "timeout_s": 100}

    async def prefill(self, prompt: Sequence[int], transfer: Mapping[str, Any], **fields: Any) -> Answer:
        """The prefill side of a transfer. Of the prompt's last token nothing is computed but an answer for nobody."""
        params = {"prfaas": {"role": "prefill", **transfer}}
        return await self.complete(PREFILL, prompt, 1, kv_transfer_params=params, **fields)

    async def decode(
        self, prompt: Sequence[int], max_tokens: int, transfer: Mapping[str, Any], **fields: Any
    ) -> Answer:
        """The decode side of a transfer."""
        params = {"prfaas": {"role": "decode", "remote": self.config.engines[PREFILL].kv, **transfer}}
        return await self.complete(DECODE, prompt, max_tokens, kv_transfer_params=params, **fields)

    async def clear_prompt(self, length: int, seed: int, max_tokens: int) -> tuple[list[int], Answer]:
        """A prompt whose greedy answer is no near-tie at any step, judged by the single engine alone; with it.

        The last prompt token of a remote prefill goes through another kernel, which may turn a near-tie.
        """
        for attempt in range(20):
            prompt = prompt_tokens(length, seed=1000 * seed + attempt)
            alone = await self.alone(prompt, max_tokens)
            if alone.lead > CLEAR_LEAD:
                return prompt, alone
        pytest.fail(f"no prompt of {length} tokens has an answer with a lead of {CLEAR_LEAD} nats at every step")

    async def metric(self, engine: str, name: str) -> float:
        """Sum of one of vLLM's metrics over its labels."""
        async with self.http.get(f"{self.config.engines[engine].url}/metrics") as response:
            text = await response.text()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))
        return sum(float(value) for key, value in samples if key.split("{")[0] == name)

    async def staging(self, engine: str) -> MoverStatistics:
        """What the engine's mover holds at present. A machine that stands still for seconds loses the first answer."""
        try:
            return await self.reports.statistics(self.config.engines[engine].kv)
        except TransferFailed:
            return await self.reports.statistics(self.config.engines[engine].kv)

    async def until_idle(self, engines: Sequence[str] = (PREFILL, DECODE)) -> None:
        """Wait until the engines hold no block, no slot and no transfer."""
        for engine in engines:
            try:
                await until(functools.partial(self.is_idle, engine))
            except TimeoutError:
                pytest.fail(f"leaked: {await self.left_over(engine)}")

    async def is_running(self, engine: str) -> bool:
        """Whether an engine computes something."""
        return await self.metric(engine, "vllm:num_requests_running") > 0

    async def is_idle(self, engine: str) -> bool:
        """Whether an engine holds nothing."""
        return await self.left_over(engine) is None

    async def until_received(self, more_bytes: int, before: MoverStatistics, engine: str = DECODE) -> None:
        """Wait until so many bytes of cache have come in since ``before``, what the engine's mover said ahead of the
        request, and their load is still open. Fails at once when it has ended."""

        async def is_under_way() -> bool:
            now = await self.staging(engine)
            if now.completed_loads + now.failed_loads > before.completed_loads + before.failed_loads:
                pytest.fail("the load was over before anything could be done to it")
            return now.open_loads > 0 and now.received_bytes >= before.received_bytes + more_bytes

        await until(is_under_way)

    def kill(self, name: str) -> None:
        """SIGKILL an engine with all its processes, or the gateway."""
        self.child(name).kill()

    def child(self, name: str) -> Child:
        """The latest process of this name."""
        return next(child for child in reversed(self.stack.children) if child.name == name)

    async def left_over(self, engine: str) -> str | None:
        """What an engine still holds, None when nothing."""
        usage = await self.metric(engine, "vllm:kv_cache_usage_perc")
        running = await self.metric(engine, "vllm:num_requests_running")
        mover = await self.staging(engine)
        held = (usage, running, mover.open_loads, mover.open_saves, mover.lent_send_slots, mover.lent_receive_slots)
        return None if not any(held) else f"{engine}: (usage, running, loads, saves, send, receive) = {held}"

    async def checksums(self, transfer_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What both sides have recorded of a transfer; either may still be at it when the answer is there."""
        found: dict[str, dict[str, Any]] = {}

        async def are_there() -> bool:
            for side in ("save", "load"):
                file = self.records / f"{side}.jsonl"
                lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
                for entry in map(json.loads, lines):
                    if entry["transfer_id"] == transfer_id:
                        found[side] = entry
            return len(found) == 2

        await until(are_there)
        return found["save"], found["load"]


def _lead(top: Mapping[str, float]) -> float:
    """Lead of the best candidate; 0 when the candidates read alike and share an entry."""
    best, *others = sorted(top.values(), reverse=True)
    return best - others[0] if others else 0.0


def parse_answer(body: Mapping[str, Any]) -> Answer:
    """Read a completion response that was asked for logprobs and token ids."""
    choice = body["choices"][0]
    details = body["usage"].get("prompt_tokens_details") or {}
    return Answer(
        tokens=tuple(choice["token_ids"]),
        logprobs=tuple(choice["logprobs"]["token_logprobs"]),
        lead=min(map(_lead, choice["logprobs"]["top_logprobs"]), default=0.0),
        cached_tokens=details.get("cached_tokens") or 0,
        transfer=(body.get("kv_transfer_params") or {}).get("prfaas") or {},
    )


def engine_service(
    config: Config, name: str, core: int | None, args: Sequence[str], connector: Mapping[str, Any], records: Path
) -> Service:
    """One engine with the instrumented connector; ``connector`` adds to ``kv_connector_extra_config``. With a ``core``
    it is started as vLLM starts on CPUs and bound to that; with None it is forked, see ``forked``."""
    command = engine_command(config, name, ("--enable-prompt-tokens-details", *args))
    argv = list(command.argv)
    at = argv.index("--kv-transfer-config") + 1
    transfer = json.loads(argv[at])
    transfer |= {"kv_connector": "InstrumentedConnector", "kv_connector_module_path": "tests.engine.instrumented"}
    transfer["kv_connector_extra_config"] |= {"lease_s": LEASE_S, "send_mib": 64, "receive_mib": 64}
    also_dials = [*transfer["kv_connector_extra_config"]["also_dials"], tapped(config.engines[PREFILL].kv)]
    transfer["kv_connector_extra_config"] |= {"also_dials": also_dials, **connector}
    argv[at] = json.dumps(transfer)
    env = {
        **command.env,
        "VLLM_CPU_OMP_THREADS_BIND": str(core),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
        RECORDS: str(records),
    }
    engine = config.engines[name]
    warm_up = {"model": config.model.name, "prompt": list(range(60, 100)), "max_tokens": 2}
    command = replace(command, argv=tuple(argv), env=env)
    return Service(
        name,
        forked(command) if core is None else command,
        health_url=f"{engine.url}/health",
        warm_up=(f"{engine.url}/v1/completions", warm_up),
    )


def forked(command: Command) -> Command:
    """The same engine, ready in half the time and on whichever core is free: see ``forking_server``."""
    argv = tuple(FORKING_SERVER if arg == SERVER else arg for arg in command.argv)
    return replace(command, argv=argv, env={**command.env, **AFLOAT})


@asynccontextmanager
async def engine_pair(
    architecture: str,
    folder: Path,
    *,
    chunk_tokens: int,
    is_compiled: bool = False,
    is_spawned: bool = False,
    args: Mapping[str, Sequence[str]] | None = None,
    connector: Mapping[str, Mapping[str, Any]] | None = None,
    models: Mapping[str, Path] | None = None,
    adapters: Mapping[str, Mapping[str, str]] | None = None,
    sections: Mapping[str, Any] | None = None,
) -> AsyncIterator[EnginePair]:
    """Start both engines; ``args``, ``connector``, ``models`` and ``adapters`` by engine name; ``sections`` are more of
    the configuration.

    Compiling a model takes a minute or more per engine, so most pairs run eagerly, and their processes are forked.
    Those that do not are started in every respect as vLLM starts on CPUs; with ``is_spawned`` so are eager ones: their
    processes begin anew, and each engine is bound to a core.
    """
    model = tiny_model(architecture)
    config = parse_config({**local_tree(model, free_ports(0)), **(sections or {})})
    common = serve_args(architecture, chunk_tokens, is_compiled=is_compiled)
    services = {}
    cores = sorted(os.sched_getaffinity(0))
    for index, name in enumerate((PREFILL, DECODE)):
        own = replace_model(config, (models or {}).get(name, model), (adapters or {}).get(name, {}))
        extra = (*common, *(args or {}).get(name, ()))
        core = cores[index % len(cores)] if is_compiled or is_spawned else None
        services[name] = engine_service(own, name, core, extra, (connector or {}).get(name, {}), folder)
    caches = "--no-enable-prefix-caching" not in common
    async with started(config, services, folder, chunk_tokens, caches_prefixes=caches) as pair:
        pair.adapters = adapters or {}
        yield pair


def serve_args(architecture: str, chunk_tokens: int, *, is_compiled: bool = False) -> tuple[str, ...]:
    """What all engines of one model are started with."""
    chunks = ("--max-num-batched-tokens", str(chunk_tokens))
    return (*ARCHITECTURES[architecture].serve_args, *chunks, *(() if is_compiled else ("--enforce-eager",)))


@asynccontextmanager
async def started(
    config: Config, services: Mapping[str, Service], folder: Path, chunk_tokens: int, *, caches_prefixes: bool = True
) -> AsyncIterator[EnginePair]:
    """Start the engines, all at once, and stop whatever runs at the end."""
    progress = ConsoleProgress(Console(), MonotonicClock())
    timeout = aiohttp.ClientTimeout(total=600)  # an engine may have a tenth of a core
    async with Stack(folder / "logs", progress) as stack, aiohttp.ClientSession(timeout=timeout) as http:
        reports = ReportClient()
        try:
            await stack.start(list(services.values()))
            yield EnginePair(config, http, reports, stack, services, folder, chunk_tokens, caches_prefixes)
        finally:
            await reports.aclose()


def replace_model(config: Config, model: Path, adapters: Mapping[str, str]) -> Config:
    """The same configuration with the weights of another folder, and with adapters."""
    changed = config.model.model_copy(update={"path": str(model), "adapters": adapters})
    return config.model_copy(update={"model": changed})
