"""Real engines for benchmarks: a prefill and a decode engine, each on a core of its own, and how to ask them."""

import asyncio
import json
import os
import secrets
import signal
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from benchmarks.report import ROOT
from benchmarks.step_times import STEP_TIMES, times_of
from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.engine.tiny import make_tiny_model
from prfaas.launch.engine_command import Command, engine_command
from prfaas.launch.local import free_ports, local_tree
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.stack import Service, Stack
from prfaas.transport.report import ReportClient
from prfaas.types import TransferReport
from tests.wan.wan import ADDRESSES, Wan

PREFILL, DECODE = "cloud-0", "edge-0"
MODEL = "qwen3_next"
TRANSFER_OPTION = "--kv-transfer-config"
PATIENCE_S = 120.0
WAKE_TRIES, WAKE_PROMPT = 10, tuple(range(40, 120))
SETTLE_S = 0.5
"""For movers to notice that a lease has run out."""

Prompt = Sequence[int]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class HandOver:
    """One remote prefill, in seconds of the monotonic clock.

    Attributes:
        answered_s: when the decode engine's whole answer was here.
        prefill_end_s: when the prefill engine's last step ended.
        loaded_s: when the decode engine's scheduler was told that the cache is there.
        report: what the decode engine's mover says of the transfer, where there is one.
    """

    answered_s: float
    prefill_end_s: float
    loaded_s: float
    report: TransferReport | None = None

    @property
    def tail_s(self) -> float:
        """From the end of the prefill to the end of the answer."""
        return self.answered_s - self.prefill_end_s


