"""This machine: disks, open files and GPUs. What is read comes by argument, so that a test can have a full disk."""

import asyncio
import importlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from prfaas.config import Config, EngineConfig
from prfaas.doctor.finding import Checked, Finding, finding
from prfaas.doctor.network import addresses, is_here, reach
from prfaas.doctor.scope import Scope
from prfaas.doctor.support import ON_CPUS, judge_support

FULL_BYTES, LOW_BYTES = 64 << 20, 2 << 30
"""Free space: sockets, locks and metrics take some MiB; compiled kernels, a core dump or a log some GiB."""
FULL_FILES = 100
"""Free inodes; a disk can be full of small files."""
SPARE_FILES = 256
"""Of a gateway beyond connections: libraries, logs, the connections to movers."""
STATE = "gateway.state_file"
"""A use of a disk that a gateway starts without: what was said last is read, and only what is said next is written."""
BUSY_SHARE = 0.1
"""Of a GPU's memory, held by others: vLLM takes nine tenths by default."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is free on a disk; ``free_files`` is None where that is not counted."""

    free_bytes: int
    free_files: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, its memory in bytes, and its number on this machine."""

    name: str
    total_bytes: int
    used_bytes: int
    number: int = 0


def space_of(folder: str) -> Space:
    """What is free at a folder, for whoever is not root. Raises OSError."""
    status = os.statvfs(folder)
    return Space(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def gateway_folders(config: Config) -> dict[str, str]:
    """The folders that the gateway writes to, and what for."""
    state = config.gateway.state_file
    folders = {str(Path(state).absolute().parent): STATE} if state else {}
    if config.gateway.workers > 1:
        folders[tempfile.gettempdir()] = "metrics of gateway.workers"
    return folders


def engine_folders() -> dict[str, str]:
    """The folders that an engine writes to, and what for."""
    home = next(folder for folder in (Path.home(), *Path.home().parents) if folder.is_dir())  # it is made if need be
    return {
        str(home): "vLLM's compiled kernels, and models from the Hub",
        tempfile.gettempdir(): "sockets of engine and connector",
    }


def written_folders(scope: Scope) -> dict[str, str]:
    """Those of all servers that the site may have on this machine."""
    gateway = gateway_folders(scope.config) if scope.is_gateways else {}
    return {**gateway, **(engine_folders() if scope.own_engines else {})}


def check_disks(folders: Mapping[str, str], space: Callable[[str], Space] = space_of) -> Checked:
    """Free space where servers write."""
    findings: list[Finding] = []
    lines: list[str] = []
    for folder, use in folders.items():
        try:
            free = space(folder)
        except OSError as error:
            findings.append(finding("machine.disk", folder, f"cannot be used: {error.strerror}", f"mkdir -p {folder}"))
            continue
        findings += judge_disk(folder, use, free)
        lines.append(f"{folder}: {free.free_bytes / 1e9:.1f} GB free")
    return Checked(tuple(findings), tuple(lines))


def judge_disk(folder: str, use: str, free: Space) -> Iterator[Finding]:
    """Whether a disk is full, or nearly."""
    code, other = ("machine.state_disk", STATE) if use == STATE else ("machine.disk", "TMPDIR")
    way_out = f"du -xh {folder} | sort -h | tail shows what fills it; or {other} on another disk"
    if free.free_files is not None and free.free_files < FULL_FILES:
        yield finding(code, folder, f"room for {free.free_files} files more ({use})", way_out)
    elif free.free_bytes < FULL_BYTES:
        yield finding(code, folder, f"{free.free_bytes / 1e6:.0f} MB free ({use})", way_out)
    elif free.free_bytes < LOW_BYTES:
        yield finding("machine.disk_low", folder, f"{free.free_bytes / 1e6:.0f} MB free ({use})", way_out)


def check_files(scope: Scope, limit: int | None = None) -> Checked:
    """How many files the gateway may open, started by this user from here: it raises its limit as far as it may."""
    if not scope.is_gateways:
        return Checked()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    is_unbounded = hard == resource.RLIM_INFINITY
    findings = () if is_unbounded else tuple(judge_files(scope.config, hard))
    return Checked(findings, (f"open files: {'unlimited' if is_unbounded else f'{hard:,}'}",))


def judge_files(config: Config, limit: int) -> Iterator[Finding]:
    """Each running request has a client and up to two engines, each waiting one a client."""
    workers = config.gateway.workers
    waiting = sum(each.max_waiting for each in config.access.priorities)
    needed = -(-(3 * config.access.max_running + waiting) // workers) + SPARE_FILES
    if limit < needed:
        what = f"{limit:,} files may be open, and access.max_running with those that wait takes up to {needed:,}"
        way_out = f"ulimit -n {needed} before the start, LimitNOFILE={needed} in a unit, or nofile in compose"
        yield finding("machine.open_files", "gateway", what, way_out)


def wanted_gpus(engine: EngineConfig, is_gpu_build: bool) -> int:
    """How many an engine asks for: as configured, or one where vLLM's build for GPUs is installed."""
    return engine.gpus if engine.gpus is not None else int(is_gpu_build)


