"""Following cache events over real ZMQ sockets, published as vLLM publishes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from prfaas.prefix import CacheGroup, FeedCounts, PrefixGeometry, PrefixUpdate
from prfaas.transport import prefix_feed
from prfaas.transport.kv_events import END, KvEvents
from prfaas.transport.prefix_feed import PrefixFeed
from prfaas.transport.settings import EventSource

PATIENCE_S = 20.0
GEOMETRY = PrefixGeometry(16, 16, bytes(32), (CacheGroup(0, "full", 16),))


@dataclass
class Publisher:
    """The engine's side: numbered batches, the last ``kept`` of which can be replayed."""

    events: zmq.asyncio.Socket
    replay: zmq.asyncio.Socket
    kept: int = 1_000
    topic: bytes = b""
    number: int = 0
    buffer: list[tuple[int, bytes]] = field(default_factory=list)

    async def publish(self, *blocks: int, kind: str = "BlockStored", is_lost: bool = False) -> None:
        events = [{"type": kind, "block_hashes": list(blocks), "group_idx": 0}] if blocks else [{"type": kind}]
        await self.raw(msgspec.msgpack.encode([0.0, events, 0]), is_lost=is_lost)

    async def raw(self, payload: bytes, *, is_lost: bool = False) -> None:
        if not is_lost:
            await self.events.send_multipart([self.topic, self.number.to_bytes(8, "big"), payload])
        self.buffer = [*self.buffer, (self.number, payload)][-self.kept :]
        self.number += 1

    async def serve_replays(self) -> None:
        while True:
            client, _, start = await self.replay.recv_multipart()
            for number, payload in self.buffer:
                if number >= int.from_bytes(start, "big"):
                    await self.replay.send_multipart([client, b"", self.topic, number.to_bytes(8, "big"), payload])
            await self.replay.send_multipart([client, b"", b"", END, b""])


