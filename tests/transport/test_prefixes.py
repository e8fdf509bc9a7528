"""A mover's feed of the prefix cache beside it, as a gateway sees it: real movers, sockets and certificates."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.asyncio

from prfaas.errors import TransferFailed
from prfaas.prefix import CacheGroup, PrefixGeometry, PrefixUpdate
from prfaas.transport.report import ReportClient
from prfaas.transport.settings import EventSource, PrefixSource
from prfaas.wire.prefixes import MAX_HASHES
from tests.transport.movers import TinyEngine, report_client
from tests.transport.site_certificates import NAMES, make_sites, settings

GEOMETRY = PrefixGeometry(16, 48, b"r" * 32, (CacheGroup(0, "full", 16), CacheGroup(2, "window", 48, 3)))
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    make_sites(folder)
    return folder


@pytest.fixture(scope="module")
def cloud(folder: Path) -> Iterator[TinyEngine]:
    """A mover whose engine publishes events, over TLS."""
    source = PrefixSource(GEOMETRY, 77, EventSource(f"ipc://{folder}/events"))
    engine = TinyEngine("cloud", tls=settings(folder, "cloud"), prefixes=source)
    yield engine
    engine.close()


@contextlib.asynccontextmanager
async def feed(client: ReportClient, engine: TinyEngine) -> AsyncIterator[AsyncIterator[PrefixUpdate]]:
    updates = client.prefixes(engine.mover.listen)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield updates
    finally:
        await client.aclose()


async def held_after(updates: AsyncIterator[PrefixUpdate], count: int) -> set[int]:
    """What is held once there are so many blocks."""
    held: set[int] = set()
    async for update in updates:
        held = set() if update.is_reset else held
        for change in update.changes:
            held = held | set(change.hashes) if change.is_stored else held - set(change.hashes)
        if len(held) == count:
            return held
    raise AssertionError("the feed ended")


async def test_blocks_cross_in_as_many_messages_as_they_need(folder: Path, cloud: TinyEngine) -> None:
    blocks = list(range(2 * MAX_HASHES + 5))
    context = zmq.asyncio.Context()
    publisher = context.socket(zmq.PUB)
    publisher.bind(f"ipc://{folder}/events")

    async def publish() -> None:
        event = {"type": "BlockStored", "block_hashes": blocks, "group_idx": 2}
        for number in range(1_000):  # again and again: the first ones come before the mover has subscribed
            payload = msgspec.msgpack.encode([0.0, [event], 0])
            await publisher.send_multipart([b"", number.to_bytes(8, "big"), payload])
            await asyncio.sleep(0.2)  # until the mover has subscribed

    publishing = asyncio.create_task(publish())
    try:
        for _ in range(2):  # while it is stored, and when all of it is there already
            async with feed(report_client(cloud), cloud) as updates:
                first = await anext(updates)
                assert (first.geometry, first.blocks, first.is_reset) == (GEOMETRY, 77, True)
                missing = len(blocks) - sum(len(change.hashes) for change in first.changes)
                assert missing > 0
                rest = await held_after(updates, missing)
                assert rest | {h for change in first.changes for h in change.hashes} == set(blocks)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        context.destroy(linger=0)


async def test_the_feed_goes_to_the_gateways_site_alone(folder: Path, cloud: TinyEngine) -> None:
    """The cloud's own certificate is valid, and not the gateway's."""
    stranger = ReportClient(settings(folder, "cloud", {cloud.mover.listen: NAMES["cloud"]}))
    async with feed(stranger, cloud) as updates:
        with pytest.raises(TransferFailed, match="does not admit the name"):
            await anext(updates)


async def test_an_engine_that_publishes_nothing_says_so_and_one_that_caches_nothing_is_known() -> None:
    for source, words in ((None, "publishes no cache events"), (PrefixSource(GEOMETRY, 77), "publishes no cache")):
        engine = TinyEngine("silent", prefixes=source)
        async with feed(report_client(engine), engine) as updates:
            with pytest.raises(TransferFailed, match=words):
                await anext(updates)
        engine.close()
    engine = TinyEngine("empty", prefixes=PrefixSource(PrefixGeometry(1, 1, bytes(32), ()), 77))
    async with feed(report_client(engine), engine) as updates:
        assert (await anext(updates)).is_exact
        engine.close()
        with pytest.raises(TransferFailed):
            await anext(updates)
