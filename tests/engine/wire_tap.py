"""A TCP relay between two movers on another loopback address, which changes one byte of the cache, holds the cache up
or cuts connections.

A decode side that dials the tap's host finds both of the prefill side's ports there: the control port, passed on as it
is, and the data port, which is the next one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TAP_HOST = "127.0.0.2"
CHUNK_BYTES = 1 << 16


def tapped(target: str) -> str:
    """Where a tap of ``target`` ("host:port") is dialed."""
    return f"{TAP_HOST}:{target.rpartition(':')[2]}"


class WireTap:
    """Relays ``target`` ("host:port") and its data port; an asynchronous context manager.

    Args:
        flip_after_bytes: position in the bytes from the prefill side, over all data connections, that is changed; None
            changes none.
    """

    def __init__(self, target: str, flip_after_bytes: int | None = None) -> None:
        self._host, port = target.rsplit(":", 1)
        self._control_port = int(port)
        self._flip_after = flip_after_bytes
        self._servers: list[asyncio.Server] = []
        self._relays: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._control_writers: list[asyncio.StreamWriter] = []
        self._passed = 0
        self._is_down = False
        self._until_stall: int | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.has_flipped = False

    @property
    def address(self) -> str:
        """What the decode side dials."""
        return tapped(f"{self._host}:{self._control_port}")

    async def __aenter__(self) -> Self:
        for port, is_data in ((self._control_port, False), (self._control_port + 1, True)):
            self._servers.append(await asyncio.start_server(self._accept(port, is_data), TAP_HOST, port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def cut_control(self) -> None:
        """Reset every control connection there is; new ones are welcome."""
        for writer in self._control_writers:
            writer.transport.abort()
        self._control_writers.clear()

    def down(self) -> None:
        """Reset every connection there is, and every new one until ``up``."""
        self._is_down = True
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._control_writers.clear()

    def up(self) -> None:
        """Pass everything on again."""
        self._is_down = False

    def stall(self, after_bytes: int = 0) -> None:
        """Hold up what comes on data connections once so much more of it has passed; control messages pass."""
        self._until_stall = after_bytes
        if not after_bytes:
            self._flows.clear()

    def flow(self) -> None:
        """Let it pass again."""
        self._until_stall = None
        self._flows.set()

    def _accept(self, port: int, is_data: bool) -> Accept:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._is_down:
                writer.transport.abort()
                return
            try:
                their_reader, their_writer = await asyncio.open_connection(self._host, port)
            except OSError:  # the engine behind the tap is not there
                writer.transport.abort()
                return
            self._writers += [writer, their_writer]
            if not is_data:
                self._control_writers += [writer, their_writer]
            for source, sink, is_cache in ((reader, their_writer, False), (their_reader, writer, is_data)):
                task = asyncio.ensure_future(self._relay(source, sink, is_cache))
                self._relays.add(task)

        return accept

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_cache: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                if is_cache:
                    await self._flows.wait()
                    self._count_down(len(data))
                sink.write(self._changed(data) if is_cache else data)
                await sink.drain()
        await self._flows.wait()  # the end of a connection crosses no sooner than its bytes
        sink.close()

    def _count_down(self, size_bytes: int) -> None:
        if self._until_stall is not None:
            self._until_stall -= size_bytes
            if self._until_stall <= 0:
                self._flows.clear()

    def _changed(self, data: bytes) -> bytes:
        if self._flip_after is None or self.has_flipped:
            return data
        at = self._flip_after - self._passed
        self._passed += len(data)
        if not 0 <= at < len(data):
            return data
        self.has_flipped = True
        return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