def has_gpu_build() -> bool:
    """Whether vLLM is installed here in its build for GPUs; the one without is another package, or says so in its
    version, by which vLLM itself knows it."""
    try:
        return "cpu" not in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return False


def read_gpus(nvml: Any) -> list[Gpu]:
    """Those that an engine started from here sees, by NVIDIA's management library; none without a driver."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        numbers = _seen(nvml.nvmlDeviceGetCount(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        return [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(number), number) for number in numbers]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def _seen(count: int, visible: str | None) -> list[int]:
    """The numbers in CUDA_VISIBLE_DEVICES; all where it is not set, or has names."""
    parts = [part.strip() for part in (visible or "").split(",")]
    if visible is None or any(part.startswith(("GPU-", "MIG-")) for part in parts):
        return list(range(count))
    return [number for number in range(count) if str(number) in parts]


def _gpu(nvml: Any, handle: Any, number: int) -> Gpu:
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    name = name.decode() if isinstance(name, bytes) else str(name)
    return Gpu(name, int(memory.total), int(memory.used), number)


def load_nvml() -> Any | None:
    """The library's module, None where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def judge_gpus(wanted: dict[str, int], gpus: list[Gpu] | None, *, is_running: bool) -> Iterator[Finding]:
    """Whether there are as many as the engines here ask for; None where they could not be looked at.

    With ``is_running`` an engine of this machine answers, and what is used may be its own.
    """
    asked = sum(wanted.values())
    where = ", ".join(f"engines.{name}" for name, count in wanted.items() if count)
    if not asked:
        return
    if gpus is None:
        yield finding("machine.gpu_library", where, "pynvml is not installed here", "pip install nvidia-ml-py")
        return
    if len(gpus) < asked:
        what = f"{asked} GPU{'s' if asked > 1 else ''} asked for, {len(gpus) or 'none'} here"
        yield finding("machine.gpu", where, what, ON_CPUS)
    for gpu in gpus:
        if not is_running and gpu.used_bytes > BUSY_SHARE * gpu.total_bytes:
            used = f"{gpu.used_bytes / 1e9:.1f} of {gpu.total_bytes / 1e9:.0f} GB are used"
            way_out = "nvidia-smi tells who; if that is no engine of yours, end it, or CUDA_VISIBLE_DEVICES"
            yield finding("machine.gpu_busy", where, f"GPU {gpu.number} ({gpu.name}): {used}", way_out)


async def check_gpus(scope: Scope, nvml: Any | None = None, is_gpu_build: bool | None = None) -> Checked:
    """The GPUs of this machine, against what the site's engines here ask for, and whether they may."""
    engines = scope.own_engines
    here = [name for name, engine in engines.items() if is_here(await addresses(engine.kv_address[0]))]
    is_gpu_build = has_gpu_build() if is_gpu_build is None else is_gpu_build
    unsupported = [each for name in here for each in judge_support(name, engines[name], is_gpu_build)]
    wanted = {name: wanted_gpus(engines[name], is_gpu_build) for name in here}
    if not any(wanted.values()):
        return Checked(tuple(unsupported), ("no engine here asks for one",))
    nvml = nvml or load_nvml()
    gpus = read_gpus(nvml) if nvml else None
    running = await asyncio.gather(*(reach(*engines[name].address) for name in here))
    findings = judge_gpus(wanted, gpus, is_running=any(not each.problem for each in running))
    lines = tuple(f"GPU {each.name}: {each.total_bytes / 1e9:.0f} GB" for each in gpus or ())
    return Checked((*unsupported, *findings), lines)
