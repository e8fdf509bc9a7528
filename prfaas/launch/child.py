"""One child process with everything it starts, from the fork to the last member of its process group.

The child is a leash (see ``leash``) with the program below it. It leads its own session, so that Ctrl-C in a terminal
reaches only us and a signal to the group reaches the processes that the program starts in turn (vLLM: engine core,
workers, movers). Its exit is seen through a pidfd and it is reaped only after the group has been killed: until then its
id, which is also the group's, cannot be given to another process.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from prfaas.errors import PrfaasError
from prfaas.launch import leash
from prfaas.launch.engine_command import Command

GRACE_S = 10.0
"""Between SIGTERM and SIGKILL when this process dies; an idle vLLM needs 2-5 s to end."""
REAP_S = 5.0
"""Bound for the kernel to end a killed process; freeing tens of gigabytes takes it about a second."""
TAIL_BYTES = 262_144
"""Read from the end of a log to explain a failure: all of a failed start, whatever the log had grown to before."""
TAIL_LINES = 6
ERROR_LINE = re.compile(r"^(?!.*\b(?:WARNING|INFO|DEBUG)\b).*\b\w*(?:Error|Exception)\b: ")
"""Names an exception that is not only mentioned: vLLM's advice about file limits quotes an OSError in each start."""


class ProcessFailed(PrfaasError):
    """A process that died, or was not ready in time; the message has its name, the reason and its log."""


class Child:
    """A running child. Its owner has to ``stop`` or ``kill`` it, also when it has exited by itself."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        """Use ``start``. Must run in an event loop's thread."""
        loop = asyncio.get_running_loop()
        self.name = name
        self.log = log
        self._popen = popen
        self._exited: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    def start(cls, name: str, command: Command, log: Path, grace_s: float = GRACE_S) -> "Child":
        """Start a program whose output goes to ``log`` (replaced); ``grace_s`` is its time to end when we die.

        Never awaits, so that a cancellation cannot come between the fork and the owner's knowledge of it. Call it from
        the main thread: the kernel takes the end of the calling thread for the end of the parent.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(grace_s), *command.argv]
        with log.open("wb") as output:
            popen = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.env},
                start_new_session=True,
            )
        return cls(name, popen, log)

    @property
    def pid(self) -> int:
        """Id of the leash, and of the process group."""
        return self._popen.pid

    async def wait(self) -> int:
        """Wait for the exit; the code is negative for a signal, as in ``subprocess``."""
        return await asyncio.shield(self._exited)

    def failure(self, reason: str) -> ProcessFailed:
        """An error that says what happened to this process and what it said last."""
        return ProcessFailed(f"{self.name} {reason}; its log is {self.log}{last_lines(self.log)}")

    async def stop(self, grace_s: float) -> None:
        """Ask the group to end, wait up to ``grace_s`` for the child, then kill what is left of the group.

        Cancelling shortens the wait; nothing is left in either case. Idempotent.
        """
        try:
            self._signal_group(signal.SIGTERM)
            await asyncio.wait((self._exited,), timeout=grace_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the group and reap the child. Idempotent; blocks for the moment that the kernel needs (``REAP_S``)."""
        if self._popen.returncode is not None:
            return
        self._signal_group(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver: the kernel ends it when it can
            code = self._popen.wait(timeout=REAP_S)
            self._stop_watching()
            if not self._exited.done():
                self._exited.set_result(code)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _on_exit(self) -> None:
        self._stop_watching()
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if status is not None and not self._exited.done():
            self._exited.set_result(status.si_status if status.si_code == os.CLD_EXITED else -status.si_status)

    def _stop_watching(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def last_lines(log: Path) -> str:
    """The first error and the last lines of a log, indented, after a newline; empty when there are none.

    The first, because what comes after it is often only the alarm of other processes at the death of one.
    """
    with contextlib.suppress(FileNotFoundError), log.open("rb") as source:
        source.seek(max(0, source.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = source.read().decode(errors="replace").rstrip().splitlines()
        cause = next((number for number, line in enumerate(lines) if ERROR_LINE.match(line)), len(lines))
        shown = [*lines[cause : cause + 1], "..."] if cause < len(lines) - TAIL_LINES else []
        return "".join(f"\n    {line}" for line in (*shown, *lines[-TAIL_LINES:]))
    return ""
