"""The TCP port for frames: who gets in, whatever others do there."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from prfaas.transport import data_port as data_port_module
from prfaas.transport.accepted_session import AcceptedSession
from prfaas.transport.data_port import MAX_JOINING, DataPort
from prfaas.transport.data_socket import TOKEN_BYTES, encode_join
from prfaas.transport.data_socket import connect as connect_data
from prfaas.transport.data_stream import DataStream

TOKEN = bytes(range(TOKEN_BYTES))
PATIENCE_S = 60.0
"""Far above any wait of a test that passes."""


class Owner:
    """A session that takes every connection, except the first ``bugs`` ones."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.senders = self
        self.bugs = self.timeout_ms = 0
        self.taken: asyncio.Queue[int] = asyncio.Queue()

    def join(self, stream: DataStream, connection: int) -> bool:
        if self.bugs:
            self.bugs -= 1
            raise ValueError("a bug")
        assert stream.socket is not None
        self.timeout_ms = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        self.taken.put_nowait(connection)
        return False  # the port closes it


@pytest.fixture
async def owner() -> Owner:
    return Owner()


@pytest.fixture
async def port(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A port where nobody is dropped for being slow alone."""
    monkeypatch.setattr(data_port_module, "JOIN_TIMEOUT_S", 3600.0)
    data_port = DataPort("127.0.0.1", 0, lambda: [cast(AcceptedSession, owner)], None, lease_s=2.0)
    serving = asyncio.create_task(data_port.serve())
    yield data_port.port
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def connect(port: int, host: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((host, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def received(sock: socket.socket) -> bytes:
    """What comes, empty at the end of the connection."""
    try:
        return await asyncio.get_running_loop().sock_recv(sock, 1)
    except ConnectionResetError:
        return b""


async def test_silent_strangers_do_not_keep_a_peer_out(owner: Owner, port: int) -> None:
    """Of those who fill the port the oldest makes room, and not a slow peer that came even before it."""
    slow = await connect(port, "127.0.0.3")
    strangers = [await connect(port, "127.0.0.2") for _ in range(MAX_JOINING)]
    peer = await connect(port, "127.0.0.4")
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.get_running_loop().sock_sendall(peer, encode_join(7, TOKEN))
        assert await owner.taken.get() == 7
        assert await received(strangers[0]) == b""
        await asyncio.get_running_loop().sock_sendall(slow, encode_join(8, TOKEN))
        assert await owner.taken.get() == 8
    with pytest.raises(BlockingIOError):
        strangers[-1].recv(1)
    for sock in (slow, peer, *strangers):
        sock.close()


async def test_a_bug_with_one_connection_leaves_the_port_open(owner: Owner, port: int, caplog: Any) -> None:
    """It is logged with its traceback, and the next peer gets in."""
    owner.bugs = 1
    async with asyncio.timeout(PATIENCE_S):
        for connection in (1, 2):
            sock = await connect(port, "127.0.0.1")
            await asyncio.get_running_loop().sock_sendall(sock, encode_join(connection, TOKEN))
            assert await received(sock) == b""
            sock.close()
    assert owner.taken.get_nowait() == 2
    assert "ValueError: a bug" in caplog.text


async def test_unacknowledged_bytes_end_a_connection_with_the_lease(owner: Owner, port: int) -> None:
    """The kernel gives it up when the session would, at both ends."""
    async with asyncio.timeout(PATIENCE_S), connect_data("127.0.0.1", port, 1, TOKEN, None, 3.0) as stream:
        assert stream.socket is not None
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        assert await owner.taken.get() == 1
        assert owner.timeout_ms == 2000
