"""An index that follows a pair of engines, compared with what they say that they had cached."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.fleet.prompt_hasher import PromptHasher
from prfaas.gateway.prefix_watch import PrefixWatch, feeds_of
from prfaas.prefix import PrefixUpdate
from tests.engine.pair import DECODE, PREFILL, EnginePair, until

QUIET_S = 0.3
"""An engine that has said nothing for so long has said everything: it publishes after every step."""
NEWS_TIMEOUT_S = 20
"""For what must come, on a machine that may stand still; past the mover's own look for lost events, each 2 s."""


@dataclass
class Watched:
    """The pair, and an index that follows both engines."""

    pair: EnginePair
    index: PrefixIndex
    block_tokens: int
    hasher: PromptHasher = field(default_factory=PromptHasher)
    heard_s: dict[str, float] = field(default_factory=dict)
    """When each engine's last news came, or its last answer."""
    news: dict[str, int] = field(default_factory=lambda: {PREFILL: 0, DECODE: 0})
    """How many messages of each engine have come."""
    seen: list[tuple[int, int]] = field(default_factory=list)
    """Length and hit of each prompt so far."""

    def predicted(self, engine: str, prompt: list[int], keys: ContentKeys = ContentKeys()) -> int:  # noqa: B008  # frozen
        hashes = self.hasher.hash(np.array(prompt, np.uint32), keys, self.index.ways)
        return self.index.hits(hashes).get(engine, 0)

    async def follow(self, target: str) -> AsyncIterator[PrefixUpdate]:
        """The feed of the engine at ``target``, with a note of when it said something."""
        engine = next(name for name in self.news if self.pair.config.engines[name].kv == target)
        async for update in self.pair.reports.prefixes(target):
            yield update
            self.news[engine] += 1
            self.heard(engine)

    def heard(self, engine: str) -> None:
        self.heard_s[engine] = asyncio.get_running_loop().time()

    async def settled(self, engine: str) -> None:
        """Wait until the engine has been quiet for a while."""

        async def is_quiet() -> bool:
            return asyncio.get_running_loop().time() >= self.heard_s.get(engine, 0) + QUIET_S

        await until(is_quiet)

    @asynccontextmanager
    async def storing(self, engines: Iterable[str]) -> AsyncIterator[None]:
        """What is asked within makes these engines store blocks: they have said so at the end of it."""
        before = dict(self.news)
        yield

        async def have_told() -> bool:
            return all(self.news[engine] > before[engine] for engine in engines)

        await until(have_told, NEWS_TIMEOUT_S)

    async def check(self, engine: str, prompt: list[int], keys: ContentKeys = ContentKeys()) -> list[int]:  # noqa: B008
        """Ask, compare, and return the prompt with its answer."""
        await self.settled(engine)
        predicted = self.predicted(engine, prompt, keys)
        stores = len(prompt) // self.block_tokens > predicted // self.block_tokens
        fields = {"cache_salt": keys.salt, "model": keys.adapter and keys.adapter[0]}
        async with self.storing([engine] if stores else []):
            answer = await self.pair.complete(
                engine, prompt, 2, **{key: value for key, value in fields.items() if value}
            )
            assert answer.cached_tokens == predicted, f"{engine}: {len(prompt)} tokens, {keys}"
        self.heard(engine)
        self.seen.append((len(prompt), predicted))
        return [*prompt, *answer.tokens]


@asynccontextmanager
async def watching(pair: EnginePair, block_tokens: int) -> AsyncIterator[Watched]:
    """Follow both engines; ``block_tokens`` is the largest of their blocks."""
    watched = Watched(pair, PrefixIndex(), block_tokens)
    feeds = feeds_of(pair.config)
    watch = PrefixWatch(watched.index)
    await watch.keep(watched.follow, {name: feeds[name] for name in (PREFILL, DECODE)})

    async def are_followed() -> bool:
        return all(watched.index.state(name).is_exact for name in (PREFILL, DECODE))

    try:
        await until(are_followed)
        yield watched
    finally:
        await watch.aclose()
