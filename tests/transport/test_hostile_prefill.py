"""A prefill engine that breaks the rules, against a real decode mover."""

import contextlib
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import pytest

from prfaas.transport.data_socket import JOIN_BYTES, TOKEN_BYTES
from prfaas.transport.grpc_options import ADMITTED
from prfaas.transport.messages import LoadComplete, LoadFailed, OpenLoad, StartLoad
from prfaas.transport.transfer_pb2_grpc import KvLinkServicer, add_KvLinkServicer_to_server
from prfaas.types import Part, Piece
from prfaas.wire import control
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import ControlMessage, Welcome, decode_batch, encode_batch
from prfaas.wire.frame import FrameHeader, encode_header
from tests.transport.movers import PATIENCE_S, Pair, TinyEngine, outcome_of, rows

EPOCH = 9
HEARTBEAT_S = 2.0
"""Of the mover under attack, which hears one far more often."""
FRAME_BYTES = 1000
_attacks = count()


class Mallory(KvLinkServicer):
    """Welcomes whoever dials; the rest is up to the test.

    Attributes:
        address: where it is dialed.
        heard: what was said to it, in order.
    """

    def __init__(self) -> None:
        self.heard: list[ControlMessage] = []
        self._to_say: SimpleQueue[list[ControlMessage] | None] = SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_KvLinkServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Session(self, requests: Iterator[pb.ControlBatch], context: Any) -> Iterator[pb.ControlBatch]:
        context.send_initial_metadata(ADMITTED)
        next(requests)
        yield encode_batch([Welcome(1, "mallory", EPOCH, self._listener.getsockname()[1], bytes(TOKEN_BYTES))])
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()
        for number in itertools.count(1):
            messages = self._next_words()
            if messages is None:
                return
            yield encode_batch(messages, number)

    def _next_words(self) -> list[ControlMessage] | None:
        """What the test wants said, or a heartbeat; None at the end."""
        try:
            return self._to_say.get(timeout=HEARTBEAT_S / 8)
        except Empty:
            return [control.Heartbeat(0, 0, 0)]

    def _listen(self, requests: Iterator[pb.ControlBatch]) -> None:
        with contextlib.suppress(grpc.RpcError):
            for batch in requests:
                self.heard += decode_batch(batch)
        self._to_say.put(None)

    def say(self, *messages: ControlMessage) -> None:
        """Say this in one batch."""
        self._to_say.put(list(messages))

    def credit(self) -> int:
        """Frames that were granted so far."""
        return sum(message.frames for message in self.heard if isinstance(message, control.Credit))

    def accept(self) -> socket.socket:
        """The next data connection, joined."""
        sock, _ = self._listener.accept()
        sock.settimeout(PATIENCE_S)
        assert len(sock.recv(JOIN_BYTES, socket.MSG_WAITALL)) == JOIN_BYTES
        return sock

    def close(self) -> None:
        self._to_say.put(None)
        self._server.stop(None)
        self._listener.close()


def frame(handle: int, sequence: int, **changes: int) -> bytes:
    """A good frame, unless ``changes`` of its piece make it another."""
    piece = Piece(**({"layer": 0, "part": Part.KV, "index": 0, "first": sequence, "count": 1} | changes),  # type: ignore[arg-type]
                  length=FRAME_BYTES)  # fmt: skip
    payload = memoryview(bytes(FRAME_BYTES))
    return encode_header(FrameHeader(handle, EPOCH, sequence, 0, piece), payload) + payload


def is_closed(sock: socket.socket) -> bool:
    """Wait for the end of the connection, which closes it here, too."""
    with sock, contextlib.suppress(ConnectionResetError):
        return sock.recv(1) == b""
    return True


@pytest.fixture(scope="module")
def wide_pair() -> Iterator[Pair]:
    prefill, decode = (
        TinyEngine("cloud"),
        TinyEngine("edge", heartbeat_s=HEARTBEAT_S, data_connections=1, max_connections=1),
    )
    yield Pair(prefill, decode)
    decode.close()
    prefill.close()


