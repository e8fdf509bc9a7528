"""A pair of engines with vLLM's NixlConnector in place of ours: the prefill ends, then the cache is fetched."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.engines import DECODE, PREFILL, EnginePair, HandOver, Prompt
from benchmarks.peers.other_python import PYTHON, missing
from prfaas.launch.local import free_ports

ENGINES = (PREFILL, DECODE)
PACKAGES = ("nixl", "nixl_cu12", "nixl_cu12.libs", "nixl_meta_utils.py")
OBSERVED_S, SPINNING = 2.0, 0.3
"""An idle engine is watched so long; a thread that takes this share of a core then only spins."""
UCX = {"UCX_TLS": "sm,tcp", "UCX_NET_DEVICES": "lo"}

__all__ = ["NixlPair", "missing", "tune", "wiring"]


def wiring(folder: Path) -> dict[str, tuple[Mapping[str, Any], Mapping[str, str]]]:
    """The connector's configuration and environment, by engine; ``folder`` gets links to its packages."""
    packages = folder / "packages"
    packages.mkdir()
    (installed,) = PYTHON.parents[1].glob("lib/python*/site-packages")
    for name in PACKAGES:
        (packages / name).symlink_to(installed / name)
    ports = free_ports(0)
    return {
        engine: (
            {
                "kv_connector": "NixlConnector",
                "kv_connector_module_path": "benchmarks.peers.nixl_connector",
                "kv_role": "kv_both",
                "kv_buffer_device": "cpu",
                "engine_id": engine,
            },
            {
                **UCX,
                "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
                "VLLM_NIXL_SIDE_CHANNEL_PORT": str(ports[at]),
                "PYTHONPATH": str(packages),
            },
        )
        for at, engine in enumerate(ENGINES)
    }


class NixlPair(EnginePair):
    """Asked as its documentation says: the prefill engine's answer goes into the decode engine's request."""

    async def hand_over(self, prompt: Prompt, max_tokens: int, prefill_salt: str | None = None) -> HandOver:
        ask = {"do_remote_decode": True, "do_remote_prefill": False}
        blank = {"remote_engine_id": None, "remote_block_ids": None, "remote_host": None, "remote_port": None}
        prefilled = await self.ask(PREFILL, self.body(prompt, 1, {**ask, **blank}, prefill_salt))
        await self.ask(DECODE, self.body(prompt, max_tokens, prefilled["kv_transfer_params"]))
        return self.hand_over_at(time.monotonic())


def tune(pair: EnginePair) -> None:
    """Undo what the connector does to two engines on two cores: it binds the compute threads of both to the last one,
    and its progress threads spin. Each engine gets its core back, and what spins runs only beside nothing."""
    cores = sorted(os.sched_getaffinity(0))
    for at, group in enumerate(pair.groups):
        tasks = list(_tasks(group))
        before = {task: _cpu_ticks(task) for task in tasks}
        time.sleep(OBSERVED_S)  # what spins is told from what works by the time it takes while nothing is asked
        for task in tasks:
            os.sched_setaffinity(int(task.name), {cores[at % len(cores)]})
            share = (_cpu_ticks(task) - before[task]) / os.sysconf("SC_CLK_TCK") / OBSERVED_S
            is_main = task.name == task.parents[1].name
            if share > SPINNING and not is_main:
                os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def _cpu_ticks(task: Path) -> int:
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _tasks(group: int) -> Iterator[Path]:
    """The threads of a process group that belong to an engine's core or a worker."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group and (process / "comm").read_text().startswith("VLLM::"):
                yield from (process / "task").iterdir()
        except (ProcessLookupError, FileNotFoundError):
            continue
