"""TLS on a data connection, in one process over a socket pair."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prfaas.transport import tls_stream
from prfaas.transport.tls import KeyRing
from prfaas.transport.tls_stream import CIPHER_BYTES, TlsStream
from tests.transport.site_certificates import NAMES, make_sites, settings

Streams = tuple[TlsStream, TlsStream]


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    """The dialing and the listening end, after their handshake."""
    make_sites(tmp_path)
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    dialed = TlsStream(ends[0], KeyRing(settings(tmp_path, "edge")).keys().client, NAMES["cloud"])
    listening = TlsStream(ends[1], KeyRing(settings(tmp_path, "cloud")).keys().server, None)
    async with asyncio.timeout(60):
        await asyncio.gather(dialed.handshake(), listening.handshake())
    yield dialed, listening
    dialed.close()
    listening.close()


class Sink:
    """Reads in pieces of one size whenever it is called back, as often as ``calls`` allows at a time."""

    def __init__(self, stream: TlsStream, size: int, calls: int) -> None:
        self.data = bytearray()
        self.ended = asyncio.Event()
        self._stream, self._buffer, self._calls = stream, memoryview(bytearray(size)), calls
        stream.on_readable(self._readable)

    def _readable(self) -> None:
        half = len(self._buffer) // 2
        for _ in range(self._calls):
            try:
                size = self._stream.read_into([self._buffer[:half], self._buffer[half:]])
            except BlockingIOError:
                return
            if size == 0:
                self.ended.set()
                return
            self.data += self._buffer[:size]


async def send(stream: TlsStream, data: bytes) -> None:
    """Write all, as ``DataSender`` does: on, when the socket is full, with the same bytes in front."""
    left = memoryview(data)
    done = asyncio.Event()

    def pump() -> None:
        nonlocal left
        try:
            while left:
                left = left[stream.write([left[:100], left[100:]]) :]
        except BlockingIOError:
            return
        stream.on_writable(None)
        done.set()

    stream.on_writable(pump)
    await done.wait()


async def test_both_ends_know_each_other(streams: Streams) -> None:
    """Each sees the names in the other's certificate."""
    dialed, listening = streams
    assert (dialed.peer_names, listening.peer_names) == ([NAMES["cloud"]], [NAMES["edge"]])


@pytest.mark.parametrize(("size", "calls"), [(2, 3), (1 << 20, 1), (1000, 1_000_000)])
async def test_every_byte_arrives_however_it_is_read(streams: Streams, size: int, calls: int) -> None:
    """In tiny reads, in one read a callback (the rest is announced again) and in reads until nothing is left."""
    dialed, listening = streams
    data = os.urandom(20_000 if size == 2 else 3 * CIPHER_BYTES + 12_345)
    sink = Sink(dialed, size, calls)
    async with asyncio.timeout(60):
        await send(listening, data)
        listening.close()
        await sink.ended.wait()
    assert bytes(sink.data) == data


async def test_what_the_peer_can_read_counts_as_written(streams: Streams) -> None:
    """Of three frames in one batch the peer may acknowledge the first while the kernel has no room for the last."""
    dialed, listening = streams
    listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    data = os.urandom(3 * 60_000)
    left, buffer, received = memoryview(data), memoryview(bytearray(len(data))), 0
    while received < len(data):
        with contextlib.suppress(BlockingIOError):
            left = left[listening.write([left[:60_000], left[60_000:]]) :] if left else left
        with contextlib.suppress(BlockingIOError):
            received += dialed.read_into([buffer[received:]])
        assert received <= len(data) - len(left)
    assert buffer == data


async def test_nothing_readable_crosses_the_wire(streams: Streams) -> None:
    """The bytes of a write are not in what the kernel carries."""
    dialed, listening = streams
    secret = b"rows of an attention layer" * 40
    assert listening.write([memoryview(secret)]) == len(secret)
    carried = dialed.socket.recv(1 << 16)
    assert len(carried) > len(secret)
    assert secret[:26] not in carried


async def test_a_record_that_was_touched_ends_the_connection(streams: Streams) -> None:
    """A changed byte on the way is an error, not data."""
    dialed, listening = streams
    listening.write([memoryview(bytes(1000))])
    touched = bytearray(dialed.socket.recv(1 << 16))
    touched[500] ^= 1
    listening.socket.send(touched)
    with pytest.raises(OSError, match=r"(?i)bad.record.mac"):
        dialed.read_into([memoryview(bytearray(2000))])


async def test_keys_are_not_used_beyond_their_limit(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has encrypted its share takes no more bytes, so that one with new keys takes over."""
    monkeypatch.setattr(tls_stream, "MAX_WRITTEN_BYTES", 3000)
    for _ in range(3):
        streams[1].write([memoryview(bytes(1000))])
    with pytest.raises(OSError, match="used up"):
        streams[1].write([memoryview(bytes(1000))])


async def test_bytes_count_as_written_with_their_record(streams: Streams) -> None:
    """The peer may verify a frame, and answer for it, while others of the same batch still wait for the kernel."""
    dialed, listening = streams
    listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000)
    data = os.urandom(120_000)
    written = listening.write([memoryview(data)])
    buffer = memoryview(bytearray(len(data)))
    assert dialed.read_into([buffer]) == written
    assert 0 < written < len(data)
    assert buffer[:written] == data[:written]
