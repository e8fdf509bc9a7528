"""One direction of the test WAN: packets from one TUN device to another through a slow, long, lossy pipe.

A process of its own (``python -m tests.wan.forward SOURCE TARGET MEMORY SIDE``, all but SIDE inherited descriptors), so
that both directions together carry 1 Gbit/s on one processor. Its settings lie in shared memory and may change at any
time.
"""

import contextlib
import mmap
import os
import random
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass

QUANTUM_S = 0.0005
"""Packets are moved this often: a wake-up for each would cost more than the packet, and network cards coalesce, too."""
BATCH = 2048
"""Packets read at a time: more than come in while the process waits for a processor."""
MAX_PACKET_BYTES = 65_536
NICENESS = -10
"""Ahead of whatever it connects: a late link would look like a slow one."""

_SETTINGS = struct.Struct("=ddddQ")
_COUNTERS = struct.Struct("=QQQQ")
SIDE_BYTES = 128
MEMORY_BYTES = 2 * SIDE_BYTES
_COUNTERS_AT = 64


@dataclass(frozen=True)
class PipeSettings:
    """How one direction is now.

    Attributes:
        rate_bytes_s: the bottleneck.
        delay_s: one way, without queue.
        loss: share of packets that vanish at random.
        queue_s: what the bottleneck's buffer holds; beyond it packets are dropped at the tail.
        is_down: everything that comes in is lost.
    """

    rate_bytes_s: float
    delay_s: float
    loss: float
    queue_s: float
    is_down: bool = False


@dataclass
class PipeCounters:
    """Packets and bytes since the beginning: passed, lost at random or while down, and dropped by the full queue."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    dropped: int = 0


class PipeMemory:
    """Settings and counters of one side (0 or 1) in memory shared by the forwarder and its owner."""

    def __init__(self, memory: mmap.mmap, side: int) -> None:
        self._view = memoryview(memory)[side * SIDE_BYTES : (side + 1) * SIDE_BYTES]

    def settings(self) -> PipeSettings:
        rate_bytes_s, delay_s, loss, queue_s, is_down = _SETTINGS.unpack_from(self._view)
        return PipeSettings(rate_bytes_s, delay_s, loss, queue_s, bool(is_down))

    def set(self, settings: PipeSettings) -> None:
        s = settings
        _SETTINGS.pack_into(self._view, 0, s.rate_bytes_s, s.delay_s, s.loss, s.queue_s, s.is_down)

    def counters(self) -> PipeCounters:
        return PipeCounters(*_COUNTERS.unpack_from(self._view, _COUNTERS_AT))

    def count(self, counters: PipeCounters) -> None:
        c = counters
        _COUNTERS.pack_into(self._view, _COUNTERS_AT, c.packets, c.bytes, c.lost, c.dropped)


class Pipe:
    """Decides when each packet comes out; time is an argument, there is no I/O."""

    def __init__(self, seed: int) -> None:
        self.counters = PipeCounters()
        self.waiting: deque[tuple[float, bytes]] = deque()
        self._free_s = 0.0
        self._random = random.Random(seed)

    def enter(self, packet: bytes, settings: PipeSettings, since_s: float, now_s: float) -> None:
        """A packet that came between ``since_s``, the last time that somebody looked, and now. The bottleneck worked
        meanwhile, so that a late look costs no capacity; the delay counts from now, so that it is never shorter."""
        if settings.is_down or (settings.loss and self._random.random() < settings.loss):
            self.counters.lost += 1
            return
        start_s = max(since_s, self._free_s)
        if start_s - since_s > settings.queue_s:
            self.counters.dropped += 1
            return
        self._free_s = start_s + len(packet) / settings.rate_bytes_s
        leaves_s = max(self._free_s, now_s) + settings.delay_s
        # A shorter delay from now on must not let packets overtake each other.
        self.waiting.append((max(leaves_s, self.waiting[-1][0]) if self.waiting else leaves_s, packet))

    def leaving(self, now_s: float) -> list[bytes]:
        """The packets that have arrived at the other end."""
        out = []
        while self.waiting and self.waiting[0][0] <= now_s:
            packet = self.waiting.popleft()[1]
            self.counters.packets += 1
            self.counters.bytes += len(packet)
            out.append(packet)
        return out


def forward(source: int, target: int, memory: PipeMemory, seed: int) -> None:
    """Move packets until the process is ended."""
    pipe, poller = Pipe(seed), select.poll()
    poller.register(source, select.POLLIN)
    since_s = time.monotonic()
    while True:
        if pipe.waiting:
            time.sleep(QUANTUM_S)
        else:
            poller.poll()
            since_s = time.monotonic()
        looked_s, settings = time.monotonic(), memory.settings()
        with contextlib.suppress(BlockingIOError):
            for _ in range(BATCH):
                pipe.enter(os.read(source, MAX_PACKET_BYTES), settings, since_s, time.monotonic())
        for packet in pipe.leaving(time.monotonic()):
            try:
                os.write(target, packet)
            except OSError:  # the device's queue is full, or it is going down
                pipe.counters.dropped += 1
        memory.count(pipe.counters)
        since_s = looked_s


def main() -> None:
    source, target, memory, side = (int(argument) for argument in sys.argv[1:5])
    with contextlib.suppress(PermissionError):
        os.nice(NICENESS)
    with contextlib.suppress(KeyboardInterrupt):
        forward(source, target, PipeMemory(mmap.mmap(memory, MEMORY_BYTES), side), seed=side)


if __name__ == "__main__":
    main()
