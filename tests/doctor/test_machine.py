"""Disks, open files and GPUs, as a test has them."""

import os
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.doctor.machine import (
    FULL_BYTES,
    LOW_BYTES,
    Gpu,
    Space,
    check_disks,
    check_files,
    check_gpus,
    has_gpu_build,
    judge_disk,
    judge_files,
    judge_gpus,
    read_gpus,
    wanted_gpus,
    written_folders,
)
from prfaas.doctor.scope import Scope
from tests.doctor.stage import codes, site_tree, sites

GB = 1 << 30


def test_this_machines_disks_are_read() -> None:
    """What is told of a folder is what the file system says."""
    checked = check_disks(written_folders(Scope(sites(), "edge")))
    assert any("GB free" in line for line in checked.seen)


@pytest.mark.parametrize(
    ("space", "code"),
    [
        (Space(LOW_BYTES, None), ""),
        (Space(LOW_BYTES - 1, 10**6), "machine.disk_low"),
        (Space(FULL_BYTES - 1, 10**6), "machine.disk"),
        (Space(0, 0), "machine.disk"),
        (Space(500 * GB, 3), "machine.disk"),
    ],
)
def test_a_disk_is_full_of_bytes_or_of_files(space: Space, code: str) -> None:
    """Both ways to be full, and the warning before."""
    assert codes(judge_disk("/tmp", "sockets", space)) == ([code] if code else [])


def test_a_full_disk_beneath_the_state_is_a_problem_of_its_own() -> None:
    """Nothing can be drained, and the gateway goes on: by bytes, and by files."""
    for space in (Space(FULL_BYTES - 1, None), Space(500 * GB, 3)):
        assert codes(judge_disk("/state", "gateway.state_file", space)) == ["machine.state_disk"]


def test_a_folder_that_is_gone_is_found(tmp_path: Path) -> None:
    """The folder of the gateway's state is looked at, too, on the gateway's site alone."""
    tree = site_tree()
    tree["gateway"]["state_file"] = str(tmp_path / "no" / "state.json")
    config = parse_config(tree)
    [one] = check_disks(written_folders(Scope(config, "edge"))).findings
    assert (one.code, one.where) == ("machine.disk", str(tmp_path / "no"))
    assert str(tmp_path / "no") not in written_folders(Scope(config, "cloud"))


def test_a_really_full_disk_is_found(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of one MiB, as TMPDIR: the real call says so."""
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    findings = check_disks(written_folders(Scope(sites(), "edge"))).findings
    assert [each.code for each in findings if each.where == str(small_disk)] == ["machine.disk"]


@pytest.fixture
def small_disk() -> Path:
    """Some file system without room; most machines with containers have one."""
    for line in Path("/proc/mounts").read_text().splitlines():
        path = Path(line.split()[1])
        try:
            status = os.statvfs(path)
        except OSError:
            continue
        if path.is_dir() and status.f_blocks > 0 and status.f_bavail * status.f_frsize < FULL_BYTES:
            return path
    pytest.skip("no file system here is small or full")


def test_enough_open_files_are_fine_and_too_few_are_found() -> None:
    """Three connections for each of 100 running requests, one for each of 50 that wait, and 256 to spare: 606."""
    tree = site_tree()
    tree["access"] = {"max_running": 100, "priorities": [{"name": "normal", "max_waiting": 50}]}
    config = parse_config(tree)
    assert codes(judge_files(config, 606)) == []
    [one] = judge_files(config, 605)
    assert one.code == "machine.open_files"
    assert "ulimit -n 606" in one.way_out


def test_files_are_the_gateways_matter() -> None:
    """Another site's engines raise their limit themselves."""
    assert codes(check_files(Scope(sites(), "edge"), limit=10)) == ["machine.open_files"]
    assert check_files(Scope(sites(), "cloud"), limit=10).findings == ()
    assert check_files(Scope(sites(), "edge")).seen[0].startswith("open files: ")


class FakeNvml:
    """pynvml, with GPUs of a test."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: Gpu, has_driver: bool = True) -> None:
        self._gpus, self._has_driver = gpus, has_driver
        self.is_open = False

    def nvmlInit(self) -> None:
        if not self._has_driver:
            raise self.NVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        return self._gpus[index]

    def nvmlDeviceGetName(self, gpu: Gpu) -> bytes:
        return gpu.name.encode()

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu) -> Any:
        return SimpleNamespace(total=gpu.total_bytes, used=gpu.used_bytes)


FREE, BUSY = Gpu("H100", 80 * GB, GB), Gpu("H100", 80 * GB, 40 * GB)


def test_gpus_are_read_and_the_library_is_closed() -> None:
    """Names come as bytes or text; without a driver there are none."""
    nvml = FakeNvml(FREE, BUSY)
    assert read_gpus(nvml) == [FREE, replace(BUSY, number=1)]
    assert not nvml.is_open
    assert read_gpus(FakeNvml(has_driver=False)) == []


@pytest.mark.parametrize(
    ("visible", "numbers"), [("1", [1]), ("0,1", [0, 1]), (" 1 , 7", [1]), ("", []), ("-1", []), ("GPU-5a1b", [0, 1])]
)
def test_gpus_that_an_engine_does_not_see_are_left_out(
    monkeypatch: pytest.MonkeyPatch, visible: str, numbers: list[int]
) -> None:
    """Another engine of this machine has the others; they keep their numbers."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.number for gpu in read_gpus(FakeNvml(FREE, BUSY))] == numbers
    [one] = judge_gpus({"edge-0": 1}, [replace(BUSY, number=3)], is_running=False)
    assert one.what.startswith("GPU 3 (H100): ")
    assert "if that is no engine of yours" in one.way_out


def with_gpus(count: int | None) -> Config:
    tree = site_tree(gpus=count)
    return parse_config(tree)


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        ([FREE], []),
        ([FREE, FREE], []),
        ([], ["machine.gpu"]),
        ([BUSY], ["machine.gpu_busy"]),
        (None, ["machine.gpu_library"]),
    ],
)
def test_one_gpu_is_asked_for(gpus: list[Gpu] | None, found: list[str]) -> None:
    """There, not there, held by others, and not looked at."""
    assert codes(judge_gpus({"edge-0": 1}, gpus, is_running=False)) == found


