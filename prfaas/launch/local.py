"""The stack for one machine without a GPU: a prefill engine in the cloud, a decode engine at the edge, a gateway."""

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from prfaas.config import Config, parse_config
from prfaas.launch.engine_command import Command, engine_command
from prfaas.launch.progress import Progress
from prfaas.launch.readiness import until_remote
from prfaas.launch.stack import Service, Stack, run_to_end

MODEL_ARCHITECTURE = "qwen3_next"
"""GDN and full attention in turn: the shape that makes a transfer carry both KV and recurrent state."""
MODEL_NAME = "tiny"
MAX_MODEL_LEN = 24_576
"""Room for the demo's longest prompt, 20,000 tokens, and an answer."""
THRESHOLD_TOKENS = 512
S_PER_TOKEN = 0.00005
"""Some 100 ms for 2,000 tokens, on one core (docs/performance.md): what the controller begins with. The gateway
measures engines that get long prompts; the edge's own gets few, so this is all that is known of it."""
FEW_REQUESTS = 10
"""One person asks: what the controller would change is to show after a few requests."""
CHUNK_TOKENS = 512
"""Tokens prefilled in one step: few, so that the cache of a long prompt visibly streams while it is computed. The same
on both engines, so that an answer of one alone is rounded alike."""
LINK_TIMEOUT_S = 60.0
"""The decode engine dials again at least every ten seconds; the rest is for a slow machine's first prefill."""
LOWEST_PORT = 12_000
"""Below it people run servers of their own."""
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
CACHE_GIB = "1"
"""Of cache per engine: some forty prompts of the longest kind, and two engines still fit a laptop."""


def local_tree(model: Path, ports: tuple[int, int, int, int, int]) -> dict[str, Any]:
    """The configuration as plain values; ``ports``: gateway, edge HTTP and cache, cloud HTTP and cache."""
    gateway, edge, edge_kv, cloud, cloud_kv = ports
    host = "127.0.0.1"
    return {
        "model": {"name": MODEL_NAME, "path": str(model), "max_model_len": MAX_MODEL_LEN},
        "gateway": {"host": host, "port": gateway, "site": "edge"},
        # Nothing leaves this machine.
        "sites": {"edge": {"tls": "off"}, "cloud": {"tls": "off"}},
        "engines": {
            "edge-0": _engine_tree("edge", edge, edge_kv, ["prefill", "decode"]),
            "cloud-0": _engine_tree("cloud", cloud, cloud_kv, ["prefill"]),
        },
        "links": [{"from": "cloud", "to": "edge", "bandwidth_gbps": 10}],
        "policy": {"name": "threshold", "threshold_tokens": THRESHOLD_TOKENS},
        "controller": {"mode": "shadow", "min_requests": FEW_REQUESTS},
    }


def _engine_tree(site: str, port: int, kv_port: int, roles: list[str]) -> dict[str, Any]:
    place = {"site": site, "url": f"http://127.0.0.1:{port}", "kv": f"127.0.0.1:{kv_port}"}
    return {**place, "roles": roles, "prefill": {"s_per_token": S_PER_TOKEN}}


def free_ports(preferred: int) -> tuple[int, int, int, int, int]:
    """Five ports of the loopback interface that are free now, the first one ``preferred`` (0: any) if that is.

    The port after each of the cache ports (the third and the fifth) is free as well: a mover takes it for its data.
    They are listened on only when the engines have loaded, up to minutes later. Until then nothing else gets them by
    chance: the kernel gives ports to connections, and to servers that ask for any, from above these.
    """
    with contextlib.ExitStack() as held:
        gateway = (preferred and _hold(held, preferred)) or _hold_some(held)
        edge, edge_kv = _hold_some(held), _hold_some(held, 2)
        cloud, cloud_kv = _hold_some(held), _hold_some(held, 2)
        return gateway, edge, edge_kv, cloud, cloud_kv


