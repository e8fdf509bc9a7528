"""Plain TCP as a byte stream."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from prfaas.transport.data_stream import SocketStream

Ends = tuple[SocketStream, socket.socket]


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    """A stream and the plain socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    stream = SocketStream(near)
    with far:
        yield stream, far
    stream.close()


@pytest.mark.parametrize("ends_early", [False, True], ids=["bytes", "end"])
async def test_fewer_bytes_than_awaited_do_not_wake(ends: Ends, ends_early: bool) -> None:
    """One wake for all of them; the end of the stream does not wait for more."""
    stream, far = ends
    readable = asyncio.Event()
    stream.await_bytes(1000)
    stream.on_readable(readable.set)
    far.sendall(bytes(999))
    await asyncio.sleep(0.05)  # nothing may happen, which no condition can tell
    assert not readable.is_set()
    if ends_early:
        far.shutdown(socket.SHUT_WR)
    else:
        far.sendall(bytes(1))
    async with asyncio.timeout(60):
        await readable.wait()
    assert stream.read_into([memoryview(bytearray(2000))]) == (999 if ends_early else 1000)
