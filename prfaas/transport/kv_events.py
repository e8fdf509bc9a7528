"""Following the cache events of the engine beside this mover, over the sockets that vLLM publishes them on.

The events hold the prompts in plain text, so they are read here, on the engine's own machine, and only hashes of blocks
leave it (``prefix_feed``), over the encrypted control port.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import zmq
import zmq.asyncio

from prfaas.errors import RemoteProtocolError
from prfaas.transport.prefix_feed import PrefixFeed
from prfaas.transport.settings import EventSource
from prfaas.wire.kv_events import decode_events

CHECK_S = 2.0
"""After so long a silence the engine is asked for what may have been missed: a last event is noticed by no next one."""
REPLAY_TIMEOUT_S = 10.0
"""For the next part of a replay. vLLM looks for requests after each batch, or ten times a second."""
MAX_QUEUED_BATCHES = 100_000
"""That wait to be read, as many as vLLM keeps; what is beyond is dropped, noticed and replayed."""
MAX_MESSAGE_BYTES = 256 << 20
"""A batch names every token it stores; one of a thousand long prompts is smaller than this."""
END = (-1).to_bytes(8, "big", signed=True)

log = logging.getLogger(__name__)


class KvEvents:
    """One task of the mover: keeps a feed up to date, and tells it what went wrong and was healed, or could not be."""

    def __init__(self, source: EventSource, feed: PrefixFeed) -> None:
        self._source = source
        self._feed = feed
        self._next = 0

    async def run(self) -> None:
        """Follow until cancelled. Each batch has a number; what is missing is asked for again."""
        context = zmq.asyncio.Context()
        events = context.socket(zmq.SUB)
        try:
            events.setsockopt(zmq.RCVHWM, MAX_QUEUED_BATCHES)
            events.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            events.subscribe(self._source.topic)
            events.connect(self._source.endpoint)
            while True:
                try:
                    async with asyncio.timeout(CHECK_S):
                        frames = await events.recv_multipart()
                except TimeoutError:
                    await self._replay(context)
                    continue
                await self._take(frames, context)
        finally:
            context.destroy(linger=0)

    async def _take(self, frames: list[bytes], context: zmq.asyncio.Context) -> None:
        number = self._number(frames)
        if number is None or number < self._next:  # of a replay, and so taken already
            return
        if number > self._next:
            self._feed.count(gaps=1)
            await self._replay(context)
        if number >= self._next:
            self._apply(number, frames[2])

    async def _replay(self, context: zmq.asyncio.Context) -> None:
        """Take everything from the next batch on that the engine still has."""
        if self._source.replay_endpoint is None:
            return
        try:
            async for number, payload in self._replayed(context, self._source.replay_endpoint):
                if number >= self._next:
                    self._apply(number, payload)
        except TimeoutError:
            log.debug("no replay of cache events within %g s", REPLAY_TIMEOUT_S)

    async def _replayed(self, context: zmq.asyncio.Context, endpoint: str) -> AsyncIterator[tuple[int, bytes]]:
        replay = context.socket(zmq.DEALER)
        try:
            replay.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            replay.connect(endpoint)
            await replay.send_multipart([b"", self._next.to_bytes(8, "big")])
            while True:
                async with asyncio.timeout(REPLAY_TIMEOUT_S):
                    frames = (await replay.recv_multipart())[1:]
                if len(frames) == 3 and frames[1] == END:
                    return
                if (number := self._number(frames)) is not None:
                    yield number, frames[2]
        finally:
            replay.close(linger=0)

    def _number(self, frames: list[bytes]) -> int | None:
        """The batch's number; None, counted, for what is no batch of ours."""
        if len(frames) == 3 and len(frames[1]) == 8 and frames[0] == self._source.topic.encode():
            return int.from_bytes(frames[1], "big")
        self._feed.count(garbage=1)
        return None

    def _apply(self, number: int, payload: bytes) -> None:
        """Take a batch that is the next one, or comes after others that cannot be had any more."""
        if number > self._next:
            self._lose(f"batches {self._next} to {number - 1} are not kept any more")
        self._next = number + 1
        try:
            self._feed.apply(decode_events(payload))
        except RemoteProtocolError as error:
            self._feed.count(garbage=1)
            self._lose(str(error))

    def _lose(self, reason: str) -> None:
        self._feed.count(losses=1)
        log.warning("what the engine's prefix cache holds is unknown from here on: %s", reason)
        self._feed.lose()
