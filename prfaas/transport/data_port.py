"""The TCP port for frames: takes connections that know a token of this mover, drops all others without a word."""

import asyncio
import hmac
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from prfaas.errors import ConfigError, RemoteProtocolError
from prfaas.transport.data_socket import JOIN_BYTES, decode_join, receive_exactly, tune
from prfaas.transport.data_stream import DataStream, SocketStream
from prfaas.transport.path_fit import fit
from prfaas.transport.tls import KeyRing
from prfaas.transport.tls_stream import TlsStream

JOIN_TIMEOUT_S = 5.0
ACCEPT_PAUSE_S = 0.1
"""After a failed accept (no descriptors left, mostly): trying again at once would spin."""
MAX_JOINING = 64
"""Connections that have not shown a token yet: enough for a restart of all peers; beyond it one makes room."""

log = logging.getLogger(__name__)


class Senders(Protocol):
    """What sends on data connections."""

    def join(self, stream: DataStream, connection: int) -> bool:
        """Take a data connection that showed the token; False when it cannot be taken."""
        ...


class DataOwner(Protocol):
    """Whose data connections these are: a session's, or a probe's."""

    @property
    def token(self) -> bytes: ...

    @property
    def senders(self) -> Senders: ...


Owner = TypeVar("Owner", bound=DataOwner)


def owner_of(owners: Iterable[Owner], token: bytes) -> Owner | None:
    """The one with this token; takes as long for a wrong one, however near it comes."""
    found = [owner for owner in owners if hmac.compare_digest(owner.token, token)]
    return found[0] if found else None


class DataPort:
    """Accepts data connections and gives each to whoever it belongs to."""

    def __init__(
        self, host: str, port: int, owners: Callable[[], list[DataOwner]], ring: KeyRing | None, lease_s: float
    ) -> None:
        try:
            self._listener = socket.create_server((host, port), backlog=MAX_JOINING)
        except OSError as error:
            raise ConfigError(f"cannot listen for data on {host}:{port}: {error.strerror or error}") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._owners = owners
        self._ring, self._lease_s = ring, lease_s
        self._joining: dict[asyncio.Task[None], str] = {}

    async def serve(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as joins:
                while True:
                    try:
                        sock, (host, *_) = await loop.sock_accept(self._listener)
                    except OSError as error:
                        log.error("cannot accept a data connection: %s", error.strerror or error)
                        await asyncio.sleep(ACCEPT_PAUSE_S)
                        continue
                    self._make_room()
                    join = joins.create_task(self._join(sock))
                    self._joining[join] = host
                    join.add_done_callback(lambda done: self._joining.pop(done, None))
        finally:
            self._listener.close()

    def _make_room(self) -> None:
        """At the limit drop the oldest connection of the host that has most: a host only crowds out itself."""
        if len(self._joining) < MAX_JOINING:
            return
        ((host, _),) = Counter(self._joining.values()).most_common(1)
        oldest = next(join for join, theirs in self._joining.items() if theirs == host)
        del self._joining[oldest]
        oldest.cancel()

    async def _join(self, sock: socket.socket) -> None:
        """Read the join and hand the connection over, or close it."""
        is_taken = False
        try:
            is_taken = await self._hand_over(sock)
        except (OSError, RemoteProtocolError) as error:
            log.warning("a connection to the data port was dropped: %s", error or "no join in time")
        except Exception:  # or one connection would end the port
            log.exception("a bug ended a connection to the data port")
        finally:
            if not is_taken:
                sock.close()

    async def _hand_over(self, sock: socket.socket) -> bool:
        """Whether a session takes the connection, which must show its token in time."""
        tune(sock, self._lease_s)
        fit(sock)
        async with asyncio.timeout(JOIN_TIMEOUT_S):
            stream, data = await self._first_bytes(sock)
        if len(data) < JOIN_BYTES:
            return False
        connection, token = decode_join(data)
        owner = owner_of(self._owners(), token)
        return owner is not None and owner.senders.join(stream, connection)

    async def _first_bytes(self, sock: socket.socket) -> tuple[DataStream, bytes]:
        """The stream and its first bytes, as many as a join has, or fewer when it ends before.

        Raises:
            RemoteProtocolError: a certificate of nobody who may load caches here.
        """
        if self._ring is None:
            return SocketStream(sock), await receive_exactly(sock, JOIN_BYTES)
        stream = TlsStream(sock, self._ring.keys().server, None)
        await stream.handshake()
        if not set(stream.peer_names) & set(self._ring.settings.decode_names):
            raise RemoteProtocolError(f"a certificate of {', '.join(stream.peer_names)}, which has no link from here")
        return stream, await stream.receive_exactly(JOIN_BYTES)