@dataclass
class Scene:
    publisher: Publisher
    feed: PrefixFeed
    follower: KvEvents

    def held(self) -> set[int]:
        return {each for change in self.feed._set.snapshot() for each in change.hashes}

    async def until_held(self, expected: set[int]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.held() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # what is waited for crosses sockets


@asynccontextmanager
async def scene(folder: Path, *, replays: bool = True, topic: str = "", late: int = 0) -> AsyncIterator[Scene]:
    """An engine and its follower; ``late`` batches are published before the follower exists."""
    context = zmq.asyncio.Context()
    source = EventSource(f"ipc://{folder}/events", f"ipc://{folder}/replay" if replays else None, topic)
    publisher = Publisher(context.socket(zmq.PUB), context.socket(zmq.ROUTER), topic=topic.encode())
    publisher.events.bind(source.endpoint)
    publisher.replay.bind(f"ipc://{folder}/replay")
    for block in range(1, late + 1):
        await publisher.publish(block)
    feed = PrefixFeed(GEOMETRY, 100)
    follower = KvEvents(source, feed)
    tasks = [asyncio.create_task(follower.run()), asyncio.create_task(publisher.serve_replays())]
    try:
        yield Scene(publisher, feed, follower)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        context.destroy(linger=0)


async def joined(scene: Scene) -> None:
    """Publish until the follower hears: subscribing takes a moment, and what is missed then is replayed."""
    await scene.publisher.publish(1_000)
    await scene.until_held({*scene.held(), 1_000})


async def test_what_was_published_before_is_replayed_even_if_nothing_follows(tmp_path: Path) -> None:
    async with scene(tmp_path, late=5) as s:
        await s.until_held({1, 2, 3, 4, 5})
        assert s.feed.is_exact


async def test_stored_removed_and_cleared(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await joined(s)
        await s.publisher.publish(1, 2, 3)
        await s.publisher.publish(2, kind="BlockRemoved")
        await s.until_held({1_000, 1, 3})
        await s.publisher.publish(kind="AllBlocksCleared")
        await s.publisher.publish(9)
        await s.until_held({9})
        assert (s.feed.is_exact, s.feed.counts.gaps) == (True, 0)


async def test_a_gap_is_replayed_and_nothing_is_lost(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await joined(s)
        for block in range(1, 6):
            await s.publisher.publish(block, is_lost=True)
        await s.publisher.publish(6)
        await s.until_held({1_000, *range(1, 7)})
        assert (s.feed.is_exact, s.feed.counts.gaps, s.feed.counts.losses) == (True, 1, 0)


@pytest.mark.parametrize("replays", [True, False])
async def test_what_cannot_be_replayed_any_more_makes_the_state_inexact_until_it_is_cleared(
    tmp_path: Path, replays: bool
) -> None:
    async with scene(tmp_path, replays=replays) as s:
        if replays:
            await joined(s)
            s.publisher.kept = 2
        else:
            s.follower._next = s.publisher.number = 1
            while not s.held():  # there is no replay, so the first batch must be heard itself
                s.publisher.number = s.follower._next
                await s.publisher.publish(1_000)
                await asyncio.sleep(0.05)  # the subscription is on its way
            s.publisher.number = s.follower._next
        for block in range(1, 6):
            await s.publisher.publish(block, is_lost=True)
        await s.publisher.publish(6)
        await s.until_held({5, 6} if replays else {6})
        assert (s.feed.is_exact, s.feed.counts.losses) == (False, 1)
        await s.publisher.publish(kind="AllBlocksCleared")
        await s.publisher.publish(7)
        await s.until_held({7})
        assert s.feed.is_exact


async def test_garbage_is_counted_and_what_it_hid_is_not_trusted(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await joined(s)
        await s.publisher.events.send_multipart([b"", b"no number", b"payload"])
        await s.publisher.events.send_multipart([b""])
        await s.publisher.publish(1)
        await s.until_held({1_000, 1})
        assert s.feed.is_exact
        await s.publisher.raw(b"\xc1 no batch")
        await s.publisher.publish(2)
        await s.until_held({2})
        assert (s.feed.is_exact, s.feed.counts.garbage) == (False, 3)


async def test_followers_are_told_what_went_wrong(tmp_path: Path) -> None:
    """At the beginning what did before, then each change, also where the blocks stay as they are."""
    async with scene(tmp_path) as s:
        await joined(s)
        reader = Reader(s.feed)
        await s.publisher.events.send_multipart([b""])
        await s.publisher.publish(1, is_lost=True)
        await s.publisher.publish(2)
        await s.until_held({1_000, 1, 2})
        async with asyncio.timeout(PATIENCE_S):
            told = FeedCounts(gaps=1, garbage=1)
            while told not in [each.counts for each in reader.updates]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # its task has to run
        assert reader.updates[0].counts == FeedCounts()
        await reader.close()


async def test_another_topic_is_not_ours(tmp_path: Path) -> None:
    async with scene(tmp_path, topic="kv") as s:
        await joined(s)
        # The subscription is by prefix, so this one arrives.
        await s.publisher.events.send_multipart([b"kv-other", (99).to_bytes(8, "big"), b""])
        await s.publisher.publish(1)
        await s.until_held({1_000, 1})
        assert (s.feed.counts.garbage, s.feed.counts.gaps) == (1, 0)


class Reader:
    """One follower of a feed."""

    def __init__(self, feed: PrefixFeed) -> None:
        self.updates: list[PrefixUpdate] = []
        self._feed = feed
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for update in self._feed.follow():
            self.updates.append(update)
            await self.may_read.wait()

    def held(self) -> set[int]:
        held: set[int] = set()
        for update in self.updates:
            held = set() if update.is_reset else held
            for change in update.changes:
                held = held | set(change.hashes) if change.is_stored else held - set(change.hashes)
        return held

    async def close(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_every_follower_has_the_whole_state_whenever_it_comes(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        early = Reader(s.feed)
        await joined(s)
        await s.publisher.publish(*range(10))
        await s.publisher.publish(*range(0, 10, 2), kind="BlockRemoved")
        await s.until_held({1_000, 1, 3, 5, 7, 9})
        late = Reader(s.feed)
        async with asyncio.timeout(PATIENCE_S):
            while not early.held() == late.held() == s.held():  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # their tasks have to run
        assert early.updates[0].geometry == late.updates[0].geometry == GEOMETRY
        assert len(late.updates) == 1
        await early.close()
        await late.close()
        assert not s.feed._followers


async def test_a_follower_that_falls_behind_gets_a_snapshot_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_feed, "MAX_PENDING", 100)
    async with scene(tmp_path) as s:
        slow = Reader(s.feed)
        slow.may_read.clear()
        await joined(s)
        for start in range(0, 1_000, 10):
            await s.publisher.publish(*range(start, start + 10))
        await s.publisher.publish(*range(990), kind="BlockRemoved")
        await s.until_held({1_000, *range(990, 1_000)})
        (follower,) = s.feed._followers
        assert follower.pending <= 100
        slow.may_read.set()
        async with asyncio.timeout(PATIENCE_S):
            while slow.held() != s.held():  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # its task has to run
        assert slow.updates[-1].is_reset
        await slow.close()
