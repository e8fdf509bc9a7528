"""A TCP relay that a test puts between two movers, to damage, cut or silence what passes."""

import contextlib
import selectors
import socket
import threading

CHUNK_BYTES = 64 << 10
HANDSHAKE_BYTES = 8 << 10
"""More than a TLS handshake sends one way, less than a frame."""


class Relay:
    """Listens on ``listen`` and passes bytes to ``target`` and back.

    Attributes:
        flip_at: offset, in the bytes from target to client from now on, of the one byte to flip; None flips none.
        flip_every: flip one byte of every so many bytes to the client after the first HANDSHAKE_BYTES of a connection;
            None flips none.
        is_silent: nothing passes any more, in either direction, while connections stay open.
        spares_oldest: the oldest connection is neither damaged nor cut: one that is control, not data.
        passed: bytes passed from target to client.
    """

    def __init__(self, listen: tuple[str, int], target: tuple[str, int]) -> None:
        self.flip_at: int | None = None
        self.flip_every: int | None = None
        self.is_silent = self.spares_oldest = False
        self.passed = 0
        self._target = target
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._clients: dict[socket.socket, None] = {}
        self._passed_by: dict[socket.socket, int] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(listen)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._is_open = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close every connection that is not spared; new ones are welcome."""
        with self._lock:
            for sock in list(self._clients)[1 if self.spares_oldest else 0 :]:
                self._drop(sock)

    def swallow(self) -> None:
        """Let nothing pass any more on the connections there are, without closing them; new ones work."""
        with self._lock:
            for sock in self._pairs:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(sock)

    def close(self) -> None:
        self._is_open = False
        self._thread.join()
        self.spares_oldest = False
        self.cut()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while self._is_open:
            for key, _ in self._selector.select(0.02):
                with self._lock:
                    self._ready(key.fileobj)  # type: ignore[arg-type]

    def _ready(self, sock: socket.socket) -> None:
        if sock is self._listener:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._target)
            self._pairs[client], self._pairs[server] = server, client
            self._clients[client] = None
            for end in (client, server):
                self._selector.register(end, selectors.EVENT_READ)
        elif sock in self._pairs and not self.is_silent:
            self._pass(sock)

    def _pass(self, sock: socket.socket) -> None:
        try:
            data = bytearray(sock.recv(CHUNK_BYTES))
            if not data:
                self._drop(sock)
                return
            if sock not in self._clients:
                self.passed += len(data)
                if not self.spares_oldest or self._pairs[sock] != next(iter(self._clients)):
                    self._flip(data, skip=HANDSHAKE_BYTES - self._passed_by.get(sock, 0))
                self._passed_by[sock] = self._passed_by.get(sock, 0) + len(data)
            self._pairs[sock].sendall(data)
        except OSError:
            self._drop(sock)

    def _flip(self, data: bytearray, skip: int) -> None:
        if self.flip_every is not None:
            for at in range(len(data) - 1, max(0, skip), -self.flip_every):
                data[at] ^= 0x10
        if self.flip_at is None:
            return
        if self.flip_at < len(data):
            data[self.flip_at] ^= 0x10
            self.flip_at = None
        else:
            self.flip_at -= len(data)

    def _drop(self, sock: socket.socket) -> None:
        for end in (sock, self._pairs.get(sock)):
            if end is not None and end in self._pairs:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()
                self._passed_by.pop(end, None)
        other = self._pairs.pop(sock, None)
        if other is not None:
            self._pairs.pop(other, None)
            self._clients.pop(other, None)
        self._clients.pop(sock, None)