def test_none_is_asked_for_and_an_engine_that_runs_uses_its_own() -> None:
    """Neither is a finding."""
    assert codes(judge_gpus({"edge-0": 0}, None, is_running=False)) == []
    assert codes(judge_gpus({"edge-0": 1}, [BUSY], is_running=True)) == []


async def test_gpus_are_looked_at_for_engines_of_this_machine() -> None:
    """One is asked for by the configuration, by the build of vLLM, or not at all; engines elsewhere do not count."""

    def check(config: Config, nvml: FakeNvml, *, is_gpu_build: bool = False) -> Any:
        return check_gpus(Scope(config, "edge"), nvml, is_gpu_build)

    nobody, one = FakeNvml(has_driver=False), FakeNvml(FREE)
    assert codes(await check(with_gpus(1), nobody)) == ["engines.unsupported", "machine.gpu"]
    assert codes(await check(with_gpus(2), one)) == ["engines.unsupported", "machine.gpu"]
    assert codes(await check(with_gpus(1), one)) == ["engines.unsupported"]
    assert codes(await check(with_gpus(None), nobody)) == []
    assert codes(await check(with_gpus(None), nobody, is_gpu_build=True)) == ["engines.unsupported", "machine.gpu"]
    assert codes(await check(with_gpus(0), nobody, is_gpu_build=True)) == ["engines.unsupported"]
    tree = site_tree(gpus=1)
    tree["engines"]["edge-0"] |= {"url": "http://192.0.2.1:8000", "kv": "192.0.2.1:7000"}
    assert codes(await check(parse_config(tree), nobody)) == []


@pytest.mark.parametrize(
    ("versions", "is_gpu_build"), [({}, False), ({"vllm": "0.32.0"}, True), ({"vllm": "0.32.0+cpu"}, False)]
)
def test_which_build_of_vllm_is_installed(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], is_gpu_build: bool
) -> None:
    """The one for CPUs has another name, or says so in its version."""

    def version(package: str) -> str:
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr("importlib.metadata.version", version)
    assert has_gpu_build() is is_gpu_build


@pytest.mark.parametrize(
    ("gpus", "is_gpu_build", "count"), [(None, True, 1), (None, False, 0), (3, False, 3), (0, True, 0)]
)
def test_how_many_an_engine_wants(gpus: int | None, is_gpu_build: bool, count: int) -> None:
    """What is configured holds."""
    assert wanted_gpus(with_gpus(gpus).engines["edge-0"], is_gpu_build) == count
