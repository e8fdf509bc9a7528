"""A probe's prefill side: noise on data connections, as fast as the path and the link's configured rate let it."""

import asyncio
import logging
import os
import secrets

from prfaas.clock import Clock
from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.transport.data_socket import TOKEN_BYTES
from prfaas.transport.data_stream import DataStream
from prfaas.transport.tcp_info import read_tcp_info
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_TEXT
from prfaas.wire.pace import Pace

MAX_PROBE_BYTES = 16 << 30
"""Of one probe: ten seconds of a link of 12 Gb/s. On a metered link it costs money, so whoever asks asks for less."""
MAX_PROBE_S = 10.0
"""Of one probe: it takes its share of the link from transfers."""
MAX_PROBE_CONNECTIONS = 16
"""As many as a session makes of itself."""
JOIN_WAIT_S = 10.0
"""For the first data connection: twice what dialing one may take."""
BLOCK_BYTES = 256 << 10
"""What is taken at a time, as a frame is."""
BURST_BLOCKS = 16
"""Blocks written before other sockets get their turn: about 2 ms of the loop."""

log = logging.getLogger(__name__)


class Noise:
    """What one probe sends, on one or more connections.

    Attributes:
        token: what a data connection must show to join.
        sent_bytes: handed to connections.
        sent_segments, retransmitted_segments: of connections that have ended.
        began: set with the first connection.
        began_s: when that was; None while there is none.
        ended: set when all is sent, or nothing can be sent any more.
    """

    def __init__(self, size_bytes: int, connections: int, pace: Pace, clock: Clock) -> None:
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self.sent_bytes = self.sent_segments = self.retransmitted_segments = 0
        self.began, self.ended = asyncio.Event(), asyncio.Event()
        self.began_s: float | None = None
        self._left_bytes, self._connections = size_bytes, connections
        self._pace, self._clock = pace, clock
        self._block = memoryview(os.urandom(BLOCK_BYTES))  # a network that compresses would flatter itself
        self._joined: dict[int, _NoiseSender] = {}

    @property
    def senders(self) -> "Noise":
        """Connections join the probe itself."""
        return self

    def join(self, stream: DataStream, connection: int) -> bool:
        """See ``Senders``."""
        if self.ended.is_set() or connection in self._joined or len(self._joined) >= self._connections:
            return False
        self._joined[connection] = _NoiseSender(stream, self)
        if self.began_s is None:
            self.began_s = self._clock.now_s()
        self.began.set()
        self._joined[connection].pump()
        return True

    def wait_s(self) -> float:
        """How long the next block has to wait by the link's rate limit."""
        return self._pace.wait_s(self._clock.now_s())

    def take(self) -> memoryview:
        """The next block, empty when all are given out."""
        block = self._block[: self._left_bytes]
        self._left_bytes -= len(block)
        self._pace.spend(len(block))
        return block

    def left(self, stream: DataStream) -> None:
        """A connection is about to close."""
        info = read_tcp_info(stream.socket)
        self.sent_segments += info.sent_segments
        self.retransmitted_segments += info.retransmitted_segments
        if not any(sender.is_open for sender in self._joined.values()):
            self.ended.set()

    def close(self) -> None:
        """Close all connections; none can join any more (idempotent)."""
        for sender in self._joined.values():
            sender.close()
        self.ended.set()


class _NoiseSender:
    """Writes noise to one connection as fast as it takes it."""

    def __init__(self, stream: DataStream, noise: Noise) -> None:
        self.is_open = True
        self._stream, self._noise = stream, noise
        self._rest = memoryview(b"")
        self._told = [memoryview(bytearray(1))]
        self._again = self.pump
        stream.on_readable(self._readable)

    def pump(self) -> None:
        """Write until the connection is full, the rate limit reached or all is sent."""
        try:
            self._write()
        except OSError:
            self.close()
        except Exception:  # or the loop would call back for ever
            log.exception("a bug ended a connection of a probe")
            self.close()

    def _write(self) -> None:
        for _ in range(BURST_BLOCKS if self.is_open else 0):
            if not self._rest:
                if wait_s := self._noise.wait_s():
                    self._stream.on_writable(None)
                    asyncio.get_running_loop().call_later(wait_s, self._again)
                    return
                self._rest = self._noise.take()
            if not self._rest:
                self.close()
                return
            try:
                size = self._stream.write([self._rest])
            except BlockingIOError:
                break
            self._rest = self._rest[size:]
            self._noise.sent_bytes += size
        if self.is_open:
            self._stream.on_writable(self._again)

    def close(self) -> None:
        """Close the connection (idempotent)."""
        if self.is_open:
            self.is_open = False
            self._noise.left(self._stream)
            self._stream.close()

    def _readable(self) -> None:
        """Nothing is said in this direction: readable means that the connection is closed, or broken."""
        try:
            self._stream.read_into(self._told)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()


class Probes:
    """The probe that runs, if one does: two at a time would each measure a part of the link. One after the other they
    have half of its time at most: each is followed by a pause as long as it was."""

    def __init__(self, clock: Clock) -> None:
        self.running: list[Noise] = []
        self._clock = clock
        self._rested_s = clock.now_s()

    def begin(self, request: pb.ProbeRequest, pace: Pace) -> Noise:
        """Make a probe, to be joined after ``pause_s``; whoever gets it has to ``end`` it.

        Raises:
            RemoteProtocolError: out of bounds.
            TransferFailed: another one runs.
        """
        is_fitting = (
            0 < request.size_bytes <= MAX_PROBE_BYTES
            and 0 < request.duration_ms <= MAX_PROBE_S * 1e3
            and 0 < request.connections <= MAX_PROBE_CONNECTIONS
        )
        if not is_fitting:
            most = f"{MAX_PROBE_BYTES} bytes, {MAX_PROBE_S:g} s and {MAX_PROBE_CONNECTIONS} connections"
            raise RemoteProtocolError(f"a probe has up to {most}")
        if len(request.engine_id) > MAX_TEXT:
            raise RemoteProtocolError(f"a probe for an engine's name of up to {MAX_TEXT} characters")
        if self.running:
            raise TransferFailed("another probe runs there: try again in some seconds")
        noise = Noise(request.size_bytes, request.connections, pace, self._clock)
        self.running.append(noise)
        return noise

    def pause_s(self) -> float:
        """How long the link has to be left alone after the last probe: at most ``MAX_PROBE_S``, as a probe is."""
        return max(0.0, self._rested_s - self._clock.now_s())

    def end(self, noise: Noise) -> float:
        """The probe is over; the seconds that it took of the link."""
        noise.close()
        self.running.remove(noise)
        if noise.began_s is None:
            return 0.0
        now_s = self._clock.now_s()
        took_s = now_s - noise.began_s
        self._rested_s = now_s + took_s
        return took_s
