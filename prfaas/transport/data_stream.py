"""The seam that frames pass on their way: bytes in one connection, whatever carries them. Nothing here ever waits."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

Callback = Callable[[], None]

MAX_AWAITED_BYTES = 256 << 10
"""A quarter of the receive buffer on the shortest paths: the peer need not stop while we wait for so much."""


class DataStream(Protocol):
    """One data connection. Both methods that move bytes raise BlockingIOError when they would have to wait and OSError
    when the connection is broken; what is lent to them is theirs only during the call.

    Attributes:
        socket: the TCP socket beneath, for its figures alone; None when there is none of its own.
    """

    @property
    def socket(self) -> socket.socket | None: ...

    def on_readable(self, callback: Callback) -> None:
        """Call back, from the loop, again and again as long as there is something to read (the end included)."""
        ...

    def await_bytes(self, size: int) -> None:
        """There is nothing to do with fewer bytes than so many: no need to call back for them."""
        ...

    def on_writable(self, callback: Callback | None) -> None:
        """Call back, from the loop, again and again as long as bytes can be written; None ends it."""
        ...

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """Fill buffers in order with what is there; 0 at the end of the stream."""
        ...

    def write(self, buffers: Sequence[memoryview]) -> int:
        """Write from the front as much as is taken. After BlockingIOError call again with the same bytes in front."""
        ...

    def close(self) -> None:
        """Close the connection and end all callbacks (idempotent)."""
        ...


class SocketStream:
    """A plain TCP connection: the kernel copies between slots and its buffers, nobody else does."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._awaited = 1
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._on_writable: Callback | None = None

    def on_readable(self, callback: Callback) -> None:
        """See ``DataStream``."""
        self._loop.add_reader(self.socket, callback)

    def await_bytes(self, size: int) -> None:
        """See ``DataStream``; the end of the stream calls back all the same."""
        size = min(size, MAX_AWAITED_BYTES)
        if size != self._awaited:
            self._awaited = size
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def on_writable(self, callback: Callback | None) -> None:
        """See ``DataStream``."""
        if callback is self._on_writable:
            return
        self._on_writable = callback
        if callback is None:
            self._loop.remove_writer(self.socket)
        else:
            self._loop.add_writer(self.socket, callback)

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``; one scatter read."""
        return self.socket.recvmsg_into(buffers)[0]

    def write(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``; one gather write."""
        return self.socket.sendmsg(buffers)

    def close(self) -> None:
        """See ``DataStream``."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self.socket)
            self._loop.remove_writer(self.socket)
            self.socket.close()
