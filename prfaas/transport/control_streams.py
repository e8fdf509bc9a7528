"""The prefill side of control streams: each opens a session, or goes on with one whose stream broke."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError

from prfaas.clock import Clock
from prfaas.errors import PrfaasError, RemoteProtocolError, TransferFailed
from prfaas.transport.accepted_session import AcceptedSession
from prfaas.transport.data_port import owner_of
from prfaas.transport.data_socket import TOKEN_BYTES
from prfaas.transport.grpc_options import BROKEN, explain
from prfaas.transport.saves import Saves
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import Hello, Refused, Resume, Resumed, Welcome, decode_batch, encode_batch
from prfaas.wire.session import Identity, answer

HANDSHAKE_TIMEOUT_S = 5.0
"""For the peer's first message, and for it to take the answer."""

log = logging.getLogger(__name__)

Stream: TypeAlias = "grpc.aio.ServicerContext[pb.ControlBatch, pb.ControlBatch]"


class ControlStreams:
    """Serves the control streams of one mover; ``data_port`` is announced to every session."""

    def __init__(self, us: Identity, saves: Saves, clock: Clock, data_port: int, tick_s: float) -> None:
        self._us, self._saves, self._clock = us, saves, clock
        self._data_port, self._tick_s = data_port, tick_s

    async def serve(self, stream: Stream) -> None:
        """One control stream, from its first message on.

        Its session outlives a stream that breaks, by the lease; it ends with a stream on which the peer says so or
        breaks a rule. A task of its own has the stream, so that a newer stream can end it.
        """
        found = await self._session(stream)
        if found is None:
            return
        session, begin = found
        talking = asyncio.create_task(self._talk(stream, session, begin))
        try:
            await asyncio.wait({talking})
        finally:
            talking.cancel()
            await asyncio.wait({talking})
        if session in self._saves.sessions:
            # An end without an error would tell the peer that the session has ended.
            await stream.abort(grpc.StatusCode.ABORTED, "the session goes on without this stream")

    async def _session(self, stream: Stream) -> tuple[AcceptedSession, Callable[[], Awaitable[int]]] | None:
        """The stream's session and how it begins there; None when there is none, which has been said or logged."""
        try:
            first = await self._first_message(stream)
        except RemoteProtocolError as error:
            log.warning("a control stream was ended: %s", error)
            return None
        if isinstance(first, Resume):
            session = owner_of(self._saves.sessions, first.session_token)
            # One that has confirmed more than the message says was resumed since: the message comes late.
            if session is None or first.received < session.log.confirmed:
                return None
            return session, partial(self._resume, stream, session, first.received)
        token = secrets.token_bytes(TOKEN_BYTES)
        reply = answer(self._us, first, self._data_port, token)
        if isinstance(reply, Refused):
            await stream.write(encode_batch([reply]))
            log.error("refused decode engine %s: %s is %r here and %r there",
                      first.engine_id, reply.field, reply.ours, reply.theirs)  # fmt: skip
            return None
        session = self._saves.accept(token, stream.peer().rpartition(":")[0])
        return session, partial(self._open, stream, session, first, reply)

    async def _first_message(self, stream: Stream) -> Hello | Resume:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                batch = await _next(stream)
        except TimeoutError:
            raise RemoteProtocolError(f"no first message within {HANDSHAKE_TIMEOUT_S:g} s") from None
        messages = decode_batch(batch) if batch is not None else []
        if len(messages) != 1 or not isinstance(messages[0], Hello | Resume):
            raise RemoteProtocolError("it began with neither Hello nor Resume")
        return messages[0]

    async def _talk(self, stream: Stream, session: AcceptedSession, begin: Callable[[], Awaitable[int]]) -> None:
        """Read and write until the stream breaks, which leaves the session waiting, or the session ends."""
        await session.attach()
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                received = await begin()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.outbox.run(stream.write, received))
                tasks.create_task(self._tick(session))
                while batch := await _next(stream):
                    self._hear(session, batch)
                # A peer that wants to end the session says so; gRPC reports some broken connections like this, too.
                raise asyncio.InvalidStateError("it ended")
        except* PrfaasError as group:
            self._end(session, str(group.exceptions[0]))
        except* BROKEN as group:
            log.warning("control stream of %s broke: %s", session.peer_id, explain(group.exceptions[0]))
        finally:
            session.detach()
            if not session.is_open:
                self._end(session, "it never began")

    def _hear(self, session: AcceptedSession, batch: pb.ControlBatch) -> None:
        try:
            for message in session.log.receive(batch):
                session.receive(message, self._clock.now_s())
            session.batch_end()
        except PrfaasError:
            raise
        except Exception as error:  # what is left of the batch is lost, so the session cannot go on
            log.exception("a bug in a message of decode engine %s", session.peer_id)
            raise TransferFailed("a bug here, see the log") from error

    def _end(self, session: AcceptedSession, reason: str) -> None:
        if session in self._saves.sessions:
            log.warning("session of %s is over: %s (%d saves)", session.peer_id, reason, len(session.saves))
            self._saves.gone(session, f"decode engine {session.peer_id}: {reason}")

    async def _open(self, stream: Stream, session: AcceptedSession, hello: Hello, welcome: Welcome) -> int:
        """Welcome a new peer; returns how many batches it has."""
        await stream.write(encode_batch([welcome]))
        session.receive(hello, self._clock.now_s())
        log.info("session of decode engine %s is open", session.peer_id)
        return 0

    async def _resume(self, stream: Stream, session: AcceptedSession, received: int) -> int:
        """Answer a Resume; returns how many batches the peer has."""
        if not session.is_open:
            raise TransferFailed("it ended with its former stream")
        await stream.write(encode_batch([Resumed(session.log.received)]))
        session.session.resumed(self._clock.now_s())
        log.info("session of decode engine %s goes on after %d batches", session.peer_id, received)
        return received

    async def _tick(self, session: AcceptedSession) -> None:
        while True:
            session.tick(self._clock.now_s())
            await asyncio.sleep(self._tick_s)


async def _next(stream: Stream) -> pb.ControlBatch | None:
    """The next batch, None at the end. Raises RemoteProtocolError for bytes that are none."""
    try:
        batch = await stream.read()
    except DecodeError:
        raise RemoteProtocolError("bytes that are no control batch") from None
    return batch if isinstance(batch, pb.ControlBatch) else None
