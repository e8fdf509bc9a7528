"""The mover's side of its engine: one worker (given) and the schedulers (which connect)."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable

from prfaas.transport.channel import MoverChannel
from prfaas.transport.guard import guarded
from prfaas.transport.messages import FromEngine, Ready, ToScheduler, ToWorker

MAX_SCHEDULERS = 8
"""An engine has one scheduler; a few more for its restarts and for tests."""

log = logging.getLogger(__name__)


class EnginePort:
    """Reads the engine's messages and sends it the mover's.

    Args:
        worker: the connected socket of the worker.
        path: where schedulers connect; the directory must be private.
        receive: called with each message, in order per socket.
        worker_gone: called once when the worker's socket ends: the mover then has no purpose.
    """

    def __init__(
        self, worker: socket.socket, path: str, receive: Callable[[FromEngine], None], worker_gone: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._worker_gone = worker_gone
        self._path = path
        self._worker = MoverChannel(worker)
        self._schedulers: list[MoverChannel] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._ready = Ready("")

    def open(self, ready: Ready) -> None:
        """Start to read and listen; everyone's first message is ``ready``."""
        self._ready = ready
        self._listener.bind(self._path)
        self._listener.listen(MAX_SCHEDULERS)
        self._loop.add_reader(self._listener, self._accept)
        self._loop.add_reader(self._worker.fileno(), self._read, self._worker, self._worker.fileno())
        self._send(self._worker, ready)

    def to_worker(self, message: ToWorker) -> None:
        """Send to the worker."""
        self._send(self._worker, message)

    def to_schedulers(self, message: ToScheduler) -> None:
        """Send to whoever is connected; dropped when nobody is, for nobody opened a transfer then."""
        for scheduler in list(self._schedulers):
            self._send(scheduler, message)

    def close(self) -> None:
        """Close all sockets (idempotent)."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for channel in (self._worker, *self._schedulers):
            self._forget(channel, channel.fileno())
        with contextlib.suppress(OSError):  # the parent may have removed them, or still use the directory
            os.unlink(self._path)
            os.rmdir(os.path.dirname(self._path))

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        if len(self._schedulers) >= MAX_SCHEDULERS:
            log.error("refused a scheduler: %d are connected already", MAX_SCHEDULERS)
            sock.close()
            return
        channel = MoverChannel(sock)
        self._schedulers.append(channel)
        self._loop.add_reader(channel.fileno(), self._read, channel, channel.fileno())
        self._send(channel, self._ready)

    def _read(self, channel: MoverChannel, fd: int) -> None:
        messages = channel.poll()
        if not channel.is_open:
            # Before anything else can open a descriptor with the same number.
            self._forget(channel, fd)
        for message in messages:
            with guarded(f"a {type(message).__name__} of the engine"):
                self._receive(message)

    def _send(self, channel: MoverChannel, message: ToWorker) -> None:
        fd = channel.fileno()
        channel.send(message)
        self._watch(channel, fd)

    def _flush(self, channel: MoverChannel, fd: int) -> None:
        channel.flush()
        self._watch(channel, fd)

    def _watch(self, channel: MoverChannel, fd: int) -> None:
        """Wait for the socket to take more exactly as long as messages are queued."""
        if not channel.is_open:
            self._forget(channel, fd)
        elif channel.has_queued:
            self._loop.add_writer(fd, self._flush, channel, fd)
        else:
            self._loop.remove_writer(fd)

    def _forget(self, channel: MoverChannel, fd: int) -> None:
        if fd >= 0:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        channel.close()
        if channel in self._schedulers:
            self._schedulers.remove(channel)
        elif channel is self._worker and fd >= 0:
            self._worker_gone()
