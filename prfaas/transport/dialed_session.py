"""The decode side of one session: loads on the control stream, frames on the data connections."""

from collections.abc import Iterable
from typing import Protocol

from prfaas.clock import Clock
from prfaas.errors import TransferFailed
from prfaas.tracing import TraceContext
from prfaas.transport.meter import LinkMeter
from prfaas.transport.outbox import Outbox
from prfaas.transport.receive_arena import ReceiveArena
from prfaas.transport.receiver_pool import ReceiverPool
from prfaas.transport.settings import MoverConfig
from prfaas.transport.tcp_info import PathSample
from prfaas.types import Piece
from prfaas.wire.actions import Close, Complete, FreeSlots, Lend, LoadAction, Send
from prfaas.wire.control import (
    Abort,
    Accepted,
    Connections,
    ControlMessage,
    Credit,
    Hangup,
    Manifest,
    Resume,
    Start,
    Welcome,
)
from prfaas.wire.frame import FrameHeader
from prfaas.wire.load import Load
from prfaas.wire.resume_log import ResumeLog
from prfaas.wire.session import Session, SessionState


class LoadOwner(Protocol):
    """Who tells the engine about its loads."""

    def arrived(self, load: Load, piece: Piece, slot: int) -> None:
        """A verified piece lies in a slot, which is the owner's until it gives it back to the arena."""

    def completed(self, load: Load, complete: Complete) -> None:
        """The manifest is verified."""

    def closed(self, load: Load, reason: str) -> None:
        """The load is over; ``reason`` is empty after ``completed``."""

    def burst_end(self) -> None:
        """Pass on what has arrived."""

    def grant(self) -> None:
        """Credit may be due."""

    def meter(self, peer: str) -> LinkMeter:
        """The meter of the link from a prefill engine."""


class DialedSession:
    """One session with a prefill engine, from the dialing on. Messages posted before it is open, or between two control
    streams, wait in the outbox.

    Attributes:
        loads: open loads by handle.
        log: numbers of the control batches.
        outbox: what the control stream's owner writes.
        receivers: its data connections.
        session: protocol state.
        received_bytes: payload bytes of verified frames.
    """

    def __init__(
        self, config: MoverConfig, arena: ReceiveArena, owner: LoadOwner, session: Session, clock: Clock
    ) -> None:
        self.loads: dict[int, Load] = {}
        self.log = ResumeLog()
        self.outbox = Outbox(self.log, lambda: self.receivers.acks())
        self.session = session
        self.account = arena.budget.join()
        self.receivers = ReceiverPool(config, arena, self.account, self.outbox, self)
        self.received_bytes = 0
        self._config = config
        self._arena = arena
        self._owner = owner
        self._clock = clock
        self._epoch = 0
        self._token = b""
        self._started: set[int] = set()
        self._meter = LinkMeter("", is_sending=False, bandwidth_bytes_s=0.0, clock=clock)

    # loads -----------------------------------------------------------------------------------------------------

    def open(self, load: Load, secret: str, timeout_ms: int, adapter: str, trace: TraceContext | None = None) -> None:
        """Open a transfer; its handle must be new."""
        self.loads[load.handle] = load
        self.apply(load, load.open(secret, timeout_ms, adapter, trace))

    def apply(self, load: Load, actions: Iterable[LoadAction]) -> None:
        """Do what a load wants done."""
        for action in actions:
            match action:
                case Send(message):
                    self._send(message)
                case Lend(piece, slot):
                    self.received_bytes += piece.length
                    self._owner.arrived(load, piece, slot)
                case FreeSlots(slots):
                    for slot in slots:
                        self._arena.done(slot)
                case Complete():
                    self._owner.completed(load, action)
                case Close(reason):
                    self._closed(load, reason)

    def _send(self, message: ControlMessage) -> None:
        self.outbox.post(message)
        if isinstance(message, Start):
            self._started.add(message.handle)
            self._arena.budget.begin(self.account)
            self._owner.grant()

    def _closed(self, load: Load, reason: str) -> None:
        del self.loads[load.handle]
        if load.handle in self._started:
            self._started.discard(load.handle)
            self._arena.budget.end(self.account)
        self._owner.closed(load, reason)
        self._owner.grant()

    def credit(self, frames: int) -> None:
        """Allow the peer more frames."""
        self.outbox.post(Credit(frames))

    # control ---------------------------------------------------------------------------------------------------

    def opened(self, welcome: Welcome) -> None:
        """The handshake is through."""
        self._epoch, self._token = welcome.epoch, welcome.session_token
        self._meter = self._owner.meter(welcome.engine_id)

    @property
    def is_open(self) -> bool:
        """The handshake is through, and the session not over."""
        return self.session.state is SessionState.OPEN

    def resume(self) -> Resume:
        """What a new control stream begins with after the last one broke."""
        return Resume(self._token, self.log.received)

    def receive(self, message: ControlMessage, now_s: float) -> None:
        """Act on a message of the peer.

        Raises:
            RemoteProtocolError: a message that it may not send now.
        """
        self.session.receive(message, now_s)
        match message:
            case Accepted(handle) if load := self.loads.get(handle):
                self.apply(load, load.accepted())
            case Manifest(handle) if load := self.loads.get(handle):
                self.apply(load, load.manifest(message, self.session.clock_offset_s))
            case Abort(handle, reason) if load := self.loads.get(handle):
                self.apply(load, load.fail(f"the prefill side ended the transfer: {reason}"))
            case Hangup(connection):
                self.receivers.hang_up(connection)
            case Connections(count):
                self.receivers.want(count)

    def batch_end(self) -> None:
        """No more messages for now."""
        self._owner.burst_end()

    def tick(self, now_s: float) -> None:
        """Send the heartbeat when it is due.

        Raises:
            TransferFailed: the peer's lease has run out, or it does not read.
        """
        if self.session.is_expired(now_s):
            raise TransferFailed(f"nothing heard for {self._config.lease_s:g} s")
        self.outbox.check()
        # One that waits for a stream would say how long the break was, not how long the path is.
        if self.outbox.has_stream and (beat := self.session.heartbeat_due(now_s)):
            self.outbox.post(beat)
        path = PathSample(connections=self.receivers.connections)
        self._meter.sample(path, self.session.latest_rtt_s, self.account.lent * self._config.slot_bytes)
        self._note_waiting()

    def lost(self, reason: str) -> None:
        """The session is over: so are its loads."""
        self.session.close()
        self.receivers.close()
        self._meter.rest()
        for load in list(self.loads.values()):
            self.apply(load, load.fail(reason, tell_peer=False))
        self._arena.budget.leave(self.account)
        self._owner.burst_end()
        self._owner.grant()

    def _note_waiting(self) -> None:
        self._meter.waits(has_data=bool(self._started), has_credit=self.account.granted > 0)

    # data ------------------------------------------------------------------------------------------------------

    def is_wanted(self, handle: int) -> bool:
        """Whether frames of this transfer may still come."""
        return handle in self._started

    def arrived(self, header: FrameHeader, slot: int) -> None:
        """A verified frame: hand it to its load."""
        self._meter.received(header.piece.length)
        load = self.loads.get(header.handle)
        if load is None:
            self._arena.done(slot)
        else:
            self.apply(load, load.frame(header, slot, self._epoch, self._clock.now_s()))

    def burst_end(self) -> None:
        """Pass on what came, and give out the credit that it used."""
        self._owner.burst_end()
        self._owner.grant()
        self._note_waiting()