class EnginePair:
    """A running pair with our connector; ``benchmarks.peers.nixl_engines`` has one with another.

    Args:
        name: of the pair, in results.
    """

    def __init__(self, name: str, config: Config, http: aiohttp.ClientSession, stack: Stack, folder: Path) -> None:
        self.name = name
        self.config = config
        self._http, self._stack, self._folder = http, stack, folder
        self._reports = ReportClient()

    async def aclose(self) -> None:
        """Let go of what is not the caller's."""
        self.resume()
        await self._reports.aclose()

    async def hand_over(self, prompt: Prompt, max_tokens: int, prefill_salt: str | None = None) -> HandOver:
        """Prefill a prompt on the one engine, where its cache may have the salt, and decode on the other."""
        transfer = {"transfer_id": uuid.uuid4().hex, "secret": secrets.token_urlsafe(16), "timeout_s": PATIENCE_S}
        remote = self.config.engines[PREFILL].kv
        prefill = self.body(prompt, 1, {"prfaas": {"role": "prefill", **transfer}}, prefill_salt)
        decode = self.body(prompt, max_tokens, {"prfaas": {"role": "decode", "remote": remote, **transfer}})
        prefilled = asyncio.ensure_future(self.ask(PREFILL, prefill))
        try:
            await self.ask(DECODE, decode)
            answered_s = time.monotonic()
        finally:
            await prefilled
        at, name, secret = self.config.engines[DECODE].kv, transfer["transfer_id"], transfer["secret"]
        report = await self._reports.wait(at, str(name), str(secret), timeout_s=5.0)
        if not report.ok:
            raise RuntimeError(f"the transfer failed: {report.reason}")
        return self.hand_over_at(answered_s, report)

    def hand_over_at(self, answered_s: float, report: TransferReport | None = None) -> HandOver:
        """The hand-over that has just been answered."""
        return HandOver(answered_s, self.times(PREFILL, "step")[-1], self.times(DECODE, "loaded")[-1], report)

    def body(self, prompt: Prompt, max_tokens: int, params: Body | None = None, salt: str | None = None) -> Body:
        """A greedy completion of exactly so many tokens; without a salt nothing that is cached is hit."""
        return {
            "model": self.config.model.name,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "min_tokens": max_tokens,
            "temperature": 0,
            "cache_salt": salt or uuid.uuid4().hex,
            **({"kv_transfer_params": params} if params else {}),
        }

    async def ask(self, engine: str, body: Body) -> dict[str, Any]:
        """The engine's answer. Raises RuntimeError when it is an error."""
        async with self._http.post(f"{self.config.engines[engine].url}/v1/completions", json=body) as response:
            text = await response.text()
        if response.status != 200:
            raise RuntimeError(f"{engine}: status {response.status}: {text[:300]}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def times(self, engine: str, word: str) -> list[float]:
        """See ``times_of``."""
        return times_of(self._folder / f"{engine}.times", word)

    @property
    def groups(self) -> list[int]:
        """The engines' process groups, in the order of their start."""
        return [child.pid for child in self._stack.children]

    def resume(self) -> None:
        """Let stopped engines run again."""
        self._signal(signal.SIGCONT)

    def pause(self) -> None:
        """Stop the engines, so that they take nothing from another pair's measurement."""
        self._signal(signal.SIGSTOP)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engines run within the context, and are in touch: leases have run out while they were stopped."""
        self.resume()
        await asyncio.sleep(SETTLE_S)
        try:
            for left in reversed(range(WAKE_TRIES)):
                try:
                    await self.hand_over(WAKE_PROMPT, 1)
                    break
                except RuntimeError:
                    if not left:
                        raise
                    await asyncio.sleep(1.0)
            yield
        finally:
            self.pause()

    def _signal(self, number: signal.Signals) -> None:
        for group in self.groups:
            os.killpg(group, number)


@asynccontextmanager
async def serve(
    name: str,
    folder: Path,
    kind: type[EnginePair] = EnginePair,
    *,
    chunk_tokens: int,
    connector: Mapping[str, Mapping[str, Any]] | None = None,
    module: str = "benchmarks.step_times",
    vllm_args: Sequence[str] = (),
    wiring: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] | None = None,
    wan: Wan | None = None,
    is_confined: bool = False,
) -> AsyncIterator[EnginePair]:
    """Start a pair. With a WAN the prefill engine is at its other end; the caller is at the edge.

    Args:
        connector: more settings of our connector, by engine.
        module: where the class of our connector is.
        vllm_args: for both engines.
        is_confined: all of an engine's processes keep to its core; else its worker's threads alone do.
        wiring: in place of our connector vLLM's ``--kv-transfer-config`` and environment, by engine.
    """
    model = make_tiny_model(MODEL, ROOT / ".prfaas" / "models" / MODEL)
    config = parse_config(_tree(model, wan))
    cores = sorted(os.sched_getaffinity(0))
    services = []
    for at, engine in enumerate((PREFILL, DECODE)):
        command = engine_command(
            config, engine, ("--max-num-batched-tokens", str(chunk_tokens), "--enforce-eager", *vllm_args)
        )
        if wiring:
            command = _rewired(command, *wiring[engine])
        else:
            command = _timed(command, module, (connector or {}).get(engine, {}))
        core = cores[at % len(cores)]
        command = _placed(command, engine, folder, core, wan)
        if is_confined:
            command = Command(("taskset", "--cpu-list", str(core), *command.argv), command.env)
        services.append(_service(config, engine, command))
    progress = ConsoleProgress(Console(), MonotonicClock())
    async with Stack(folder / "logs", progress) as stack, _session() as http:
        await stack.start(services)
        pair = kind(name, config, http, stack, folder)
        try:
            yield pair
        finally:
            await pair.aclose()


def _session() -> aiohttp.ClientSession:
    """Without kept connections: engines that were stopped for a while close them."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    return aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True))


def _tree(model: Path, wan: Wan | None) -> dict[str, Any]:
    tree = local_tree(model, free_ports(0))
    if wan is not None:
        for engine in tree["engines"].values():
            for key in ("url", "kv"):
                engine[key] = engine[key].replace("127.0.0.1", ADDRESSES[engine["site"]])
        tree["links"][0]["bandwidth_gbps"] = wan.rate_mbit / 1000
    return tree


def _timed(command: Command, module: str, connector: Mapping[str, Any]) -> Command:
    transfer = json.loads(command.argv[command.argv.index(TRANSFER_OPTION) + 1])
    transfer |= {"kv_connector": "TimedPrfaasConnector", "kv_connector_module_path": module}
    transfer["kv_connector_extra_config"] |= connector
    return _rewired(command, transfer, {})


def _rewired(command: Command, transfer: Mapping[str, Any], env: Mapping[str, str]) -> Command:
    argv = list(command.argv)
    argv[argv.index(TRANSFER_OPTION) + 1] = json.dumps(transfer)
    return Command(tuple(argv), {**command.env, **env})


def _placed(command: Command, engine: str, folder: Path, core: int, wan: Wan | None) -> Command:
    site = engine.partition("-")[0]
    paths = (command.env.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH"))
    env = {
        **command.env,
        "VLLM_CPU_OMP_THREADS_BIND": str(core),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        STEP_TIMES: str(folder / f"{engine}.times"),
    }
    if wan is None:
        return Command(command.argv, env)
    return Command(tuple(wan.command(site, *command.argv)), {**env, "VLLM_HOST_IP": ADDRESSES[site]})


def _service(config: Config, engine: str, command: Command) -> Service:
    url = config.engines[engine].url
    body = {"model": config.model.name, "prompt": list(range(60, 100)), "max_tokens": 2}
    return Service(engine, command, health_url=f"{url}/health", warm_up=(f"{url}/v1/completions", body))
