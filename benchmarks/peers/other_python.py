"""Peers that live in a Python environment of their own: two processes, steered over their standard input."""

import os
import signal
import subprocess
import threading
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[2] / ".venv-peers" / "bin" / "python"
NEEDS = {"nixl": "", "mooncake": ", and apt-get install libibverbs1 librdmacm1 libnuma1"}
"""Beyond Python packages."""
ENVIRONMENT = {"UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}
PATIENCE_S = 120.0


def missing(name: str) -> str:
    """Why a peer cannot run; empty when it can."""
    module = {"nixl": "nixl._api", "mooncake": "mooncake.engine"}[name]
    if PYTHON.exists():
        result = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return ""
        why = result.stderr.strip().rpartition("\n")[2]
    else:
        why = "there is no .venv-peers"
    return f"{name} is not installed ({why}): make peers{NEEDS[name]}"


class Writer:
    """A target process and a process that writes into its memory. They are stopped between their measurements: NIXL's
    progress threads spin, and on two cores would halve what everybody else is measured at."""

    def __init__(self, name: str, size_bytes: int) -> None:
        script = str(Path(__file__).with_name(f"{name}_write.py"))
        self._target, self._writer = (_start(script, role, size_bytes) for role in ("target", "write"))
        self._tell(_line(self._target, "PEER"))
        _line(self._writer, "READY")
        self._signal(signal.SIGSTOP)

    def measure(self, chunk_bytes: int) -> float:
        """Write everything once, in chunks of so many bytes where the peer has chunks; return the seconds."""
        self._signal(signal.SIGCONT)
        try:
            self._tell(f"{chunk_bytes}\n")
            return float(_line(self._writer, "SECONDS").split()[1])
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        for process in (self._writer, self._target):
            process.kill()
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process in (self._target, self._writer):
            process.send_signal(number)

    def _tell(self, line: str) -> None:
        assert self._writer.stdin is not None
        self._writer.stdin.write(line)
        self._writer.stdin.flush()


def _start(script: str, role: str, size_bytes: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PYTHON, script, role, str(size_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def _line(process: "subprocess.Popen[str]", key: str) -> str:
    """The next line that begins with ``key``, past log lines; the process is killed when none comes."""
    assert process.stdout is not None
    watch = threading.Timer(PATIENCE_S, process.kill)
    watch.start()
    try:
        for line in process.stdout:
            if line.startswith(key):
                return line
    finally:
        watch.cancel()
    raise RuntimeError("a process of the peer ended or hung")
