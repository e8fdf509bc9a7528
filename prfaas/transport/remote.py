"""One prefill engine as the decode side reaches it: dialing, back-off and the lives of session and control streams."""

import asyncio
import logging
from functools import partial
from typing import TypeAlias, cast

import grpc

from prfaas.clock import Clock
from prfaas.errors import PrfaasError, RemoteProtocolError, TransferFailed
from prfaas.transport.dialed_session import DialedSession, LoadOwner
from prfaas.transport.dialer import Dialer
from prfaas.transport.grpc_options import ADMITTED, BROKEN, explain, is_final
from prfaas.transport.receive_arena import ReceiveArena
from prfaas.transport.settings import MoverConfig
from prfaas.transport.transfer_pb2_grpc import KvLinkStub
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import (
    Bye,
    ControlMessage,
    Hello,
    Refused,
    Resume,
    Resumed,
    Welcome,
    decode_batch,
    encode_batch,
)
from prfaas.wire.session import Identity, Session, hello, refusal_text

DIAL_TIMEOUT_S = 5.0
"""From dialing to Welcome; a handshake is three round trips, with TLS four."""
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 3.0
"""Pause after a failed dial; doubles. A peer that was refused is in no hurry either: somebody has to change it."""

RESUME_FIRST_S, RESUME_LAST_S = 0.05, 0.5
"""Pause before a broken control stream is replaced; doubles until one lasts a heartbeat. Many fit into a lease."""
GOODBYE_S = 0.2
"""For the peer to hear that we stop; it is lost on a network that is not there, and then the lease ends the session."""

log = logging.getLogger(__name__)

Stream: TypeAlias = "grpc.aio.StreamStreamCall[pb.ControlBatch, pb.ControlBatch]"


