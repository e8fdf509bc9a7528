"""Control messages on their way out of one session."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from prfaas.errors import TransferFailed
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_BATCH_MESSAGES, ControlMessage, Manifest
from prfaas.wire.resume_log import ResumeLog

MAX_QUEUED_MESSAGES = 65_536
"""Messages that wait for the stream: beyond it the peer has stopped reading and the session is given up."""
MAX_POSTED_MESSAGES = MAX_BATCH_MESSAGES - 64
"""Posted messages of one batch: leaves room for one ack of each data connection."""

Write = Callable[[pb.ControlBatch], Awaitable[None]]


class Outbox:
    """Keeps order and batches by itself: whatever is posted while the stream is busy goes out together, and whatever a
    broken stream may have lost goes out again on the next.

    Args:
        log: the session's; numbers what leaves.
        latest: asked for messages whenever the queue is empty; for values of which only the newest matters (acks). They
            never overtake what was posted.

    Attributes:
        has_stream: whether messages leave now.
    """

    def __init__(self, log: ResumeLog, latest: Callable[[], Iterable[ControlMessage]] = tuple) -> None:
        self._log, self._latest = log, latest
        self._queue: deque[ControlMessage] = deque()
        self._wanted = asyncio.Event()
        self._is_overfull = False
        self.has_stream = False

    def post(self, message: ControlMessage) -> None:
        """Queue a message; ``run`` sends it as soon as the stream is free. Beyond the bound it is dropped, and
        ``check`` raises from then on."""
        if len(self._queue) >= MAX_QUEUED_MESSAGES:
            self._is_overfull = True
        else:
            self._queue.append(message)
        self._wanted.set()

    def wake(self) -> None:
        """Send what ``latest`` has, even if nothing was posted."""
        self._wanted.set()

    def check(self) -> None:
        """To be called now and then, for a write to a peer that does not read never returns.

        Raises:
            TransferFailed: messages had to be dropped, so the session cannot go on.
        """
        if self._is_overfull:
            raise TransferFailed(f"the peer left {MAX_QUEUED_MESSAGES} control messages unread")

    def take(self) -> list[ControlMessage]:
        """The next batch; a manifest ends it, so that no batch holds two large messages."""
        batch: list[ControlMessage] = []
        while self._queue and len(batch) < MAX_POSTED_MESSAGES:
            batch.append(self._queue.popleft())
            if isinstance(batch[-1], Manifest):
                break
        if not self._queue:
            batch += self._latest()
        return batch

    async def run(self, write: Write, received: int = 0) -> None:
        """Write batches until cancelled, first those that a peer which has ``received`` ones has not.

        Raises:
            TransferFailed, RemoteProtocolError: that cannot be done.
        """
        for batch in self._log.unconfirmed(received):
            await write(batch)
        self.has_stream = True
        self._wanted.set()
        try:
            await self._write_on(write)
        finally:
            self.has_stream = False

    async def _write_on(self, write: Write) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while messages := self.take():
                await write(self._log.next_batch(messages))
                if not self._queue:
                    # What ``latest`` has by now is for the next wake: else a busy stream would carry single acks.
                    break
