"""What a bug of ours in one connection or message ends: that one alone, with its traceback in the log."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from prfaas.transport.channel import EngineChannel
from prfaas.transport.data_receiver import DataReceiver
from prfaas.transport.data_sender import DataSender
from prfaas.transport.data_stream import SocketStream
from prfaas.transport.engine_port import EnginePort
from prfaas.transport.messages import AskStatistics, FromEngine, Ready
from prfaas.types import Part, Piece
from prfaas.wire.frame import FrameHeader, encode_header
from prfaas.wire.save import OutgoingFrame

PAYLOAD = memoryview(bytes(1000))
HEADER = FrameHeader(1, 1, 0, 0, Piece(0, Part.KV, 0, 0, 1, len(PAYLOAD)))


class Faulty:
    """Both a sink and a source of frames, with a bug."""

    def __init__(self) -> None:
        self.discarded: list[int | None] = []
        self.failed = asyncio.Event()

    def slot_for(self, header: FrameHeader) -> int | None:
        raise ValueError("a bug")

    def slot_memory(self, slot: int) -> memoryview:
        return memoryview(bytearray(len(PAYLOAD)))

    def frame(self, header: FrameHeader, slot: int | None) -> None:
        pass

    def discard(self, header: FrameHeader, slot: int | None) -> None:
        self.discarded.append(slot)

    def damaged(self, header: FrameHeader, slot: int | None, connection: int, number: int) -> None:
        pass

    def burst_end(self) -> None:
        pass

    def next_frame(self) -> tuple[OutgoingFrame, int, bytes, memoryview] | None:
        raise ValueError("a bug")

    def written(self, frame: OutgoingFrame) -> None:
        pass

    def connection_failed(self, connection: int, reason: str) -> None:
        self.failed.set()


async def test_a_receiver_closes_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """Its bytes would be readable for ever; a frame that was refused a slot gives none back."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    sink = Faulty()
    theirs.sendall(encode_header(HEADER, PAYLOAD))
    async with asyncio.timeout(60):
        assert "bug" in await DataReceiver(SocketStream(ours), 1, sink, 1 << 16).run()
    theirs.close()
    assert sink.discarded == []
    assert "ValueError: a bug" in caplog.text


async def test_a_sender_that_waits_for_room_closes_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The socket would be writable for ever."""

    class Waits(SocketStream):
        def write(self, buffers: Sequence[memoryview]) -> int:
            raise BlockingIOError

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    source = Faulty()
    sender = DataSender(Waits(ours), 1, source)
    sender._buffers.append(PAYLOAD)
    sender.pump()
    sender._buffers.clear()
    async with asyncio.timeout(60):
        await source.failed.wait()
    theirs.close()
    assert "ValueError: a bug" in caplog.text


async def test_messages_behind_one_that_fails_are_still_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One read takes many messages; the engine waits for an answer to each."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker, heard, is_over = EngineChannel(theirs), 0, asyncio.Event()

    def receive(message: FromEngine) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            raise ValueError("a bug")
        is_over.set()

    port = EnginePort(ours, str(tmp_path / "socket"), receive, lambda: None)
    worker.send(AskStatistics())
    worker.send(AskStatistics())
    port.open(Ready(""))
    async with asyncio.timeout(60):
        await is_over.wait()
    port.close()
    worker.close()
    assert "ValueError: a bug" in caplog.text
