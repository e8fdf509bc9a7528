"""The kernel's figures of TCP connections, and their sums."""

import socket
import struct

import pytest

from prfaas.transport.tcp_info import PathSample, PathWatch, TcpInfo, parse_tcp_info, read_tcp_info


def packed(size: int = 280, **fields: int) -> bytes:
    data = bytearray(size)
    for name, value in fields.items():
        offset = {"rtt": 68, "total_retrans": 100, "min_rtt": 148, "data_segs_out": 156}[name]
        struct.pack_into("=I", data, offset, value)
    return bytes(data)


def test_fields_are_read_in_their_units() -> None:
    """Microseconds become seconds, counters stay."""
    data = packed(rtt=31_000, total_retrans=7, min_rtt=30_000, data_segs_out=900)
    assert parse_tcp_info(data) == TcpInfo(0.031, 0.030, 900, 7)


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (packed(rtt=5_000, total_retrans=2)[:104], TcpInfo(0.005, 0.0, 0, 2)),
        (packed(rtt=5_000)[:71], TcpInfo()),
        (b"", TcpInfo()),
        (packed(min_rtt=0xFFFF_FFFF), TcpInfo()),
    ],
    ids=["old kernel", "cut inside a field", "nothing", "no sample yet"],
)
def test_what_the_kernel_does_not_tell_is_zero(data: bytes, known: TcpInfo) -> None:
    """Short structs and the kernel's mark for unknown give zeros, never an error."""
    assert parse_tcp_info(data) == known


def test_a_real_connection_has_a_round_trip_and_segments() -> None:
    """The offsets fit this kernel; a closed socket knows nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with server:
            client.sendall(bytes(50_000))
            received = 0
            while received < 50_000:
                received += len(server.recv(65_536))
            info = read_tcp_info(client)
        client.close()
    assert 0 < info.rtt_s < 10
    assert info.min_rtt_s <= info.rtt_s + 1
    assert info.sent_segments >= 1
    assert read_tcp_info(client) == TcpInfo()


def test_a_sample_holds_what_is_new() -> None:
    """Counters of connections that come and go become differences; round trips are those of the open ones."""
    watch = PathWatch()
    assert watch.sample({1: TcpInfo(0.03, 0.02, 100, 1)}) == PathSample(1, 0.03, 0.02, 100, 1)
    both = {1: TcpInfo(0.25, 0.02, 150, 1), 2: TcpInfo(0.75, 0.01, 10, 2)}
    assert watch.sample(both) == PathSample(2, 0.5, 0.01, 60, 2)
    assert watch.sample({2: TcpInfo(0.05, 0.01, 30, 3)}) == PathSample(1, 0.05, 0.01, 20, 1)
    assert watch.sample({}) == PathSample()
