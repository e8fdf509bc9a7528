"""Fitting a data connection to its path, once its handshake has told the round trip.

On a long path the kernel knows best: it adapts buffers up to 4-6 MiB and more, while a size set by hand is cut to
net.core.{r,w}mem_max. On a short one buffers that large only push the bytes out of the processor's cache before they
are copied again: 512 MiB over loopback with checksums went at 4.5-5.0 GB/s with the kernel's, at 6.5-6.8 with these.
"""

import contextlib
import socket

from prfaas.transport.tcp_info import read_tcp_info

SHORT_TRIP_S = 0.001
"""One rack or one machine: buffers of 1 MiB move 1 GB/s and more."""
SHORT_SEND_BYTES = 512 << 10
SHORT_RECEIVE_BYTES = 1 << 20
"""The kernel doubles them for its own needs."""
SHORT_CONGESTION = b"cubic"
"""BBR, where it is the default, paces by timers; at these round trips they cost a fifth of the throughput."""
UNSENT_BYTES = 256 << 10
"""What the kernel may hold on a long path beyond the congestion window: more only delays frames of other transfers. On
a short one the send buffer is bound enough; what waking for every quarter of it costs was not told from noise."""


def fit(sock: socket.socket) -> None:
    """Set what the path of a connected socket wants."""
    rtt_s = read_tcp_info(sock).rtt_s
    if not 0 < rtt_s < SHORT_TRIP_S:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SHORT_SEND_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SHORT_RECEIVE_BYTES)
    with contextlib.suppress(OSError):  # not allowed here: the default works, too
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, SHORT_CONGESTION)
