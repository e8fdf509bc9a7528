"""The mover as its worker sees it: a child process, a channel to it and the staging memory they share."""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

import prfaas
from prfaas.errors import EngineUnavailable
from prfaas.transport.channel import EngineChannel
from prfaas.transport.messages import Ready
from prfaas.transport.settings import MoverConfig, MoverLaunch
from prfaas.transport.staging import Staging

START_TIMEOUT_S = 60.0
"""It takes half a second on an idle processor; one that others load models on, with a cold disk, is far slower."""
STOP_TIMEOUT_S = 3.0
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
"""glibc would map messages of gRPC and TLS anew each time: half of the mover's time in the kernel, measured."""

__all__ = ["MoverConfig", "MoverProcess"]


class MoverProcess:
    """Owns the child process, the worker's channel, the staging memory and the socket's directory.

    Attributes:
        staging: shared memory; the mover has it mapped, too.
        channel: the worker's channel; its ``Ready`` has been consumed.
        socket_path: where the scheduler connects (``EngineChannel.connect``).
        listen: "host:port" that decode engines dial, "" when the mover does not listen.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], staging: Staging, channel: EngineChannel, directory: str
    ) -> None:
        self.staging = staging
        self.channel = channel
        self.socket_path = _socket_path(directory)
        self.listen = ""
        self._process = process
        self._directory = directory
        self._is_closed = False

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @classmethod
    def spawn(cls, config: MoverConfig) -> "MoverProcess":
        """Start a mover and wait until it is ready. The calling thread must live as long as the mover is wanted: the
        kernel ends the mover with it.

        Raises:
            EngineUnavailable: it did not become ready; its own log lines on stderr say why.
        """
        with contextlib.ExitStack() as undo:
            directory = tempfile.mkdtemp(prefix="prfaas-")
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            staging = Staging.create(
                slot_bytes=config.slot_bytes, send_slots=config.send_slots, receive_slots=config.receive_slots
            )
            undo.callback(staging.close)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            channel = EngineChannel(ours)
            undo.callback(channel.close)
            with theirs:
                launch = MoverLaunch(config, theirs.fileno(), staging.fd, _socket_path(directory), os.getpid())
                process = _start(theirs.fileno(), staging.fd)
            mover = cls(process, staging, channel, directory)
            undo.callback(mover.close)
            mover._hand_over(launch)
            mover._await_ready()
            undo.pop_all()
        return mover

    def close(self) -> None:
        """Stop the mover and free everything (idempotent); takes at most about two ``STOP_TIMEOUT_S``."""
        if self._is_closed:
            return
        self._is_closed = True
        self.channel.close()
        for nudge in (self._process.terminate, self._process.kill, self._process.kill):
            try:
                self._process.wait(STOP_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                nudge()
        self.staging.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _hand_over(self, launch: MoverLaunch) -> None:
        if self._process.stdin is None:
            raise EngineUnavailable("the mover process has no standard input to take its settings from")
        try:
            with self._process.stdin as stdin:
                stdin.write(msgspec.json.encode(launch))
        except BrokenPipeError:
            raise EngineUnavailable("the mover process ended at once, see its messages above") from None

    def _await_ready(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not self.channel.is_open:
                raise EngineUnavailable("the mover process ended before it was ready; its last log line says why")
            select.select([self.channel], [], [], left_s)
            for message in self.channel.poll():
                if isinstance(message, Ready):
                    self.listen = message.listen
                    return
        raise EngineUnavailable(f"the mover process was not ready within {START_TIMEOUT_S:g} s")


def _start(worker_fd: int, staging_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "prfaas.transport.mover"],
        stdin=subprocess.PIPE,
        pass_fds=(worker_fd, staging_fd),
        env=_environment(),
    )


def _socket_path(directory: str) -> str:
    return os.path.join(directory, "mover.sock")


def _environment() -> dict[str, str]:
    """Ours, so that the child finds the very package that this process runs."""
    package_root = str(Path(prfaas.__file__).resolve().parents[1])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **ALLOCATOR, "PYTHONPATH": os.pathsep.join(paths)}