@pytest.fixture
def pair(wide_pair: Pair) -> Iterator[Pair]:
    """The mover under attack with its honest prefill engine, which still serves it afterwards."""
    yield wide_pair
    wide_pair.decode.returns_slots = True
    wide_pair.decode.return_slots()
    assert isinstance(wide_pair.move(f"after attack {next(_attacks)}", rows(16), 16), LoadComplete)
    wide_pair.decode.worker_heard.clear()
    wide_pair.settle()


@pytest.fixture
def mallory() -> Iterator[Mallory]:
    mallory = Mallory()
    yield mallory
    mallory.close()


def begin(pair: Pair, mallory: Mallory, name: str) -> int:
    """Open and start a load there and wait for credit; return its handle."""
    pair.decode.scheduler.send(OpenLoad(name, "secret", mallory.address, 30.0))
    pair.decode.scheduler.send(StartLoad(name, 0, 1000))
    pair.until(mallory.credit)
    return next(message.handle for message in mallory.heard if isinstance(message, control.Open))


def test_frames_without_credit_cost_their_connection_alone(pair: Pair, mallory: Mallory) -> None:
    """However often it is tried: a refused frame gives no credit back, and no slot is filled twice."""
    handle = begin(pair, mallory, "greedy")
    pair.decode.returns_slots = False
    granted = mallory.credit()
    connection = mallory.accept()
    for sequence in range(granted):
        connection.sendall(frame(handle, sequence))
    pair.until(lambda: len(pair.decode.lent) == granted)
    for sequence in range(granted, granted + 3):
        connection.sendall(frame(handle, sequence))
        assert is_closed(connection)
        connection = mallory.accept()
    connection.close()
    assert len(pair.decode.lent) == granted
    mallory.close()
    assert isinstance(pair.until(lambda: outcome_of(pair.decode.worker_heard, "greedy")), LoadFailed)


NOISE = {"http": b"HTTP/1.1 200 OK\r\n" * 10, "zeros": bytes(48), "header": frame(1, 0)[:44] + bytes(4)}


@pytest.mark.parametrize("first_bytes", NOISE.values(), ids=NOISE)
def test_bytes_that_are_no_frames_cost_their_connection(pair: Pair, mallory: Mallory, first_bytes: bytes) -> None:
    """It is made anew; its load fails when the session ends."""
    begin(pair, mallory, "noise")
    connection = mallory.accept()
    connection.sendall(first_bytes)
    assert is_closed(connection)
    mallory.accept().close()
    mallory.close()
    assert isinstance(pair.until(lambda: outcome_of(pair.decode.worker_heard, "noise")), LoadFailed)


def test_random_messages_and_frames_end_the_session_and_nothing_else(pair: Pair, mallory: Mallory) -> None:
    """Whatever a prefill engine says in whatever order, the mover serves the next one."""
    chaos = random.Random(5)

    def small() -> int:
        return chaos.choice([0, 1, 2, 3, 65_536, (1 << 32) - 1])

    makers: list[Callable[[], ControlMessage]] = [
        lambda: control.Accepted(small()),
        lambda: control.Manifest(small(), small(), small(), small(), small(), (control.Entry(0, 1, 0, 0, small()),)),
        lambda: control.Abort(small(), "x"),
        lambda: control.Hangup(small()),
        lambda: control.Connections(small()),
        lambda: control.Heartbeat(small(), small(), small()),
    ]
    handle = begin(pair, mallory, "chaos")
    connection = mallory.accept()
    with contextlib.suppress(OSError):
        for sequence in range(40):
            connection.sendall(frame(chaos.choice([handle, small()]), sequence, layer=chaos.choice([0, 3, 4, 65_535])))
            mallory.say(*(chaos.choice(makers)() for _ in range(20)))
    connection.close()
    mallory.close()
    assert isinstance(pair.until(lambda: outcome_of(pair.decode.worker_heard, "chaos")), LoadFailed)
