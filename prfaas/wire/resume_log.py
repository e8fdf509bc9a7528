"""Control batches of one side of a session, numbered so that a new stream goes on where a broken one stopped.

What one side has written may be lost with its stream; it is kept until the other confirms it, which every batch does
for those of the other direction. A new stream begins with what both have received; all after that is written again.
"""

from collections import deque

from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import ControlMessage, decode_batch, encode_batch

MAX_KEPT_BATCHES = 8_192
"""Unconfirmed batches: some ten seconds of a busy session, whose peer confirms with each heartbeat, once a second."""
MAX_KEPT_BYTES = 8 << 20
"""Unconfirmed bytes: the largest manifests of two transfers that end within one heartbeat."""


class ResumeLog:
    """Numbers, keeps and confirms.

    Attributes:
        received: number of the last batch of the peer; they come in order, from 1.
        confirmed: number of the last batch of ours that the peer has said to have.
    """

    def __init__(self) -> None:
        self.received = self.confirmed = 0
        self._sent = 0
        self._kept: deque[tuple[pb.ControlBatch, int]] = deque()
        self._kept_bytes = 0

    def next_batch(self, messages: list[ControlMessage]) -> pb.ControlBatch:
        """The next batch to write, which counts as written whatever becomes of the stream.

        Raises:
            TransferFailed: the peer reads, but does not confirm.
        """
        batch = encode_batch(messages, self._sent + 1, self.received)
        size = batch.ByteSize()
        if len(self._kept) >= MAX_KEPT_BATCHES or (self._kept and self._kept_bytes + size > MAX_KEPT_BYTES):
            raise TransferFailed(f"the peer left {len(self._kept)} control batches unconfirmed")
        self._sent += 1
        self._kept.append((batch, size))
        self._kept_bytes += size
        return batch

    def receive(self, batch: pb.ControlBatch) -> list[ControlMessage]:
        """The messages of the peer's next batch; none when it has been here before.

        Raises:
            RemoteProtocolError: it is not the next, confirms what was never written, or has messages that are wrong.
        """
        if not 0 < batch.number <= self.received + 1:
            raise RemoteProtocolError(f"control batch {batch.number} after {self.received}")
        self._confirm(batch.received)
        if batch.number <= self.received:
            return []
        self.received = batch.number
        return decode_batch(batch)

    def unconfirmed(self, received: int) -> list[pb.ControlBatch]:
        """All that has to be written again, in order, to a peer that has ``received`` batches; heartbeats are left out,
        for their times are those of the past.

        Raises:
            RemoteProtocolError: so many were never written, or more are confirmed.
        """
        if received < self.confirmed:
            raise RemoteProtocolError(f"the peer has {received} control batches and has confirmed {self.confirmed}")
        self._confirm(received)
        for batch, _ in self._kept:
            batch.received = self.received
            messages = [message for message in batch.messages if not message.HasField("heartbeat")]
            del batch.messages[:]
            batch.messages.extend(messages)
        return [batch for batch, _ in self._kept]

    def _confirm(self, received: int) -> None:
        if received > self._sent:
            raise RemoteProtocolError(f"the peer confirms control batch {received} of {self._sent}")
        self.confirmed = max(self.confirmed, received)
        while self._kept and self._kept[0][0].number <= received:
            self._kept_bytes -= self._kept.popleft()[1]
