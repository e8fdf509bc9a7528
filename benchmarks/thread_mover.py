"""The mover as threads of the worker, to be measured against the mover process; nothing else ever runs it."""

import asyncio
import os
import shutil
import socket
import tempfile
import threading

from benchmarks.step_times import Timed
from prfaas.engine import worker_side
from prfaas.engine.connector import PrfaasConnector
from prfaas.transport.channel import EngineChannel
from prfaas.transport.mover import Mover
from prfaas.transport.process import MoverProcess
from prfaas.transport.settings import MoverConfig, MoverLaunch
from prfaas.transport.staging import Staging


class MoverThread:
    """``MoverProcess``, with a loop in a thread of this process in place of a child; the messages stay the same."""

    def __init__(self, config: MoverConfig) -> None:
        self._directory = tempfile.mkdtemp(prefix="prfaas-")
        self.socket_path = os.path.join(self._directory, "mover.sock")
        self.staging = Staging.create(
            slot_bytes=config.slot_bytes, send_slots=config.send_slots, receive_slots=config.receive_slots
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = EngineChannel(ours)
        launch = MoverLaunch(config, theirs.detach(), os.dup(self.staging.fd), self.socket_path, os.getpid())
        threading.Thread(target=self._run, args=(launch,), daemon=True).start()
        # What the worker waits for here is the same message as from a process.
        self._is_closed, self.listen = False, ""
        MoverProcess._await_ready(self)  # type: ignore[arg-type]  # has what is used there

    @classmethod
    def spawn(cls, config: MoverConfig) -> "MoverThread":
        return cls(config)

    def close(self) -> None:
        self.channel.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @staticmethod
    def _run(launch: MoverLaunch) -> None:
        # The worker's thread is bound to the engine's core, and its threads inherit that.
        os.sched_setaffinity(0, launch.config.cpus or range(os.cpu_count() or 1))

        async def serve() -> None:
            await Mover(launch).run()

        asyncio.run(serve())


setattr(worker_side, "MoverProcess", MoverThread)  # noqa: B010 - the one line that makes the difference


class TimedPrfaasConnector(Timed, PrfaasConnector):
    """Ours, with threads."""
