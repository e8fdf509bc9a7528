"""A data connection over gRPC, without gRPC: what the streams do with what they are given."""

import asyncio
import os

import pytest

from prfaas.transport.grpc_stream import (
    MAX_MESSAGE_BYTES,
    MAX_QUEUED_BYTES,
    MESSAGE_BYTES,
    IncomingStream,
    OutgoingStream,
)


class Pipe:
    """Stands for the gRPC call: one message at a time passes while ``gate`` is open."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()
        self.sizes: list[int] = []

    async def write(self, message: bytes) -> None:
        await self.gate.wait()
        self.sizes.append(len(message))
        await self.messages.put(message)

    async def read(self) -> bytes | None:
        return await self.messages.get()

    async def silence(self) -> object:
        """The decode side says nothing after its join, until it goes."""
        await self.ended.wait()
        return None


def fill(stream: OutgoingStream, piece: bytes) -> int:
    """Write until the stream takes no more; return the bytes."""
    total = 0
    while True:
        try:
            total += stream.write([memoryview(piece)])
        except BlockingIOError:
            return total


async def test_a_stream_that_is_not_emptied_takes_a_bounded_amount() -> None:
    """While gRPC does not take messages no more than the bound is copied."""
    assert fill(OutgoingStream(), bytes(1000)) == -(-MAX_QUEUED_BYTES // 1000) * 1000
    assert fill(OutgoingStream(), bytes(10 * MAX_MESSAGE_BYTES)) == MAX_MESSAGE_BYTES


async def test_short_writes_become_full_messages() -> None:
    """What piles up while gRPC is busy leaves in messages of about the best size, in order."""
    pipe, stream = Pipe(), OutgoingStream()
    running = asyncio.create_task(stream.run(pipe.write, pipe.silence))
    written = fill(stream, bytes(256 << 10))
    pipe.gate.set()
    received = 0
    while received < written:
        received += len(await pipe.read() or b"")
    assert max(pipe.sizes) == MESSAGE_BYTES
    stream.close()
    await running


async def test_writers_are_called_again_when_there_is_room() -> None:
    """The callback comes exactly while bytes are taken, and not after it is taken back."""
    pipe, stream = Pipe(), OutgoingStream()
    running = asyncio.create_task(stream.run(pipe.write, pipe.silence))
    calls: list[int] = []

    def writable() -> None:
        calls.append(fill(stream, bytes(MESSAGE_BYTES)))
        if len(calls) == 2:
            stream.on_writable(None)

    stream.on_writable(writable)
    pipe.gate.set()
    async with asyncio.timeout(60):
        for _ in range((MAX_QUEUED_BYTES + MESSAGE_BYTES) // MESSAGE_BYTES):
            await pipe.read()
    stream.close()
    await running
    assert len(calls) == 2
    assert calls[0] == MAX_QUEUED_BYTES >= calls[1] > 0


async def test_closing_ends_a_stream_that_is_being_written() -> None:
    """Whoever runs it comes back also when the close falls into a write."""
    pipe, stream = Pipe(), OutgoingStream()
    running = asyncio.create_task(stream.run(pipe.write, pipe.silence))
    fill(stream, bytes(MESSAGE_BYTES))
    async with asyncio.timeout(60):
        pipe.gate.set()
        await pipe.read()
        stream.close()
        await running


async def test_the_end_of_the_peer_is_told_once() -> None:
    """When the decode side goes, reading says so and writing is refused."""
    pipe, stream, told = Pipe(), OutgoingStream(), []
    stream.on_readable(lambda: told.append(True))
    running = asyncio.create_task(stream.run(pipe.write, pipe.silence))
    with pytest.raises(BlockingIOError):
        stream.read_into([memoryview(bytearray(1))])
    pipe.ended.set()
    await running
    assert told == [True]
    for use in (stream.read_into, stream.write):
        with pytest.raises(OSError, match="closed by the peer"):
            use([memoryview(bytearray(1))])


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
async def test_every_byte_arrives_however_it_is_read(size: int) -> None:
    """Reads need not fit messages: in order, nothing twice, and the end comes after the last byte."""
    pipe, stream = Pipe(), IncomingStream()
    running = asyncio.create_task(stream.run(pipe.read))
    sent = [os.urandom(length) for length in (1, 2000, 13, 999)]
    heard = bytearray()
    ended = asyncio.Event()
    buffer = memoryview(bytearray(size))

    def readable() -> None:
        try:
            count = stream.read_into([buffer[: size // 2], buffer[size // 2 :]])
        except BlockingIOError:
            return
        except OSError:
            stream.close()
            ended.set()
            return
        heard.extend(buffer[:count])

    stream.on_readable(readable)
    async with asyncio.timeout(60):
        for message in [*sent, None]:
            await pipe.messages.put(message)
        await ended.wait()
    await running
    assert bytes(heard) == b"".join(sent)


async def test_a_slow_reader_holds_the_peer_back() -> None:
    """What nobody reads stays with gRPC, whose flow control reaches the peer."""
    pipe, stream = Pipe(), IncomingStream()
    running = asyncio.create_task(stream.run(pipe.read))
    for _ in range(3):
        await pipe.messages.put(b"message")
    for _ in range(20):
        await asyncio.sleep(0)
    assert pipe.messages.full()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
