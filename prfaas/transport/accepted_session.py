"""The prefill side of one session: saves on the control stream, frames out on the data connections."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from prfaas.clock import Clock
from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.tracing import TraceContext
from prfaas.transport.meter import LinkMeter
from prfaas.transport.outbox import Outbox
from prfaas.transport.sender_pool import SaveApplier, SenderPool
from prfaas.transport.settings import MoverConfig
from prfaas.wire.control import (
    Abort,
    Ack,
    Bye,
    Connections,
    ControlMessage,
    Credit,
    Done,
    Hangup,
    Heartbeat,
    Hello,
    Lost,
    Nack,
    Open,
    Start,
)
from prfaas.wire.pace import Pace
from prfaas.wire.resume_log import ResumeLog
from prfaas.wire.save import Save
from prfaas.wire.session import Session, SessionState

log = logging.getLogger(__name__)


class SaveOwner(SaveApplier, Protocol):
    """Who knows this engine's saves."""

    def meter(self, peer: str) -> LinkMeter:
        """The meter of the link to a decode engine."""

    def pace(self, peer: str) -> Pace:
        """How fast cache bytes may leave for it."""

    def opened(self, session: "AcceptedSession", message: Open) -> None:
        """A peer opens a transfer."""

    def started(self, session: "AcceptedSession", message: Start) -> None:
        """A peer starts a transfer that is not bound to a save yet."""

    def left(self, session: "AcceptedSession", handle: int) -> None:
        """A peer gave up a transfer that is not bound to a save yet."""


class AcceptedSession:
    """One session with a decode engine.

    Attributes:
        token: what a data connection must show to join, and a new control stream to go on.
        host: where its first control stream came from.
        saves: saves bound to this session, by handle.
        log: numbers of the control batches.
        stream: the task that reads and writes the control stream; None between two streams.
        outbox: what the control stream's owner writes.
        senders: its data connections.
        session: protocol state.
        peer_id: the decode engine's name, once it said Hello.
    """

    def __init__(
        self,
        token: bytes,
        host: str,
        config: MoverConfig,
        memory: Callable[[int], memoryview],
        owner: SaveOwner,
        session: Session,
        clock: Clock,
    ) -> None:
        self.token, self.host = token, host
        self.saves: dict[int, Save] = {}
        self.log = ResumeLog()
        self.outbox = Outbox(self.log)
        self.stream: asyncio.Task[object] | None = None
        self.session = session
        self.peer_id = "?"
        self.senders = SenderPool(config, memory, owner, self._hang_up, clock)
        self._owner = owner
        self._connections = 0

    @property
    def is_open(self) -> bool:
        """The handshake is through, and the session not over."""
        return self.session.state is SessionState.OPEN

    def receive(self, message: ControlMessage, now_s: float) -> None:
        """Act on a message of the peer.

        Raises:
            RemoteProtocolError: a message that it may not send now.
            TransferFailed: it ends the session.
        """
        self.session.receive(message, now_s)
        match message:
            case Hello(engine_id=engine_id):
                self.peer_id = engine_id
                self.senders.meter, self.senders.pace = self._owner.meter(engine_id), self._owner.pace(engine_id)
            case Open(handle):
                if handle in self.saves:
                    raise RemoteProtocolError(f"handle {handle} was opened twice")
                self._owner.opened(self, message)
            case Start():
                self._start(message)
            case Credit(frames):
                self.senders.credit.grant(frames)
            case Ack(connection, frames):
                self.senders.acknowledged(connection, frames)
            case Nack(connection, frame):
                self.senders.refused(connection, frame)
            case Lost(connection, frames):
                self.senders.lost(connection, frames)
            case Done(handle) | Abort(handle):
                self._ended(message, handle)
            case Heartbeat():
                pass
            case Bye():
                raise TransferFailed("the decode engine ended the session")

    async def attach(self) -> None:
        """Let the current task have the control stream; one that still has an older stream is ended first."""
        while self.stream is not None:
            self.stream.cancel()
            await asyncio.wait({self.stream})
        self.stream = asyncio.current_task()
        self.senders.look_anew()

    def detach(self) -> None:
        """The control stream has ended."""
        self.stream = None

    def is_left(self, now_s: float) -> bool:
        """Whether no stream has come within the lease after the last one broke; with a stream ``tick`` sees to it."""
        return self.stream is None and self.session.is_expired(now_s)

    def batch_end(self) -> None:
        """No more messages for now: send what they allowed, and give back the slots that they freed."""
        self._owner.flush()
        self.senders.pump()

    def bind(self, save: Save, message: Open) -> None:
        """A save belongs to this session from now on, unless the two do not fit."""
        self.saves[message.handle] = save
        opener = TraceContext.parse(message.traceparent, message.tracestate)
        self._owner.apply(save, save.open(message.handle, message.adapter, opener))

    def unbind(self, save: Save) -> None:
        """The save is over."""
        self.saves.pop(save.handle, None)
        self.senders.forget(save)

    def start(self, save: Save, message: Start) -> None:
        """The decode side wants the data of a bound save."""
        self.senders.credit.start(message.handle)
        self._owner.apply(save, save.start(message))
        self.senders.has_frames(save)

    def tick(self, now_s: float) -> None:
        """Send the heartbeat when it is due, and see how many data connections are best.

        Raises:
            TransferFailed: the peer's lease has run out, or it does not read.
        """
        if self.session.is_expired(now_s):
            raise TransferFailed("nothing heard within the lease")
        self.outbox.check()
        if self.outbox.has_stream and (beat := self.session.heartbeat_due(now_s)):
            self.outbox.post(beat)
        self.senders.sample(self.session.latest_rtt_s, sum(save.queued_bytes for save in self.saves.values()))
        connections = self.senders.tick(now_s)
        if connections != self._connections:
            self._connections = connections
            self.outbox.post(Connections(connections))

    def lost(self, reason: str) -> None:
        """The session is over: so are its saves and connections."""
        self.session.close()
        for save in list(self.saves.values()):
            self._owner.apply(save, save.fail(reason, tell_peer=False))
        self.senders.close()
        self._owner.flush()

    def _hang_up(self, connection: int, reason: str) -> None:
        log.info("data connection %d to %s is given up: %s", connection, self.peer_id, reason)
        self.outbox.post(Hangup(connection))

    def _start(self, message: Start) -> None:
        if save := self.saves.get(message.handle):
            self.start(save, message)
        else:
            self.senders.credit.start(message.handle)
            self._owner.started(self, message)

    def _ended(self, message: Done | Abort, handle: int) -> None:
        self.senders.credit.end(handle)
        if save := self.saves.get(handle):
            actions = save.done() if isinstance(message, Done) else save.fail(f"decode side: {message.reason}")
            self._owner.apply(save, actions)
        else:
            self._owner.left(self, handle)