def _hold_some(held: contextlib.ExitStack, count: int = 1) -> int:
    """The first of ``count`` neighbouring free ports below those that the kernel gives away."""
    # Where the kernel gives away nearly all ports there is nothing below, and chance has to do.
    above = max(int(EPHEMERAL_PORTS.read_text().split()[0]), 2 * LOWEST_PORT)
    while True:
        # At random, so that two stacks that start at the same time choose different ones.
        first = random.randrange(LOWEST_PORT, above - count)
        if all(_hold(held, first + offset) for offset in range(count)):
            return first


def _hold(held: contextlib.ExitStack, port: int) -> int:
    """Keep a port from being chosen again while others are looked for; returns 0 when it is taken."""
    probe = held.enter_context(socket.socket())
    # As servers do: a connection of an earlier run that lingers in TIME_WAIT does not make a port busy.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return 0
    probe.listen(1)
    return port


async def make_model(folder: Path, logs: Path, progress: Progress) -> Path:
    """The small model, made at the first use; nothing happens when it is there. Raises ProcessFailed."""
    model = folder / MODEL_ARCHITECTURE
    argv = (sys.executable, "-m", "prfaas.engine.tiny", MODEL_ARCHITECTURE, str(model))
    await run_to_end("model", Command(argv), logs, progress)
    return model


async def start_local(stack: Stack, progress: Progress, model: Path, folder: Path, gateway_port: int) -> Config:
    """Write the configuration to ``folder`` and start engines and gateway in ``stack``; returns the configuration.

    Raises:
        ProcessFailed: one of them did not come up.
    """
    tree = local_tree(model, free_ports(gateway_port))
    config = parse_config(tree)
    path = folder / "local.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    cores = sorted(os.sched_getaffinity(0))
    await stack.start(
        [engine_service(config, name, cores[index % len(cores)]) for index, name in enumerate(config.engines)]
    )
    await stack.start([gateway_service(config, path)])
    await stack.while_alive(_until_linked(config, progress))
    return config


async def _until_linked(config: Config, progress: Progress) -> None:
    """Wait for a first remote prefill. Without one the stack still answers, and says so in every answer's headers."""
    prompt = "warm up " * (THRESHOLD_TOKENS // 4)
    body = {"model": config.model.name, "prompt": prompt, "max_tokens": 4}
    with progress.shown():
        progress.update("link", "cloud to edge: first remote prefill")
        try:
            async with asyncio.timeout(LINK_TIMEOUT_S), aiohttp.ClientSession() as http:
                await until_remote(http, f"{gateway_url(config)}/v1/completions", body)
        except (TimeoutError, RuntimeError, aiohttp.ClientError) as error:
            reason = str(error) or f"none within {LINK_TIMEOUT_S:g} s; see {gateway_url(config)}/prfaas/decisions"
            progress.update("link", f"NO remote prefill: {reason}", done=True)
        else:
            progress.update("link", "cloud to edge: remote prefill works", done=True)


def engine_service(config: Config, name: str, core: int) -> Service:
    """An engine of the local stack, on one core, ready after its first request."""
    engine = config.engines[name]
    command = engine_command(config, name, ("--max-num-batched-tokens", str(CHUNK_TOKENS)))
    env: Mapping[str, str] = {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": CACHE_GIB}
    first_request = {"model": config.model.name, "prompt": "warm up", "max_tokens": 4}
    return Service(
        name,
        replace(command, env={**command.env, **env}),
        health_url=f"{engine.url}/health",
        warm_up=(f"{engine.url}/v1/completions", first_request),
    )


def gateway_service(config: Config, path: Path) -> Service:
    """The gateway as its own process, ready when it has found an engine that answers."""
    argv = (sys.executable, "-m", "prfaas.cli", "gateway", "--config", str(path))
    return Service("gateway", Command(argv), health_url=f"{gateway_url(config)}/ready", start_timeout_s=60)


def gateway_url(config: Config) -> str:
    """Where clients of this machine reach the gateway."""
    return f"http://{config.gateway.host}:{config.gateway.port}"
