"""All data connections of one session with a decode engine, and the frames that leave on them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from prfaas.clock import Clock
from prfaas.transport.data_sender import DataSender
from prfaas.transport.data_stream import DataStream
from prfaas.transport.meter import LinkMeter
from prfaas.transport.settings import MoverConfig
from prfaas.transport.tcp_info import PathWatch
from prfaas.wire.actions import SaveAction
from prfaas.wire.connection_count import ConnectionCount
from prfaas.wire.credit import SendCredit
from prfaas.wire.frame import FrameHeader, encode_header
from prfaas.wire.pace import Pace
from prfaas.wire.save import OutgoingFrame, Save

MAX_CONNECTIONS = 64
"""Data connections of one session: a WAN of 55 MB in flight wants about 16."""


class SaveApplier(Protocol):
    """Who does what saves want done."""

    def apply(self, save: Save, actions: Iterable[SaveAction]) -> None:
        """Do what a save wants done."""

    def flush(self) -> None:
        """Pass collected slots on to the engine."""


class SenderPool:
    """Saves with frames take turns, whichever connection has room takes the next one. A frame whose connection is lost,
    or which the peer refuses, leaves again on another.

    Args:
        config: for epoch and number of connections.
        memory: the memory of a send slot.
        owner: who does what saves want done.
        hang_up: called with number and reason when a connection is of no more use; the peer's ``Lost`` must follow.

    Attributes:
        credit: what the peer allows.
        resent_bytes: payload bytes that had to leave again.
        meter, pace: what it counts in, and how fast it may send; the session sets the peer's as soon as it knows who
            that is.
    """

    def __init__(
        self,
        config: MoverConfig,
        memory: Callable[[int], memoryview],
        owner: SaveApplier,
        hang_up: Callable[[int, str], None],
        clock: Clock,
    ) -> None:
        self.credit = SendCredit()
        self.resent_bytes = 0
        self._epoch, self._memory, self._owner, self._hang_up = config.epoch, memory, owner, hang_up
        self._patience_s = config.lease_s
        self._clock = clock
        self.meter = LinkMeter("", is_sending=True, bandwidth_bytes_s=0.0, clock=clock)
        self._path = PathWatch()
        self.pace = Pace(0.0, clock.now_s())
        self._count = ConnectionCount(config.data_connections, config.max_connections)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._turns: deque[Save] = deque()
        self._senders: dict[int, DataSender] = {}
        self._gone: deque[int] = deque(maxlen=MAX_CONNECTIONS)
        self._closed_bytes = self._closed_acked_bytes = 0

    @property
    def sent_bytes(self) -> int:
        """Payload bytes handed to sockets."""
        return self._closed_bytes + sum(sender.sent_bytes for sender in self._senders.values())

    def join(self, stream: DataStream, connection: int) -> bool:
        """Take a data connection that showed the token; False when it cannot be taken."""
        if connection in self._senders or connection in self._gone or len(self._senders) >= MAX_CONNECTIONS:
            return False
        self._senders[connection] = DataSender(stream, connection, self)
        self.pump()
        return True

    def has_frames(self, save: Save) -> None:
        """Let a save take its turns, now that it may have frames."""
        if save.has_frames and save not in self._turns:
            self._turns.append(save)

    def forget(self, save: Save) -> None:
        """The save is over."""
        if save in self._turns:
            self._turns.remove(save)

    def pump(self) -> None:
        """Send what may be sent. Connections take turns in being first: on a paced link the first one takes it all."""
        if self._turns and self.credit.frames:
            for sender in list(self._senders.values()):
                if not sender.is_blocked:
                    sender.pump()
            if self._senders:
                first = next(iter(self._senders))
                self._senders[first] = self._senders.pop(first)
        self._note_waiting()

    def tick(self, now_s: float) -> int:
        """To be called a few times a second, after ``sample``; returns how many connections would be best.

        The peer acknowledges what it has read, and reads whatever it gave credit for: a connection without any progress
        for the lease is stuck, though a proxy on the path may still take bytes.
        """
        for sender in list(self._senders.values()):
            if sender.is_open and sender.has_stalled(now_s, self._patience_s):
                sender.fail(f"nothing acknowledged for {self._patience_s:g} s")
        in_use = [sender for sender in self._senders.values() if sender.is_open and not sender.is_retired]
        wanted = self._count.observe(
            now_s,
            sum(sender.acked_bytes for sender in self._senders.values()) + self._closed_acked_bytes,
            # Not the session's own: under load its heartbeats wait for processors, not for the path.
            self.meter.min_rtt_s,
            is_network_bound=bool(self._turns)
            and self.credit.frames > 0
            and self._timer is None
            and bool(in_use)
            and all(sender.is_blocked for sender in in_use),
        )
        for sender in sorted(in_use, key=lambda sender: sender.connection)[wanted:]:
            sender.is_retired = True
            self._release(sender)
        return wanted

    def look_anew(self) -> None:
        """Acks travel on the control stream, and there was none for a while."""
        for sender in self._senders.values():
            sender.look_anew()

    def close(self) -> None:
        """Close all connections (idempotent)."""
        if self._timer is not None:
            self._timer.cancel()
        for sender in self._senders.values():
            self._closed_bytes += sender.sent_bytes
            for frame, _ in sender.lost():
                self.meter.lost(frame.piece.length)
        self._senders.clear()
        self.meter.rest()

    def sample(self, heartbeat_rtt_s: float, queued_bytes: int) -> None:
        """Let the meter see how things stand, a few times a second."""
        path = self._path.sample({number: sender.tcp_info() for number, sender in self._senders.items()})
        self.meter.sample(path, heartbeat_rtt_s, queued_bytes)

    def _note_waiting(self) -> None:
        self.meter.waits(has_data=bool(self._turns), has_credit=self.credit.frames > 0)

    # what the peer says ----------------------------------------------------------------------------------------

    def acknowledged(self, connection: int, frames: int) -> None:
        """The peer has the first ``frames`` frames of a connection.

        Raises:
            RemoteProtocolError: it cannot have.
        """
        if sender := self._senders.get(connection):
            for frame in sender.acknowledge(frames):
                self.meter.delivered(frame.piece.length)
                self._owner.apply(frame.save, frame.save.acknowledged(frame.slot))
            self._release(sender)

    def refused(self, connection: int, number: int) -> None:
        """The payload of frame ``number`` of a connection came damaged.

        Raises:
            RemoteProtocolError: it was not sent, or acknowledged before.
        """
        if sender := self._senders.get(connection):
            self._send_again([sender.refuse(number)])

    def lost(self, connection: int, frames: int) -> None:
        """A connection is gone after ``frames`` frames: the others leave again, in their order."""
        self._gone.append(connection)  # its join may come after this message, on the other stream
        if connection not in self._senders:
            return
        self.acknowledged(connection, frames)
        sender = self._senders.pop(connection)
        self._closed_bytes += sender.sent_bytes
        self._closed_acked_bytes += sender.acked_bytes
        self._send_again(sender.lost())

    def _release(self, sender: DataSender) -> None:
        """Give a retired connection up, once nothing is on its way there."""
        if sender.is_open and sender.is_retired and sender.is_drained:
            self._hang_up(sender.connection, "no longer needed")

    def _send_again(self, frames: list[tuple[OutgoingFrame, int]]) -> None:
        """Put frames, in the order in which they were sent, back to the front of their saves' queues."""
        for frame, frame_round in reversed(frames):
            self.credit.refund(frame_round)
            self.meter.lost(frame.piece.length)
            save = frame.save
            if not save.is_over:
                self.resent_bytes += frame.piece.length
                self.meter.resent(frame.piece.length)
            self._owner.apply(save, save.resend(frame))
            self.has_frames(save)

    # what the senders ask --------------------------------------------------------------------------------------

    def next_frame(self) -> tuple[OutgoingFrame, int, bytes, memoryview] | None:
        """One frame of the save whose turn it is: saves take turns, so a short one is not stuck behind a long one."""
        if not self._turns or not self.credit.frames or self._has_to_wait():
            return None
        save = self._turns.popleft()
        frame = save.next_frame()
        if save.has_frames:
            self._turns.append(save)
        frame_round = self.credit.spend()
        self.pace.spend(frame.piece.length)
        self.meter.sent(frame.piece.length)
        if not (self._turns and self.credit.frames):
            self._note_waiting()
        payload = self._memory(frame.slot)[: frame.piece.length]
        header = FrameHeader(save.handle, self._epoch, frame.sequence, frame_round, frame.piece)
        return frame, frame_round, encode_header(header, payload), payload

    def _has_to_wait(self) -> bool:
        """Whether the pace forbids a frame now; then sending goes on by itself when it allows one."""
        if not self.pace.is_limited:
            return False
        if self._timer is None and (wait_s := self.pace.wait_s(self._clock.now_s())):
            self._timer = self._loop.call_later(wait_s, self._waited)
        return self._timer is not None

    def _waited(self) -> None:
        self._timer = None
        self.pump()
        self._owner.flush()

    def written(self, frame: OutgoingFrame) -> None:
        """The kernel has the frame, or never will."""
        self._owner.apply(frame.save, frame.save.written(frame.slot))
        if frame.save.is_over:
            self._owner.flush()

    def connection_failed(self, connection: int, reason: str) -> None:
        """Ask the peer what it got: its ``Lost`` says which frames are missing."""
        self._hang_up(connection, reason)
