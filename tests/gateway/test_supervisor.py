"""When workers are started again, with small programs in their place."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prfaas.clock import Clock, ManualClock
from prfaas.gateway import workers
from prfaas.gateway.workers import Workers
from tests.gateway.fakes import eventually


class LongRuns(ManualClock):
    """Between two looks at it a worker has run steadily."""

    def now_s(self) -> float:
        self.advance(workers.STEADY_S)
        return super().now_s()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def running(program: str, listener: socket.socket, folder: Path, clock: Clock | None = None) -> Workers:
    return Workers([sys.executable, "-c", program], listener, str(folder), patience_s=600, clock=clock)


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """What has been logged of them."""
    return [float(pause) for pause in re.findall(r"started again in ([\d.e-]+) s", caplog.text)]


@pytest.mark.parametrize(
    ("clock", "told"),
    [(ManualClock(), [0.01, 0.02, 0.04, 0.04]), (LongRuns(), [0.01, 0.01, 0.01, 0.01])],
    ids=["soon", "late"],
)
async def test_pause_grows_while_workers_end_soon(
    clock: Clock,
    told: list[float],
    listener: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Up to a bound it doubles with each early end; after a long run it begins anew."""
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(workers, "MAX_PAUSE_S", 0.04)
    gateway = running("raise SystemExit(1)", listener, tmp_path, clock)
    serving = asyncio.create_task(gateway.run(1))
    await eventually(lambda: len(pauses(caplog)) >= 4)
    gateway.stop()
    assert await serving == 0
    assert pauses(caplog)[:4] == told


async def test_worker_that_cannot_be_started_is_tried_again(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine without room for another process keeps those that run, and gets the missing one later."""
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.01)
    start, failures = asyncio.create_subprocess_exec, [None, OSError(11, "no room"), OSError(12, "none")]
    started: list[asyncio.subprocess.Process] = []

    async def start_or_fail(*argv: str, **settings: Any) -> asyncio.subprocess.Process:
        if failures and (failure := failures.pop(0)):
            raise failure
        started.append(await start(*argv, **settings))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_or_fail)
    gateway = running("import time; time.sleep(600)", listener, tmp_path, ManualClock())
    serving = asyncio.create_task(gateway.run(2))
    await eventually(lambda: len(started) == 2)
    assert pauses(caplog) == [0.01, 0.02]
    assert "could not be started ([Errno 11] no room)" in caplog.text
    assert [each.returncode for each in started] == [None, None]
    gateway.stop()
    assert await asyncio.wait_for(serving, 10) == 0


async def test_refused_configuration_is_not_tried_again(
    listener: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The exit code is the worker's, and the other workers are asked to stop."""
    program = f"""
import pathlib, sys, time
first = pathlib.Path({str(tmp_path / "first")!r})
try:
    first.touch(exist_ok=False)
except FileExistsError:
    time.sleep(600)
sys.exit(2)
"""
    assert await running(program, listener, tmp_path).run(2) == 2
    assert pauses(caplog) == []


@pytest.mark.parametrize("first", ["sys.exit(1)", "time.sleep(600)"], ids=["after a crash", "by a reload"])
async def test_file_that_is_wrong_for_a_while_ends_nothing(
    first: str,
    listener: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once a worker has run or a reload was asked for, a refusal is a matter of time, however short all of them ran."""
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.01)
    program = f"""
import pathlib, signal, sys, time
folder = pathlib.Path({str(tmp_path)!r})
run = sum(1 for _ in folder.glob("run*"))
signal.signal(signal.SIGHUP, lambda *_: sys.exit(2))
(folder / f"run{{run}}").touch()
if run == 0:
    {first}
if run == 1:
    sys.exit(2)
time.sleep(600)
"""
    gateway = running(program, listener, tmp_path, ManualClock())
    serving = asyncio.create_task(gateway.run(1))
    await eventually((tmp_path / "run0").exists)
    if "sleep" in first:
        os.kill(os.getpid(), signal.SIGHUP)
    await eventually((tmp_path / "run2").exists)
    gateway.stop()
    assert await asyncio.wait_for(serving, 200) == 0
    assert len(pauses(caplog)) == 2


async def test_second_stop_does_not_wait(listener: socket.socket, tmp_path: Path) -> None:
    """A worker that ignores the first is killed by the second."""
    program = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(tmp_path / "ready")!r}).touch()
time.sleep(600)
"""
    gateway = running(program, listener, tmp_path)
    serving = asyncio.create_task(gateway.run(1))
    await eventually((tmp_path / "ready").exists)
    gateway.stop()
    await asyncio.sleep(0)
    assert not serving.done()
    gateway.stop()
    assert await asyncio.wait_for(serving, 200) == 0
