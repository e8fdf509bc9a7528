"""Non-blocking message sockets between an engine's processes and its mover."""

import contextlib
import socket
from collections import deque
from typing import Generic, TypeVar

import msgspec

from prfaas.transport.messages import FromEngine, ToEngine

MAX_MESSAGE_BYTES = 128 << 10
"""Bound of one datagram: ``MAX_PIECES_PER_MESSAGE`` pieces take about 12 KiB, the default socket buffer 208 KiB."""
MAX_QUEUED_MESSAGES = 65_536
"""Messages kept while the socket is full: beyond it the other side has stopped reading for good."""
MAX_POLLED_MESSAGES = 1_024
"""Messages taken in one poll, so that a poll returns while the other side keeps sending."""

In = TypeVar("In")
Out = TypeVar("Out")


class MessageSocket(Generic[In, Out]):
    """One end of a SOCK_SEQPACKET connection. Nothing blocks and nothing raises once the other end is gone: look at
    ``is_open`` and ``error``. Not safe for several threads at a time."""

    def __init__(self, sock: socket.socket, incoming: object) -> None:
        sock.setblocking(False)
        self.is_open = True
        self.error = ""
        self._socket = sock
        self._queue: deque[bytes] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))

    @property
    def has_queued(self) -> bool:
        """Messages wait for the socket to take them; ``flush`` when it is writable."""
        return bool(self._queue)

    def fileno(self) -> int:
        """The descriptor to wait on for reading, -1 once closed."""
        return self._socket.fileno()

    def send(self, message: Out) -> None:
        """Send, or queue when the socket is full; dropped silently when the other end is gone.

        Raises:
            ValueError: the message is larger than a datagram may be.
        """
        data = self._encoder.encode(message)
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"{type(message).__name__} of {len(data)} bytes, allowed are {MAX_MESSAGE_BYTES}")
        if not self.is_open:
            return
        if len(self._queue) >= MAX_QUEUED_MESSAGES:
            self._fail(f"the other end left {MAX_QUEUED_MESSAGES} messages unread")
            return
        self._queue.append(data)
        self.flush()

    def flush(self) -> None:
        """Give queued messages to the socket as far as it takes them."""
        try:
            while self._queue:
                self._socket.send(self._queue[0])
                self._queue.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(f"the other end is gone: {error.strerror or error}")

    def poll(self) -> list[In]:
        """Return the messages that have arrived (at most ``MAX_POLLED_MESSAGES``), in order, without waiting."""
        if self._queue:
            self.flush()
        messages: list[In] = []
        while self.is_open and len(messages) < MAX_POLLED_MESSAGES:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError as error:
                self._fail(f"the other end is gone: {error.strerror or error}")
                break
            if size == 0:
                self._fail("the other end closed the connection")
                break
            try:
                messages.append(self._decoder.decode(self._buffer[:size]))
            except msgspec.DecodeError as error:
                self._fail(f"unreadable message (another version of prfaas?): {error}")
        return messages

    def close(self) -> None:
        """Close the socket (idempotent)."""
        self._fail("closed here")

    def _fail(self, error: str) -> None:
        if self.is_open:
            self.is_open, self.error = False, error
            self._queue.clear()
            with contextlib.suppress(OSError):
                self._socket.close()


class EngineChannel(MessageSocket[ToEngine, FromEngine]):
    """The engine's end: the scheduler's or the worker's connection to the mover."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, ToEngine)

    @classmethod
    def connect(cls, path: str) -> "EngineChannel":
        """Connect to the mover's Unix socket.

        Raises:
            OSError: nobody listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return cls(sock)


class MoverChannel(MessageSocket[FromEngine, ToEngine]):
    """The mover's end."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, FromEngine)
