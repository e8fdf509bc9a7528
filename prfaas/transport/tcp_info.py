"""What the kernel knows of a TCP connection (Linux ``struct tcp_info``), as far as the link meter needs it."""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

STRUCT_BYTES = 512
"""More than any kernel fills (280 bytes in Linux 6.18); it returns what it has, older ones less."""
UNKNOWN = 0xFFFF_FFFF
"""The kernel's minimum round trip before the first sample."""

_U32 = struct.Struct("=I")
_RTT, _TOTAL_RETRANS, _MIN_RTT, _DATA_SEGS_OUT = 68, 100, 148, 156
"""Offsets in include/uapi/linux/tcp.h; fields are only ever appended."""


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """One connection at one moment; what the kernel does not tell is 0.

    Attributes:
        rtt_s: smoothed round trip, queues included.
        min_rtt_s: shortest round trip of the last minutes.
        sent_segments: data segments sent since the connection began, retransmitted ones included.
        retransmitted_segments: of these.
    """

    rtt_s: float = 0.0
    min_rtt_s: float = 0.0
    sent_segments: int = 0
    retransmitted_segments: int = 0


def parse_tcp_info(data: bytes) -> TcpInfo:
    """Read the fields that are there: an old kernel's struct is shorter."""

    def u32(offset: int) -> int:
        return _U32.unpack_from(data, offset)[0] if offset + _U32.size <= len(data) else 0

    min_rtt_us = u32(_MIN_RTT)
    return TcpInfo(
        rtt_s=u32(_RTT) / 1e6,
        min_rtt_s=0.0 if min_rtt_us == UNKNOWN else min_rtt_us / 1e6,
        sent_segments=u32(_DATA_SEGS_OUT),
        retransmitted_segments=u32(_TOTAL_RETRANS),
    )


def read_tcp_info(sock: socket.socket | None) -> TcpInfo:
    """Ask the kernel; nothing is known of no socket, a closed one, or by a system that has no such struct."""
    if sock is None:
        return TcpInfo()
    try:
        return parse_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, STRUCT_BYTES))
    except (OSError, AttributeError):
        return TcpInfo()


@dataclass(frozen=True, slots=True)
class PathSample:
    """All data connections of a session since the last sample.

    Attributes:
        connections: how many are open.
        rtt_s: mean of their smoothed round trips, 0 when unknown.
        min_rtt_s: the shortest of the shortest ones, 0 when unknown.
        sent_segments, retransmitted_segments: since the last sample.
    """

    connections: int = 0
    rtt_s: float = 0.0
    min_rtt_s: float = 0.0
    sent_segments: int = 0
    retransmitted_segments: int = 0


class PathWatch:
    """Turns the kernel's counters of connections that come and go into what is new since the last sample."""

    def __init__(self) -> None:
        self._last: dict[int, TcpInfo] = {}

    def sample(self, connections: Mapping[int, TcpInfo]) -> PathSample:
        """Take in the present figures of all open connections by number, which is never used twice."""
        before = {number: self._last.get(number, TcpInfo()) for number in connections}
        self._last = dict(connections)
        rtts_s = [info.rtt_s for info in connections.values() if info.rtt_s]
        return PathSample(
            connections=len(connections),
            rtt_s=sum(rtts_s) / len(rtts_s) if rtts_s else 0.0,
            min_rtt_s=min((info.min_rtt_s for info in connections.values() if info.min_rtt_s), default=0.0),
            sent_segments=sum(info.sent_segments - before[n].sent_segments for n, info in connections.items()),
            retransmitted_segments=sum(
                info.retransmitted_segments - before[n].retransmitted_segments for n, info in connections.items()
            ),
        )