class Remote:
    """Keeps at most one session with the engine that ``dialer`` reaches."""

    def __init__(
        self, dialer: Dialer, config: MoverConfig, us: Identity, arena: ReceiveArena, owner: LoadOwner, clock: Clock
    ) -> None:
        self.address = dialer.address
        self.session: DialedSession | None = None
        self.reason = ""
        self._dialer = dialer
        self._config, self._us, self._arena, self._owner, self._clock = config, us, arena, owner, clock
        self._task: asyncio.Task[None] | None = None
        self._pause_s = RESUME_FIRST_S
        self._backoff_s = 0.0
        self._retry_s = 0.0

    def dial(self) -> DialedSession | None:
        """The session, dialed now if there is none; None, with ``reason`` set, while the last failure is too recent."""
        if self.session is None and self._clock.now_s() >= self._retry_s:
            protocol = Session(
                dialed=True,
                lease_s=self._config.lease_s,
                heartbeat_s=self._config.heartbeat_s,
                now_s=self._clock.now_s(),
            )
            self.session = DialedSession(self._config, self._arena, self._owner, protocol, self._clock)
            self._task = asyncio.get_running_loop().create_task(self._run(self.session))
            self._task.add_done_callback(_log_bug)
        return self.session

    async def aclose(self) -> None:
        """End the session and its loads; the peer is told, so that it does not wait for another stream."""
        if self._task is None:
            return
        if self.session is not None and self.session.is_open:
            self.session.outbox.post(Bye())
            await asyncio.wait({self._task}, timeout=GOODBYE_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, session: DialedSession) -> None:
        """The life of one session; whatever ends it fails its loads with the reason."""
        reason = "the session was stopped"
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._stay_attached(session, tasks)
        except* PrfaasError as group:
            reason = _first_text(group)
        finally:
            self._ended(session, reason)

    async def _stay_attached(self, session: DialedSession, tasks: asyncio.TaskGroup) -> None:
        """Keep a control stream; one of ``tasks`` ends this when the lease does.

        Raises:
            TransferFailed, RemoteProtocolError: there is no going on.
        """
        while True:
            broken: list[BaseException] = []
            began_s = self._clock.now_s()
            try:
                await self._one_stream(session, tasks)
            except* BROKEN as group:
                broken += group.exceptions
            if _is_cancelled():
                # A task group that ends because of an error keeps a cancellation that comes meanwhile to itself.
                raise asyncio.CancelledError
            if not session.is_open or is_final(broken[0]):
                raise TransferFailed(self._dialer.explain(broken[0]))
            log.warning(
                "control stream to prefill engine at %s broke, a new one is made: %s", self.address, explain(broken[0])
            )
            if self._clock.now_s() - began_s > self._config.heartbeat_s:
                self._pause_s = RESUME_FIRST_S
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, RESUME_LAST_S)

    async def _one_stream(self, session: DialedSession, tasks: asyncio.TaskGroup) -> None:
        """Begin a stream, read and write until it ends."""
        async with self._dialer.channel() as channel:
            stream = cast(Stream, KvLinkStub(channel).Session())  # type: ignore[no-untyped-call]  # generated code
            received = 0
            if session.is_open:
                received = await self._resume(stream, session)
            else:
                await self._open(stream, session, tasks)
            async with asyncio.TaskGroup() as writing:
                writing.create_task(session.outbox.run(stream.write, received))
                writing.create_task(self._watch(session))
                while isinstance(batch := await stream.read(), pb.ControlBatch):
                    for message in session.log.receive(batch):
                        session.receive(message, self._clock.now_s())
                    session.batch_end()
                raise TransferFailed("the peer ended the session")

    async def _open(self, stream: Stream, session: DialedSession, tasks: asyncio.TaskGroup) -> None:
        """Open the session, and start what goes on until it ends."""
        message = await self._first_answer(stream, hello(self._us))
        if isinstance(message, Refused):
            raise TransferFailed(refusal_text(message))
        if not isinstance(message, Welcome):
            raise RemoteProtocolError("the answer to Hello is neither Welcome nor Refused")
        session.receive(message, self._clock.now_s())
        self._dialer.check(message)
        session.opened(message)
        self._backoff_s, self._pause_s = 0.0, RESUME_FIRST_S
        log.info("session with prefill engine %s at %s is open", message.engine_id, self.address)
        tasks.create_task(self._tick(session))
        dial = partial(self._dialer.data_connection, message, self._config.lease_s)
        tasks.create_task(session.receivers.stay_connected(dial))

    async def _resume(self, stream: Stream, session: DialedSession) -> int:
        """Go on with the session on this stream; returns how many batches the peer has."""
        message = await self._first_answer(stream, session.resume())
        if not isinstance(message, Resumed):
            raise RemoteProtocolError("the answer to Resume is not Resumed")
        session.session.resumed(self._clock.now_s())
        log.info("session with prefill engine at %s goes on", self.address)
        return message.received

    async def _first_answer(self, stream: Stream, first: Hello | Resume) -> ControlMessage | None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                admitted = await stream.initial_metadata()
                if set(ADMITTED) <= set(admitted):
                    await stream.write(encode_batch([first]))
                batch = await stream.read()
        except TimeoutError:
            raise TimeoutError(f"no answer to the handshake within {DIAL_TIMEOUT_S:g} s") from None
        if not isinstance(batch, pb.ControlBatch):
            raise TransferFailed("the peer ended the handshake")
        messages = decode_batch(batch)
        return messages[0] if len(messages) == 1 else None

    async def _watch(self, session: DialedSession) -> None:
        """Raise TimeoutError when the stream has gone silent: a path that swallows everything ends no connection."""
        while True:
            await asyncio.sleep(self._config.heartbeat_s / 4)
            if session.session.is_silent(self._clock.now_s()):
                raise TimeoutError("nothing is heard on it")

    async def _tick(self, session: DialedSession) -> None:
        while True:
            session.tick(self._clock.now_s())
            await asyncio.sleep(self._config.heartbeat_s / 4)

    def _ended(self, session: DialedSession, reason: str) -> None:
        self._backoff_s = min(max(BACKOFF_FIRST_S, self._backoff_s * 2), BACKOFF_LAST_S)
        self._retry_s = self._clock.now_s() + self._backoff_s
        self.session = None
        self.reason = f"prefill engine at {self.address}: {reason}"
        log.warning("no session with %s (%d loads open)", self.reason, len(session.loads))
        session.lost(self.reason)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first_text(group: BaseExceptionGroup[BaseException]) -> str:
    """The words of what came first; task groups nest their groups."""
    first = group.exceptions[0]
    return _first_text(first) if isinstance(first, BaseExceptionGroup) else str(first)


def _log_bug(task: asyncio.Task[None]) -> None:
    """A session task maps all foreseen errors; any other is a bug of ours and must be seen where it happened."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a session ended by a bug", exc_info=error)
