"""Asking a mover what it is and how fast the path from it is, before there is traffic.

    dialer = dialer_to(config, "edge", "cloud-0")     # as an engine of site "edge" would dial engine "cloud-0"
    answer = await describe(dialer)                    # who answers there, round trip, difference of the clocks
    probed = await probe(dialer, ProbeOrder())         # noise for two seconds over the link's data connections

Imports neither torch nor vllm.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import grpc
import msgspec

from prfaas.clock import Clock, MonotonicClock
from prfaas.config import Config, tls_settings
from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.transport.data_socket import TOKEN_BYTES
from prfaas.transport.data_stream import DataStream
from prfaas.transport.dialer import Dialer
from prfaas.transport.grpc_options import explain
from prfaas.transport.noise import JOIN_WAIT_S
from prfaas.transport.settings import TlsSettings
from prfaas.transport.tls import KeyRing
from prfaas.transport.transfer_pb2_grpc import KvLinkStub
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import Welcome
from prfaas.wire.description import Description, decode_description

DESCRIBE_TIMEOUT_S = 5.0
"""Of each question: as long as the handshake of a session may take."""
ROUND_TRIPS = 5
"""Questions of a ``describe``: the shortest round trip is told, which no queue has lengthened."""
LEASE_S = 10.0
"""Silence that ends a data connection of a probe, as a mover's default."""
READ_BYTES = 1 << 20
BURST_READS = 4
"""Reads before other connections get their turn: about 2 ms of the loop."""
DRAIN_S = 1.0
"""For what is under way when the mover has sent its last; on a slow link not all of it comes."""
SAMPLE_S = 0.02
"""Between two notes of how much has arrived: a hundred of a probe of two seconds."""


class NoAnswer(TransferFailed):
    """A mover did not say what it is.

    Attributes:
        reason: nobody answers there (``silent``), or not in time (``late``), one of the two does not admit the other
            (``identity``), or its prfaas does not know the question (``old``).
    """

    def __init__(self, message: str, reason: Literal["silent", "late", "identity", "old"]) -> None:
        super().__init__(message)
        self.reason = reason


class NothingCame(TransferFailed):
    """Data connections were made, and not one byte came over them."""


@dataclass(frozen=True)
class Answer:
    """What a mover said.

    Attributes:
        description: its engine.
        rtt_s: the shortest round trip of a question, seconds.
        clock_ahead_s: its machine's clock minus this one's, seconds; right to half a round trip.
    """

    description: Description
    rtt_s: float
    clock_ahead_s: float


@dataclass(frozen=True)
class ProbeOrder:
    """What to measure with; the mover's bounds are in ``noise``.

    Attributes:
        duration_s: how long noise is sent.
        size_bytes: after how many bytes it ends sooner.
        connections: data connections at once: over a long path one alone shows what TCP does, not what the link has.
        engine_id: the decode engine whose link's rate limit holds; empty for none.
    """

    duration_s: float = 2.0
    size_bytes: int = 1 << 30
    connections: int = 8
    engine_id: str = ""


@dataclass(frozen=True)
class Probed:
    """What was measured.

    Attributes:
        connections: data connections that were made.
        received_bytes: that arrived here within the time.
        elapsed_s: from the first byte to the last.
        goodput_bytes_s: bytes a second over the second half of that time, when TCP has found its pace.
        sent_segments, retransmitted_segments: by the sender's kernel; 0 over gRPC.
    """

    connections: int
    received_bytes: int
    elapsed_s: float
    goodput_bytes_s: float
    sent_segments: int = 0
    retransmitted_segments: int = 0

    @property
    def goodput_gbps(self) -> float:
        """The goodput in the unit of ``links.bandwidth_gbps``."""
        return self.goodput_bytes_s / 125e6

    @property
    def retransmit_rate(self) -> float:
        """Share of the segments that had to be sent again."""
        return self.retransmitted_segments / self.sent_segments if self.sent_segments else 0.0


def dialer_to(config: Config, site: str, engine: str) -> Dialer:
    """How engines of ``site`` reach the mover of ``engine``: certificates, and over which transport its caches come.

    Raises:
        ConfigError: the site's certificates cannot be used.
    """
    tls = tls_settings(config, site)
    ring = KeyRing(msgspec.convert(tls, TlsSettings)) if tls else None
    return Dialer(config.engines[engine].kv, ring, over_grpc=engine in config.linked_prefill_engines(site, "grpc"))


async def describe(
    dialer: Dialer, clock: Clock | None = None, unix_s: Callable[[], float] = time.time, trips: int = ROUND_TRIPS
) -> Answer:
    """Ask who answers there, ``trips`` times over one connection.

    Raises:
        NoAnswer: nobody, somebody else, or a mover that does not admit this site; with the way out.
    """
    clock = clock or MonotonicClock()
    answers: list[Answer] = []
    try:
        async with dialer.channel() as channel:
            stub = KvLinkStub(channel)  # type: ignore[no-untyped-call]  # generated code
            for _ in range(trips):
                asked_s, asked_unix_s = clock.now_s(), unix_s()
                reply = await stub.Describe(pb.DescribeRequest(), timeout=DESCRIBE_TIMEOUT_S)
                trip_s = clock.now_s() - asked_s
                ahead_s = reply.unix_ns / 1e9 - (asked_unix_s + trip_s / 2)
                answers.append(Answer(decode_description(reply), trip_s, ahead_s))
    except grpc.aio.AioRpcError as error:
        raise _no_answer(dialer, error) from error
    except RemoteProtocolError as error:
        raise NoAnswer(str(error), "silent") from error
    return min(answers, key=lambda answer: answer.rtt_s)


