"""Decode side of a data connection: frames are read straight into receive slots."""

import asyncio
import logging
from typing import Protocol

from prfaas.errors import RemoteProtocolError
from prfaas.transport.data_stream import DataStream
from prfaas.wire.frame import FrameHeader, FrameReader, FrameReceived, HeaderReceived

BURST_BYTES = 4 << 20
"""Bytes read before other sockets get their turn: about 2 ms of the loop."""

log = logging.getLogger(__name__)


class FrameSink(Protocol):
    """Where frames go."""

    def slot_for(self, header: FrameHeader) -> int | None:
        """Reserve a receive slot, or None when nobody wants the payload. May raise RemoteProtocolError."""

    def slot_memory(self, slot: int) -> memoryview:
        """The memory of a slot."""

    def frame(self, header: FrameHeader, slot: int | None) -> None:
        """The frame is verified; the slot is the sink's again."""

    def discard(self, header: FrameHeader, slot: int | None) -> None:
        """The frame will never be complete; the slot is the sink's again."""

    def damaged(self, header: FrameHeader, slot: int | None, connection: int, number: int) -> None:
        """The payload of this frame, ``number`` of the connection, is not what was sent; the slot is the sink's
        again."""

    def burst_end(self) -> None:
        """No more frames for now."""


class DataReceiver:
    """Reads one connection until it ends; then ``discard`` was called for a frame that was under way.

    Attributes:
        connection: its number in the session.
        frames: frames since it began, verified ones and those that the sink was told are damaged.
        acked_frames: of those, how many the peer was told of (the owner's to set).
    """

    def __init__(self, stream: DataStream, connection: int, sink: FrameSink, max_payload_bytes: int) -> None:
        self.connection = connection
        self.frames = 0
        self.acked_frames = 0
        self._stream = stream
        self._sink = sink
        self._reader = FrameReader(max_payload_bytes)
        self._max_payload_bytes = max_payload_bytes
        self._slot: int | None = None
        self._scratch: memoryview | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> str:
        """Read until the connection ends or ``close``; return why. Cancellation closes it as well."""
        try:
            self._stream.on_readable(self._readable)
            return await self._ended
        finally:
            self._stream.close()
            if self._reader.current is not None:
                self._sink.discard(self._reader.current, self._slot)

    def close(self, reason: str) -> None:
        """End the connection (idempotent)."""
        if not self._ended.done():
            self._ended.set_result(reason)

    def _readable(self) -> None:
        try:
            self._read_burst()
        except OSError as error:
            self.close(error.strerror or str(error))
        except RemoteProtocolError as error:
            self.close(str(error))
        except Exception:  # or the loop would call back for these bytes for ever
            log.exception("a bug ended data connection %d", self.connection)
            self.close("a bug here, see the log")

    def _read_burst(self) -> None:
        taken = 0
        try:
            while taken < BURST_BYTES and not self._ended.done():
                size = self._stream.read_into(self._reader.buffers())
                if size == 0:
                    self.close("closed by the peer")
                    break
                taken += size
                self._received(size)
        except BlockingIOError:
            self._stream.await_bytes(self._reader.missing_bytes)
        finally:
            self._sink.burst_end()

    def _received(self, size: int) -> None:
        for event in self._reader.received(size):
            if not isinstance(event, HeaderReceived):
                slot, self._slot = self._slot, None
                self.frames += 1
                if isinstance(event, FrameReceived):
                    self._sink.frame(event.header, slot)
                else:
                    self._sink.damaged(event.header, slot, self.connection, self.frames)
            else:
                self._slot = self._sink.slot_for(event.header)
                memory = self._unwanted() if self._slot is None else self._sink.slot_memory(self._slot)
                self._reader.provide(memory[: event.header.piece.length])

    def _unwanted(self) -> memoryview:
        """Memory for payloads that nobody wants; each connection has its own, for the checksum is still verified."""
        if self._scratch is None:
            self._scratch = memoryview(bytearray(self._max_payload_bytes))
        return self._scratch
