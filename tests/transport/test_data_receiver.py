"""The decode side of a data connection, over a socket pair."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from prfaas.errors import RemoteProtocolError
from prfaas.transport.data_receiver import DataReceiver
from prfaas.transport.data_stream import SocketStream
from prfaas.types import Part, Piece
from prfaas.wire.frame import FrameHeader, encode_header

PAYLOAD = memoryview(bytes(100))
FRAME = encode_header(FrameHeader(1, 1, 0, 0, Piece(0, Part.KV, 0, 0, 1, 100)), PAYLOAD) + PAYLOAD


class Ledger:
    """A sink that counts what it grants and what comes back."""

    def __init__(self, grant: Callable[[], int]) -> None:
        self.grant = grant
        self.granted = self.discarded = self.frames = 0

    def slot_for(self, header: FrameHeader) -> int | None:
        slot = self.grant()
        self.granted += 1
        return slot

    def slot_memory(self, slot: int) -> memoryview:
        return memoryview(bytearray(4096))

    def frame(self, header: FrameHeader, slot: int | None) -> None:
        self.frames += 1

    def discard(self, header: FrameHeader, slot: int | None) -> None:
        self.discarded += 1

    def damaged(self, header: FrameHeader, slot: int | None, connection: int, number: int) -> None:
        raise AssertionError

    def burst_end(self) -> None:
        pass


def refuse() -> int:
    raise RemoteProtocolError("frame without credit")


def fail() -> int:
    raise IndexError("a bug")


async def read(sink: Ledger, data: bytes, *, is_closed: bool) -> str:
    """Let a receiver read these bytes; why it ended."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        receiver = DataReceiver(SocketStream(near), 1, sink, 4096)
        far.sendall(data)
        if is_closed:
            far.close()
        async with asyncio.timeout(60):
            return await receiver.run()


@pytest.mark.parametrize(("grant", "reason"), [(refuse, "frame without credit"), (fail, "a bug here, see the log")])
async def test_a_frame_that_was_not_granted_is_not_given_back(grant: Callable[[], int], reason: str) -> None:
    """A peer that sends without credit gains none by it, and whatever fails ends the connection, once."""
    sink = Ledger(grant)
    assert await read(sink, FRAME, is_closed=False) == reason
    assert (sink.granted, sink.discarded) == (0, 0)


async def test_a_granted_frame_that_breaks_off_is_given_back_once() -> None:
    """Whole frames are the sink's; of the broken one slot and credit return."""
    sink = Ledger(lambda: 0)
    assert await read(sink, FRAME + FRAME[:90], is_closed=True) == "closed by the peer"
    assert (sink.granted, sink.frames, sink.discarded) == (2, 1, 1)