async def probe(dialer: Dialer, order: ProbeOrder, clock: Clock | None = None) -> Probed:
    """Have the mover send noise, and see how much of it arrives.

    Raises:
        NothingCame: what is sent there does not arrive.
        TransferFailed: no connection, no admission, or another probe runs there.
    """
    arrivals = Arrivals(clock or MonotonicClock())
    request = pb.ProbeRequest(
        size_bytes=order.size_bytes,
        duration_ms=round(order.duration_s * 1e3),
        connections=order.connections,
        engine_id=order.engine_id,
    )
    patience_s = DESCRIBE_TIMEOUT_S + JOIN_WAIT_S + order.duration_s
    try:
        async with dialer.channel() as channel:
            call = KvLinkStub(channel).Probe(request, timeout=patience_s)  # type: ignore[no-untyped-call]
            welcome = _welcome(await call.read())
            dialer.check(welcome)
            last = await _receive(dialer, welcome, order.connections, arrivals, call)
    except grpc.aio.AioRpcError as error:
        raise _failed(dialer, error) from error
    if not arrivals.total_bytes:
        raise NothingCame(f"{order.connections} data connections were made, and not one byte came over them")
    return Probed(
        connections=order.connections,
        received_bytes=arrivals.total_bytes,
        elapsed_s=arrivals.elapsed_s,
        goodput_bytes_s=arrivals.goodput_bytes_s,
        sent_segments=last.sent_segments,
        retransmitted_segments=last.retransmitted_segments,
    )


class Arrivals:
    """Bytes by the time at which they came, in bounded memory."""

    def __init__(self, clock: Clock) -> None:
        self.total_bytes = 0
        self._clock = clock
        self._notes: list[tuple[float, int]] = []

    def add(self, size: int) -> None:
        """So many bytes came now."""
        now_s = self._clock.now_s()
        self.total_bytes += size
        if len(self._notes) > 1 and now_s - self._notes[-2][0] < SAMPLE_S:
            self._notes.pop()
        self._notes.append((now_s, self.total_bytes))

    @property
    def elapsed_s(self) -> float:
        """From the first bytes to the last."""
        return self._notes[-1][0] - self._notes[0][0] if self._notes else 0.0

    @property
    def goodput_bytes_s(self) -> float:
        """Over the second half of that time; 0 when all came at once."""
        if not self.elapsed_s:
            return 0.0
        half_s = self._notes[0][0] + self.elapsed_s / 2
        before = [note for note in self._notes if note[0] <= half_s][-1]
        return (self.total_bytes - before[1]) / (self._notes[-1][0] - before[0])


class _Receiver:
    """Reads one connection to its end."""

    def __init__(self, stream: DataStream, arrivals: Arrivals) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream, self._arrivals = stream, arrivals
        self._scratch = [memoryview(bytearray(READ_BYTES))]
        stream.on_readable(self._readable)

    def _readable(self) -> None:
        for _ in range(BURST_READS):
            try:
                size = self._stream.read_into(self._scratch)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if not size:
                self._stream.close()
                if not self.ended.done():
                    self.ended.set_result(None)
                return
            self._arrivals.add(size)


async def _receive(
    dialer: Dialer,
    welcome: Welcome,
    connections: int,
    arrivals: Arrivals,
    call: "grpc.aio.UnaryStreamCall[pb.ProbeRequest, pb.ProbeReply]",
) -> pb.ProbeReply:
    """Make the connections and read from all until the mover says that it has sent its last."""

    async def one(number: int) -> None:
        async with dialer.data_connection(welcome, LEASE_S, number) as stream:
            await _Receiver(stream, arrivals).ended

    reading: list[asyncio.Task[None]] = []
    last: object = None
    try:
        async with asyncio.TaskGroup() as tasks:
            reading += [tasks.create_task(one(number)) for number in range(1, connections + 1)]
            last = await call.read()
            await asyncio.wait(reading, timeout=DRAIN_S)
            for task in reading:
                task.cancel()
    except ExceptionGroup as group:  # the others were cancelled for the first
        raise group.exceptions[0] from None
    if not isinstance(last, pb.ProbeReply):
        raise TransferFailed("the mover ended the probe without a word")
    return last


def _welcome(first: object) -> Welcome:
    """The first reply as what data connections are dialed with."""
    if not isinstance(first, pb.ProbeReply) or len(first.token) != TOKEN_BYTES:
        raise TransferFailed("the mover's answer to a probe is none")
    return Welcome(1, "", 0, first.data_port, first.token)


def _no_answer(dialer: Dialer, error: grpc.aio.AioRpcError) -> NoAnswer:
    text = dialer.explain(error)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return NoAnswer("its prfaas is older than this one and does not answer this: upgrade it", "old")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return NoAnswer(text, "late")
    # Where certificates are the reason, the dialer has other words than gRPC.
    return NoAnswer(text, "silent" if text == explain(error) else "identity")


def _failed(dialer: Dialer, error: grpc.aio.AioRpcError) -> TransferFailed:
    if error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
        return TransferFailed(error.details() or "refused")
    return _no_answer(dialer, error)
