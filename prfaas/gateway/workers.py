"""Several processes that serve on one socket, and ask each other what an operator wants to know of all.

The supervisor opens the socket and starts the workers, each in a session of its own, so that a signal of the terminal
reaches the supervisor alone. Connections go to whichever worker is free first; while one is down, the others take all.

    a worker ends                -> it is started again, after a pause that doubles while it ends soon
    one cannot be started        -> the same
    one refuses its config       -> at the start all stop, the exit code is the worker's; later as any other end
    SIGINT or SIGTERM            -> all stop gracefully; the second one kills them
    SIGHUP                       -> all read the configuration again
    the supervisor dies          -> every worker sees its end of a pipe closed and stops gracefully
"""

import asyncio
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from prometheus_client.multiprocess import mark_process_dead

from prfaas.clock import Clock, MonotonicClock
from prfaas.config import Config
from prfaas.gateway.listener import listen
from prfaas.gateway.other_workers import forget

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client learns where the workers' values are."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
"""A single crash is mended at once; a worker that cannot run does not take the machine from the others."""
STEADY_S = 60.0
"""A worker that ran so long has not failed at its start: the pause begins anew."""
STOP_SLACK_S = 10.0
"""Beyond the grace that requests have; the last words to clients and engines take less."""
CONFIG_EXIT = 2
"""The command line's exit code for a configuration that cannot be used: a new start would not help."""

log = logging.getLogger(__name__)
Sleep = Callable[[float], Awaitable[None]]


def supervise(config: Config, argv: Sequence[str]) -> int:
    """Serve with ``gateway.workers`` processes until a signal; returns the exit code.

    ``argv`` starts one; ``--worker LISTENER,PIPE`` is added, the descriptors that it inherits. Raises ConfigError.
    """
    with listen(config) as listener, tempfile.TemporaryDirectory(prefix="prfaas-metrics-") as folder:
        workers = Workers(argv, listener, folder, config.gateway.shutdown_grace_s + STOP_SLACK_S)
        return asyncio.run(workers.run(config.gateway.workers))


class Workers:
    """The worker processes of one gateway; owns them until ``run`` returns."""

    def __init__(
        self,
        argv: Sequence[str],
        listener: socket.socket,
        metrics_folder: str,
        patience_s: float,
        clock: Clock | None = None,
    ) -> None:
        """``patience_s``: how long workers that have been asked to stop may take."""
        self._argv = argv
        self._listener = listener
        self._metrics_folder = metrics_folder
        self._patience_s = patience_s
        self._clock = clock or MonotonicClock()
        self._running: set[asyncio.subprocess.Process] = set()
        self._stop = asyncio.Event()
        self._exit_code = 0
        # A file that is edited for a reload may be wrong for a while: no reason to end the workers that go on. It ends
        # the gateway only before the first reload, and before any worker has ended otherwise.
        self._is_at_start = True

    async def run(self, count: int) -> int:
        """Keep ``count`` workers until a signal, or until one refuses its configuration. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        theirs, ours = os.pipe()
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(count):
                    group.create_task(self._keep(index, theirs))
                group.create_task(self._end_after_stop())
        finally:
            os.close(theirs)
            os.close(ours)
        return self._exit_code

    def stop(self) -> None:
        """Stop gracefully; when called again, at once."""
        if self._stop.is_set():
            self._send(signal.SIGKILL)
        self._stop.set()

    def _hang_up(self) -> None:
        self._is_at_start = False
        self._send(signal.SIGHUP)

    async def _keep(self, index: int, pipe: int) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            started_s = self._clock.now_s()
            code: int | None = None
            try:
                code = await self._run_one(pipe)
                end = f"ended with {code}"
            except OSError as error:  # no memory or no process is left for it: the others go on
                end = f"could not be started ({error})"
            if self._stop.is_set():
                return
            if code == CONFIG_EXIT and self._is_at_start:
                self._exit_code = code
                self._stop.set()
                return
            self._is_at_start = False
            if self._clock.now_s() - started_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error("worker %d %s and is started again in %g s", index, end, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _run_one(self, pipe: int) -> int:
        """One worker, from its start to its end."""
        fds = (self._listener.fileno(), pipe)
        env: Mapping[str, str] = {**os.environ, METRICS_FOLDER: self._metrics_folder}
        argv = (*self._argv, "--worker", ",".join(map(str, fds)))
        process = await asyncio.create_subprocess_exec(*argv, pass_fds=fds, env=env, start_new_session=True)
        self._running.add(process)
        if self._stop.is_set():
            process.terminate()  # the signal came while it was being started
        try:
            return await process.wait()
        finally:
            self._running.discard(process)
            forget(self._metrics_folder, process.pid)
            mark_process_dead(process.pid, self._metrics_folder)  # type: ignore[no-untyped-call]  # has no types

    async def _end_after_stop(self) -> None:
        """Ask all to stop when it is time, and kill those that do not."""
        await self._stop.wait()
        self._listener.close()  # the last one that closes it has new clients refused instead of waiting
        self._send(signal.SIGTERM)
        if ends := [asyncio.create_task(each.wait()) for each in self._running]:
            await asyncio.wait(ends, timeout=self._patience_s)
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(number)
