"""Data connections over gRPC: the bytes that TCP would carry, as messages of a stream on the control port.

The messages are plain bytes, not protobuf, whose encoding would copy them once more. Where one ends means nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from socket import socket as Socket
from typing import Any, cast

import grpc

from prfaas.errors import TransferFailed
from prfaas.transport.data_socket import CONNECT_TIMEOUT_S, encode_join
from prfaas.transport.data_stream import Callback, DataStream
from prfaas.transport.grpc_options import explain
from prfaas.transport.tls_stream import MAX_WRITTEN_BYTES

METHOD = "/prfaas.wire.KvData/Frames"
"""A bidirectional stream: the decode side sends one join, the prefill side frames."""
MESSAGE_BYTES = 1 << 20
"""What a message carries while there is enough to send: each costs both sides about 0.2 ms, whatever its size."""
MAX_MESSAGE_BYTES = 2 << 20
"""The most that one carries; control's bound on messages is above it."""
MAX_QUEUED_BYTES = 2 << 20
"""Written and not yet with gRPC: enough for the next message while it works on one."""
MAX_QUEUED_MESSAGES = 2
"""Received and not yet read: one that is being copied out and the next."""


class _MessageStream:
    """What both directions share: callbacks for a stream that has no descriptor to wait on."""

    socket: Socket | None = None

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._callback: Callback | None = None
        self._is_scheduled = False
        self._is_open = True
        self._end = ""

    def close(self) -> None:
        """See ``DataStream``; the gRPC stream ends with whoever runs it."""
        self._is_open = False
        self._callback = None
        self._changed.set()

    def _is_ready(self) -> bool:
        """Whether the callback is due."""
        raise NotImplementedError

    def _schedule(self) -> None:
        if not self._is_scheduled and self._callback is not None and self._is_ready():
            self._is_scheduled = True
            self._loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        self._is_scheduled = False
        if self._callback is not None and self._is_ready():
            self._callback()
            self._schedule()


class IncomingStream(_MessageStream):
    """The decode side: messages in, bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: deque[memoryview] = deque()

    async def run(self, read: Callable[[], Awaitable[object]]) -> None:
        """Take messages until the stream ends; at most ``MAX_QUEUED_MESSAGES`` lie here, the rest waits at the peer."""
        try:
            while isinstance(data := await read(), bytes):
                self._messages.append(memoryview(data))
                self._schedule()
                while len(self._messages) >= MAX_QUEUED_MESSAGES:
                    self._changed.clear()
                    await self._changed.wait()
            self._end = "closed by the peer"
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._end = explain(error)
        self._schedule()

    def on_readable(self, callback: Callback) -> None:
        """See ``DataStream``."""
        self._callback = callback
        self._schedule()

    def await_bytes(self, size: int) -> None:
        """Without effect: messages come whole."""

    def on_writable(self, callback: Callback | None) -> None:
        """Nothing is ever written in this direction."""

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``."""
        if not self._messages:
            if self._end:
                raise OSError(self._end)
            raise BlockingIOError
        total = 0
        for buffer in buffers:
            filled = 0
            while filled < len(buffer) and self._messages:
                message = self._messages[0]
                size = min(len(message), len(buffer) - filled)
                buffer[filled : filled + size] = message[:size]
                filled += size
                if size < len(message):
                    self._messages[0] = message[size:]
                else:
                    self._messages.popleft()
                    self._changed.set()
            total += filled
        return total

    def write(self, buffers: Sequence[memoryview]) -> int:
        """Nothing is ever written in this direction."""
        raise OSError("frames only flow towards the decode side")

    def _is_ready(self) -> bool:
        return bool(self._messages or self._end)


class OutgoingStream(_MessageStream):
    """The prefill side: bytes in, messages out."""

    def __init__(self) -> None:
        super().__init__()
        self._when_ended: Callback | None = None
        self._parts: deque[bytes] = deque()
        self._queued_bytes = self._written_bytes = 0

    async def run(self, write: Callable[[bytes], Awaitable[None]], read: Callable[[], Awaitable[object]]) -> None:
        """Write messages until ``close`` or until the peer ends the stream."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write_all(write))
                said = await read()
                self._end = "bytes against the direction" if isinstance(said, bytes) else "closed by the peer"
                writing.cancel()
        except* (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError, OSError) as group:
            self._end = explain(group.exceptions[0])
        finally:
            self._end = self._end or "the call was cancelled"
            if self._when_ended is not None:
                self._when_ended()

    async def _write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        while self._is_open:
            self._changed.clear()
            while self._parts and self._is_open:
                message = self._next_message()
                self._schedule()
                await write(message)
            if self._is_open:
                await self._changed.wait()
        raise OSError("closed here")

    def _next_message(self) -> bytes:
        """Short writes become one message; joining copies, and is still cheaper than a message for each."""
        taken = [self._parts.popleft()]
        size = len(taken[0])
        while self._parts and size + len(self._parts[0]) <= MESSAGE_BYTES:
            taken.append(self._parts.popleft())
            size += len(taken[-1])
        self._queued_bytes -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def on_readable(self, callback: Callback) -> None:
        """Called once, at the end of the stream: the decode side says nothing after its join."""
        self._when_ended = callback

    def await_bytes(self, size: int) -> None:
        """Nothing is ever read in this direction."""

    def on_writable(self, callback: Callback | None) -> None:
        """See ``DataStream``."""
        self._callback = callback
        self._schedule()

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``."""
        if self._end:
            raise OSError(self._end)
        raise BlockingIOError

    def write(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``; copies, for gRPC keeps what it is given."""
        if self._end:
            raise OSError(self._end)
        if self._written_bytes >= MAX_WRITTEN_BYTES:
            raise OSError("the keys of its TLS connection are used up")
        if not self._is_ready():
            raise BlockingIOError
        parts: list[memoryview] = []
        size = 0
        for buffer in buffers:
            parts.append(buffer[: MAX_MESSAGE_BYTES - size])
            size += len(parts[-1])
            if size == MAX_MESSAGE_BYTES:
                break
        self._parts.append(b"".join(parts))
        self._queued_bytes += size
        self._written_bytes += size
        self._changed.set()
        return size

    def _is_ready(self) -> bool:
        return self._queued_bytes < MAX_QUEUED_BYTES


@asynccontextmanager
async def connect_grpc(channel: grpc.aio.Channel, connection: int, token: bytes) -> AsyncIterator[DataStream]:
    """Open a data connection over ``channel``, which is closed with the context, and join it to a session.

    Raises:
        TransferFailed: it cannot be opened in time.
    """
    async with channel:
        call = cast("grpc.aio.StreamStreamCall[bytes, bytes]", _method(channel)())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await call.write(encode_join(connection, token))
        except TimeoutError:
            raise TransferFailed(f"no data connection over gRPC within {CONNECT_TIMEOUT_S:g} s") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise TransferFailed(f"no data connection over gRPC: {explain(error)}") from error
        stream = IncomingStream()
        reading = asyncio.create_task(stream.run(call.read))
        try:
            yield stream
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _method(channel: grpc.aio.Channel) -> Any:
    """The stubs do not know that without serializers bytes pass as they are."""
    return channel.stream_stream(METHOD)
