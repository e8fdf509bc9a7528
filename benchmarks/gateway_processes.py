"""Processes of the gateway's benchmark: started until they answer, their processor time counted, and ended for sure."""

import contextlib
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.gateways import Server
from benchmarks.report import ROOT

START_TIMEOUT_S = 60
_TICKS_S = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(server: Server, port: int, log: Path) -> Iterator[int]:
    """Run a server; yields the id of its process once it answers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **server.environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command, stdout=output, stderr=output, env=environment, start_new_session=True, cwd=log.parent
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}{server.ready_path}", log)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def tree(pid: int) -> list[int]:
    """A process and all its descendants that still run."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Processor time of a process and its descendants so far, in user and kernel, in hundredths of a second."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_S


def pin(pid: int, cpus: set[int]) -> None:
    """Let a process, its descendants and all their threads run on these processors only."""
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                os.sched_setaffinity(int(task), cpus)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # it is loading; no event of another process tells when it listens
    raise RuntimeError(f"no answer at {url}: {log.read_text(errors='replace')[-500:]}")
