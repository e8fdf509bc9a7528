"""An index that follows a pair of engines, compared with what they say that they had cached."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.fleet.prompt_hasher import PromptHasher
from prfaas.gateway.prefix_watch import PrefixWatch, feeds_of
from prfaas.prefix import PrefixUpdate
from tests.engine.models import prompt_tokens
from tests.engine.pair import DECODE, PREFILL, EnginePair, until


@dataclass
class Watched:
    """The pair, and an index that follows both engines."""

    pair: EnginePair
    index: PrefixIndex
    block_tokens: int
    hasher: PromptHasher = field(default_factory=PromptHasher)
    stored: dict[str, set[int]] = field(default_factory=lambda: {PREFILL: set(), DECODE: set()})
    """Blocks that each engine has told of, ever."""
    seen: list[tuple[int, int]] = field(default_factory=list)
    """Length and hit of each prompt so far."""

    def predicted(self, engine: str, prompt: list[int], keys: ContentKeys = ContentKeys()) -> int:  # noqa: B008  # frozen
        hashes = self.hasher.hash(np.array(prompt, np.uint32), keys, self.index.ways)
        return self.index.hits(hashes).get(engine, 0)

    async def follow(self, target: str) -> AsyncIterator[PrefixUpdate]:
        """The feed of the engine at ``target``, with a note of what has gone into the index."""
        engine = next(name for name in self.stored if self.pair.config.engines[name].kv == target)
        async for update in self.pair.reports.prefixes(target):
            yield update
            for change in update.changes:
                self.stored[engine].update(change.hashes if change.is_stored else ())

    async def settled(self, engine: str) -> None:
        """Wait until the index has all that the engine has done: it tells of that in order, and of this block last."""
        prompt, salt = prompt_tokens(self.block_tokens + 1, seed=1), self.pair.salt()
        await self.pair.complete(engine, prompt, 1, cache_salt=salt)
        hashes = self.hasher.hash(np.array(prompt, np.uint32), ContentKeys(salt), self.index.ways)
        block = {each for chain in hashes.chains.values() for each in chain.tolist()}

        async def is_told() -> bool:
            return not block.isdisjoint(self.stored[engine])

        await until(is_told)

    async def check(self, engine: str, prompt: list[int], keys: ContentKeys = ContentKeys()) -> list[int]:  # noqa: B008
        """Ask, compare, and return the prompt with its answer."""
        await self.settled(engine)
        predicted = self.predicted(engine, prompt, keys)
        fields = {"cache_salt": keys.salt, "model": keys.adapter and keys.adapter[0]}
        answer = await self.pair.complete(engine, prompt, 2, **{key: value for key, value in fields.items() if value})
        assert answer.cached_tokens == predicted, f"{engine}: {len(prompt)} tokens, {keys}"
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
