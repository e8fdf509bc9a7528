"""Data connections: how they are made, joined to a session and tuned. Frames only flow towards the decode side."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.transport.data_stream import DataStream, SocketStream
from prfaas.transport.path_fit import fit
from prfaas.transport.tls_stream import TlsStream

JOIN_MAGIC = b"PFKJ"
JOIN_VERSION = 1
TOKEN_BYTES = 16
CONNECT_TIMEOUT_S = 5.0
"""A WAN round trip takes 0.1 s, three lost SYNs 3 s: beyond it the network is out."""
KEEPALIVE_S = 5

DataConnection = AbstractAsyncContextManager[DataStream]
"""A data connection that is opened and joined with the context and closed with it."""

_JOIN = struct.Struct(f">4sBxxxI{TOKEN_BYTES}s")
JOIN_BYTES = _JOIN.size


def encode_join(connection: int, token: bytes) -> bytes:
    """The first bytes on a data connection, from the decode side."""
    return _JOIN.pack(JOIN_MAGIC, JOIN_VERSION, connection, token)


def decode_join(data: bytes) -> tuple[int, bytes]:
    """Return the connection's number and the session's token.

    Raises:
        RemoteProtocolError: these are not the first bytes of a data connection.
    """
    magic, version, connection, token = _JOIN.unpack(data)
    if magic != JOIN_MAGIC or version != JOIN_VERSION:
        raise RemoteProtocolError("a connection to the data port did not begin with a join")
    return connection, token


def tune(sock: socket.socket, lease_s: float) -> None:
    """Set what both ends want, whatever the path; ``path_fit`` does the rest. Sent bytes that nobody acknowledges
    within the lease end the connection, instead of TCP's quarter of an hour."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(lease_s * 1e3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)


async def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive ``size`` bytes, or fewer at the end of the stream."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size and (more := await loop.sock_recv(sock, size - len(data))):
        data += more
    return data


@asynccontextmanager
async def connect(
    host: str, port: int, connection: int, token: bytes, tls: tuple[ssl.SSLContext, str] | None, lease_s: float
) -> AsyncIterator[DataStream]:
    """Open a data connection and join it to a session; it is closed with the context.

    Args:
        tls: our certificates and the name that the peer's must carry; None for plain text.
        lease_s: how long silence is borne.

    Raises:
        TransferFailed: it cannot be opened in time.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            family, kind, proto, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
            sock = socket.socket(family, kind, proto)
            try:
                tune(sock, lease_s)
                await loop.sock_connect(sock, address)
                fit(sock)
                stream = await _join(sock, encode_join(connection, token), tls)
            except BaseException:
                sock.close()
                raise
    except OSError as error:
        raise TransferFailed(f"no data connection to {host}:{port}: {error or 'timed out'}") from error
    try:
        yield stream
    finally:
        stream.close()


async def _join(sock: socket.socket, join: bytes, tls: tuple[ssl.SSLContext, str] | None) -> DataStream:
    if tls is None:
        await asyncio.get_running_loop().sock_sendall(sock, join)
        return SocketStream(sock)
    stream = TlsStream(sock, *tls)
    await stream.handshake()
    await stream.send_all(join)
    return stream
