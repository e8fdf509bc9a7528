"""Shared by the launch tests: stub services, recorded progress, and finding processes that were left behind."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prfaas.launch.engine_command import Command
from prfaas.launch.stack import Service

STUB = Path(__file__).parent / "stub_server.py"


class PrintedProgress:
    """Progress as lines on stdout, and as a list."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def update(self, part: str, state: str, *, done: bool = False) -> None:
        self.events.append((part, state))
        print(f"{part}: {state}", flush=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        yield


def stub_command(*options: str) -> Command:
    return Command((sys.executable, str(STUB), *options))


def stub_service(name: str, port: int, *options: str, start_timeout_s: float = 60) -> Service:
    """A service whose warm-up request the stub answers."""
    url = f"http://127.0.0.1:{port}"
    return Service(
        name,
        stub_command("--port", str(port), *options),
        health_url=f"{url}/health",
        warm_up=(f"{url}/v1/completions", {"prompt": "hello"}),
        start_timeout_s=start_timeout_s,
    )


def processes_with(variable: str, value: str) -> set[int]:
    """Ids of all live processes (zombies apart) whose environment at their start had ``variable=value``."""
    needle = f"{variable}={value}".encode()
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if needle in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended meanwhile, or not ours
    return found


def await_end(pids: set[int], timeout_s: float = 60) -> None:
    """Wait until processes that have been killed are gone: the kernel takes a moment for each."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([pidfd], [], [], timeout_s)[0], f"process {pid} is still there"
        finally:
            os.close(pidfd)
