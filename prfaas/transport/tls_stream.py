"""TLS 1.3 on a data connection: records are made and opened in memory, many for each system call.

OpenSSL on the socket itself costs two reads and one write for each record of 16 KiB. In memory it copies once more each
way, which is cheaper: see ``docs/decisions/031-tls-in-memory.md``.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import cast

from prfaas.transport.data_stream import Callback

CIPHER_BYTES = 256 << 10
"""Encrypted bytes per system call: 16 records, which stay in the processor's cache between the copies."""
MAX_WRITTEN_BYTES = 256 << 30
"""Of one connection; then one with new keys takes over. AES-GCM is good for 2^24.5 whole records (RFC 8446, 5.5), some
360 GiB, which a fast link sends in minutes, and neither OpenSSL nor BoringSSL renews keys by itself."""
RECORD_BYTES = 16 << 10
"""The most that one call of OpenSSL encrypts or returns."""


class TlsStream:
    """A TLS connection as a ``DataStream``; ``handshake`` first. Owns the socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        """With ``server_name`` the dialing side, which accepts only a certificate of that name; else the listening."""
        self.socket = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._cipher = memoryview(bytearray(CIPHER_BYTES))
        self._unsent = memoryview(bytearray())
        self._records: deque[tuple[int, int]] = deque()
        """Of each record under way: what is unsent when it is sent, and its plain bytes."""
        self._written_bytes = 0
        self._callback: Callback | None = None
        self._is_drained = True
        self._is_open = True

    @property
    def peer_names(self) -> list[str]:
        """DNS names in the peer's certificate, after the handshake."""
        certificate = self._tls.getpeercert() or {}
        names = cast(Sequence[tuple[str, str]], certificate.get("subjectAltName", ()))
        return [name for kind, name in names if kind == "DNS"]

    # waiting for the peer, before frames flow ------------------------------------------------------------------

    async def handshake(self) -> None:
        """Agree on keys and check certificates. Raises OSError (``ssl.SSLError`` is one): no TLS, a wrong peer."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fetch_later()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert that tells the peer why
                raise
        await self._flush()

    async def send_all(self, data: bytes) -> None:
        """Send a few bytes (up to one record)."""
        self._tls.write(data)
        await self._flush()

    async def receive_exactly(self, size: int) -> bytes:
        """Receive ``size`` bytes, or less at the end of the stream."""
        data = b""
        while len(data) < size:
            try:
                more = self._tls.read(size - len(data))
            except ssl.SSLWantReadError:
                if not await self._fetch_later():
                    break
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            data += more
        return data

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self.socket, self._outgoing.read())

    async def _fetch_later(self) -> bool:
        data = await self._loop.sock_recv(self.socket, RECORD_BYTES)
        self._put(data)
        return bool(data)

    # DataStream ------------------------------------------------------------------------------------------------

    def on_readable(self, callback: Callback) -> None:
        """See ``DataStream``."""
        self._callback = callback
        self._loop.add_reader(self.socket, self._readable)
        self._loop.call_soon(self._readable)  # bytes that came with the end of the handshake

    def await_bytes(self, size: int) -> None:
        """Without effect: part of the record that completes them may be here already, still encrypted."""

    def on_writable(self, callback: Callback | None) -> None:
        """See ``DataStream``."""
        if callback is None:
            self._loop.remove_writer(self.socket)
        else:
            self._loop.add_writer(self.socket, callback)

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``."""
        total = 0
        for buffer in buffers:
            filled = 0
            while filled < len(buffer):
                size = self._read(buffer[filled:], may_wait=not total + filled)
                if size == 0:
                    return total + filled
                filled += size
            total += filled
        return total

    def _read(self, buffer: memoryview, *, may_wait: bool) -> int:
        """One record, or 0 at the end of the stream or of what is there (``may_wait``: BlockingIOError instead)."""
        while True:
            try:
                self._is_drained = False
                return self._tls.read(len(buffer), buffer)  # type: ignore[return-value]  # a count, with a buffer
            except ssl.SSLWantReadError:
                self._is_drained = True
                if not may_wait:
                    return 0
                self._fetch()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0

    def write(self, buffers: Sequence[memoryview]) -> int:
        """See ``DataStream``; bytes count as written once the kernel has their record: then the peer may answer."""
        if self._written_bytes >= MAX_WRITTEN_BYTES:
            raise OSError("its keys are used up")
        if not self._unsent:
            self._encrypt(buffers)
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        written = 0
        while self._records and self._records[0][0] >= len(self._unsent):
            written += self._records.popleft()[1]
        if not written:
            raise BlockingIOError
        self._written_bytes += written
        return written

    def close(self) -> None:
        """See ``DataStream``. No goodbye to the peer: the manifest alone says what is complete."""
        if self._is_open:
            self._is_open = False
            self._callback = None
            self._loop.remove_reader(self.socket)
            self._loop.remove_writer(self.socket)
            self.socket.close()

    def _readable(self) -> None:
        """Call back, and again if the callback left bytes that no event of the socket will announce."""
        if self._callback is None:
            return
        self._callback()
        if not self._is_drained and self._is_open:
            self._loop.call_soon(self._readable)

    def _encrypt(self, buffers: Sequence[memoryview]) -> None:
        ends: list[tuple[int, int]] = []
        for buffer in buffers:
            taken = 0
            while taken < len(buffer) and self._outgoing.pending < CIPHER_BYTES:
                size = self._tls.write(buffer[taken : taken + RECORD_BYTES])
                taken += size
                ends.append((self._outgoing.pending, size))
            if taken < len(buffer):
                break
        self._unsent = memoryview(self._outgoing.read())
        self._records.extend((len(self._unsent) - end, size) for end, size in ends)

    def _fetch(self) -> None:
        self._put(self._cipher[: self.socket.recv_into(self._cipher)])

    def _put(self, data: bytes | memoryview) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
