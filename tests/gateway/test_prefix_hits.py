"""Engines with a feed are known, the others guessed, and a feed's end turns one into the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from prfaas.config import TlsConfig
from prfaas.errors import TransferFailed
from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.guessed_prefixes import GUESS_TOKENS
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway import prefix_watch
from prfaas.gateway.prefix_hits import INLINE_TOKENS, PrefixHits
from prfaas.gateway.prefix_watch import Feed, PrefixWatch
from prfaas.prefix import CacheGroup, PrefixChange, PrefixGeometry, PrefixUpdate

GEOMETRY = PrefixGeometry(4, 4, bytes(32), (CacheGroup(0, "full", 4),))
PROMPT = np.arange(600, dtype=np.uint32)
PLAIN = ContentKeys()


async def test_long_and_short_prompts_are_found_where_they_are() -> None:
    for length in (INLINE_TOKENS // 2, INLINE_TOKENS * 2):
        index, prompt = PrefixIndex(), np.arange(length, dtype=np.uint32)
        hits = PrefixHits(index, ["told", "guessed"])
        index.apply("told", PrefixUpdate(GEOMETRY, 10_000, is_reset=True))
        found = await hits.of(prompt, PLAIN)
        assert found.tokens == {}
        chain = found.hashes.chains[4, GEOMETRY.root].tolist()
        index.apply("told", PrefixUpdate(changes=(PrefixChange(0, True, chain[:9]),)))
        for engine in ("told", "guessed"):
            hits.sent(engine, found)
        guess = (length - 1) // GUESS_TOKENS * GUESS_TOKENS
        assert (await hits.of(prompt, PLAIN)).tokens == {"told": 36, "guessed": guess}
        for keys in (ContentKeys("another salt"), ContentKeys(adapter=("a", "/a"))):
            assert (await hits.of(prompt, keys)).tokens == {}
        hits.close()


async def test_an_engine_whose_feed_ends_is_guessed_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    index = PrefixIndex()
    hits = PrefixHits(index, ["e"])
    may_end, ended, may_return = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def follow(target: str) -> AsyncIterator[PrefixUpdate]:
        assert target == "host:1"
        if may_end.is_set():
            ended.set()
            await may_return.wait()
        yield PrefixUpdate(GEOMETRY, 10_000, is_reset=True)
        await may_end.wait()
        raise TransferFailed("gone")

    monkeypatch.setattr(prefix_watch, "RETRY_S", 0.0)
    watch = PrefixWatch(index)
    await watch.keep(follow, {"e": Feed("host:1")})
    try:
        async with asyncio.timeout(60):
            hits.sent("e", await hits.of(PROMPT, PLAIN))
            assert (await hits.of(PROMPT, PLAIN)).tokens == {"e": 2 * GUESS_TOKENS}
            while not index.state("e").is_exact:  # noqa: ASYNC110 - its task has to run
                await asyncio.sleep(0)
            found = await hits.of(PROMPT, PLAIN)
            hits.sent("e", found)  # known: nothing to guess, and older guesses are void
            may_end.set()
            await ended.wait()
            assert (await hits.of(PROMPT, PLAIN)).tokens == {}
            hits.sent("e", await hits.of(PROMPT, PLAIN))
            assert (await hits.of(PROMPT, PLAIN)).tokens == {"e": 2 * GUESS_TOKENS}
            may_end.clear()
            may_return.set()
            while not index.state("e").is_exact:  # noqa: ASYNC110 - its task has to run
                await asyncio.sleep(0)
            assert (await hits.of(PROMPT, PLAIN)).tokens == {}
    finally:
        await watch.aclose()
        hits.close()


async def test_only_feeds_that_changed_begin_again() -> None:
    """One whose engine stays goes on and keeps what is known; what is known of those that go is forgotten."""
    index, begun = PrefixIndex(), []
    may_tell, told = asyncio.Event(), asyncio.Event()

    async def follow(target: str) -> AsyncIterator[PrefixUpdate]:
        begun.append(target)
        yield PrefixUpdate(GEOMETRY, 10_000, is_reset=True)
        await may_tell.wait()
        yield PrefixUpdate(changes=(PrefixChange(0, True, [7]),))
        told.set()
        await asyncio.Event().wait()

    async def never(target: str) -> AsyncIterator[PrefixUpdate]:
        raise AssertionError(f"{target} has a feed already")
        yield

    first = {name: Feed(f"{name}:1", "edge", "http://one", "off") for name in ("stays", "moves", "renews", "goes")}
    second = {
        "stays": first["stays"],
        "moves": replace(first["moves"], target="moves:2"),
        "renews": replace(first["renews"], tls=TlsConfig(ca="ca", cert="c", key="k")),
        "new": Feed("new:1"),
    }
    watch = PrefixWatch(index)
    try:
        async with asyncio.timeout(60):
            await watch.keep(follow, first)
            while not all(index.state(name).is_exact for name in first):  # noqa: ASYNC110 - its task has to run
                await asyncio.sleep(0)
            await watch.keep(follow, second)
            assert index.state("stays").is_exact
            assert not any(index.state(name).is_followed for name in ("moves", "renews", "new", "goes"))
            while not all(index.state(name).is_exact for name in second):  # noqa: ASYNC110 - its task has to run
                await asyncio.sleep(0)
            await watch.keep(never, second)
            assert sorted(begun) == ["goes:1", "moves:1", "moves:2", "new:1", "renews:1", "renews:1", "stays:1"]
            may_tell.set()
            await told.wait()
    finally:
        await watch.aclose()
    assert not any(index.state(name).is_followed for name in second)
