"""Prefill side of a data connection: frames leave straight from send slots."""

import logging
from collections import deque
from typing import Protocol

from prfaas.errors import RemoteProtocolError
from prfaas.transport.data_stream import DataStream
from prfaas.transport.tcp_info import TcpInfo, read_tcp_info
from prfaas.wire.save import OutgoingFrame

CALL_BYTES = 1 << 20
CALL_FRAMES = 32
"""One ``sendmsg`` takes up to so many bytes or frames: enough to amortise the call, few enough to stay fair."""
BURST_BYTES = 4 << 20
"""Bytes written before other sockets get their turn: about 2 ms of the loop."""
MAX_UNACKED_FRAMES = 65_536
"""Frames that the decode side may owe an ack for; bounds the log, is never reached by a peer that acks."""

log = logging.getLogger(__name__)


class FrameSource(Protocol):
    """Where frames come from."""

    def next_frame(self) -> tuple[OutgoingFrame, int, bytes, memoryview] | None:
        """The next frame, its credit round, header and payload; None when there is nothing to send now."""

    def written(self, frame: OutgoingFrame) -> None:
        """The kernel has all bytes of the frame, or will never get them."""

    def connection_failed(self, connection: int, reason: str) -> None:
        """The connection is of no more use; called once, never after ``close``."""


class DataSender:
    """Writes frames to one connection as fast as it takes them; ``pump`` whenever there may be something to send.

    Attributes:
        connection: its number in the session.
        sent_bytes: payload bytes handed to it.
        acked_bytes: of these, those that the peer has.
        is_retired: it takes no more frames (the owner's to set).
        is_blocked: it cannot take more at the moment.
    """

    def __init__(self, stream: DataStream, connection: int, source: FrameSource) -> None:
        self.connection = connection
        self.sent_bytes = self.acked_bytes = 0
        self.is_retired = self.is_blocked = False
        self._call_bytes = 1
        self._stream = stream
        self._source = source
        self._log: deque[tuple[OutgoingFrame, int] | None] = deque()
        self._acked_frames = 0
        self._buffers: deque[memoryview] = deque()
        self._unwritten: deque[OutgoingFrame] = deque()
        self._is_open = True
        self._pump = self._writable
        self._probe = [memoryview(bytearray(1))]
        self._progress: tuple[int, float] | None = None
        stream.on_readable(self._readable)

    @property
    def is_open(self) -> bool:
        """It has not failed."""
        return self._is_open

    @property
    def is_drained(self) -> bool:
        """Nothing is on its way that the peer has not acknowledged."""
        return not self._log

    def has_stalled(self, now_s: float, patience_s: float) -> bool:
        """Whether frames have waited so long for any ack; to be asked a few times a second."""
        if self._progress is None or self.is_drained or self._progress[0] != self._acked_frames:
            self._progress = (self._acked_frames, now_s)
        return now_s - self._progress[1] > patience_s

    def look_anew(self) -> None:
        """Until now no ack could come."""
        self._progress = None

    def pump(self) -> None:
        """Send what there is, as far as the connection takes it without waiting; the rest follows by itself."""
        self.is_blocked = False
        written = 0
        while self._is_open and (self._buffers or self._fill()):
            if written >= BURST_BYTES:
                self._stream.on_writable(self._pump)
                return
            try:
                size = self._stream.write(self._buffers)
            except BlockingIOError:
                self._wait()
                return
            except OSError as error:
                self.fail(error.strerror or str(error))
                return
            written += size
            self._advance(size)
            self._call_bytes = min(2 * self._call_bytes, CALL_BYTES)
        if self._is_open:
            self._stream.on_writable(None)

    def _wait(self) -> None:
        """The connection is full: take one frame at a time from now on, for what lies here cannot be overtaken."""
        self.is_blocked = True
        self._call_bytes = 1
        self._stream.on_writable(self._pump)

    def tcp_info(self) -> TcpInfo:
        """What the kernel knows of the connection."""
        return read_tcp_info(self._stream.socket)

    def acknowledge(self, frames: int) -> list[OutgoingFrame]:
        """The decode side has verified the first ``frames`` frames of this connection; return those newly so.

        Raises:
            RemoteProtocolError: it cannot have.
        """
        count = frames - self._acked_frames
        if not 0 <= count <= len(self._log) - len(self._unwritten):
            raise RemoteProtocolError(f"{frames} frames acknowledged on a connection that did not send as many")
        self._acked_frames = frames
        taken = (self._log.popleft() for _ in range(count))
        arrived = [item[0] for item in taken if item is not None]
        self.acked_bytes += sum(frame.piece.length for frame in arrived)
        return arrived

    def refuse(self, number: int) -> tuple[OutgoingFrame, int]:
        """Frame ``number``, from 1, arrived damaged: take it out, with its credit round; it still counts for acks.

        Raises:
            RemoteProtocolError: it cannot have arrived, or was acknowledged or refused before.
        """
        at = number - self._acked_frames - 1
        item = self._log[at] if 0 <= at < len(self._log) - len(self._unwritten) else None
        if item is None:
            raise RemoteProtocolError(f"frame {number} refused on a connection where it is not on its way")
        self._log[at] = None
        return item

    def lost(self) -> list[tuple[OutgoingFrame, int]]:
        """Close, and take out the frames (with their credit rounds) that were never acknowledged."""
        self.close()
        lost = [item for item in self._log if item is not None]
        self._log.clear()
        return lost

    def fail(self, reason: str) -> None:
        """Close because of an error here, and tell the source."""
        if self._is_open:
            self.close()
            self._source.connection_failed(self.connection, reason)

    def close(self) -> None:
        """Close the connection and release frames that were being written (idempotent)."""
        if not self._is_open:
            return
        self._is_open = False
        self._stream.close()
        self._buffers.clear()
        while self._unwritten:
            self._source.written(self._unwritten.popleft())

    def _fill(self) -> bool:
        """Take the frames of the next call."""
        if self.is_retired:
            return False
        size = 0
        while size < self._call_bytes and len(self._unwritten) < CALL_FRAMES and len(self._log) < MAX_UNACKED_FRAMES:
            item = self._source.next_frame()
            if item is None:
                break
            frame, frame_round, header, payload = item
            self._log.append((frame, frame_round))
            self._unwritten.append(frame)
            self._buffers += (memoryview(header), payload)
            size += len(payload)
        self.sent_bytes += size
        return size > 0

    def _advance(self, size: int) -> None:
        """Drop what the kernel took from the front of the buffers; every second buffer ends a frame."""
        while size:
            buffer = self._buffers[0]
            if size < len(buffer):
                self._buffers[0] = buffer[size:]
                return
            size -= len(buffer)
            self._buffers.popleft()
            if len(self._buffers) % 2 == 0:
                self._source.written(self._unwritten.popleft())

    def _writable(self) -> None:
        try:
            self.pump()
        except Exception:  # or the loop would call back for ever
            log.exception("a bug ended data connection %d", self.connection)
            self.fail("a bug here, see the log")

    def _readable(self) -> None:
        """The decode side never sends on a data connection: readable means that it is closed, or broken."""
        try:
            size = self._stream.read_into(self._probe)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error.strerror or str(error))
            return
        self.fail("bytes against the direction" if size else "closed by the peer")
