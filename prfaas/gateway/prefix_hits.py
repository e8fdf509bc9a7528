"""What every engine would reuse of a prompt: told by the engines themselves, or guessed from what was sent to them."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prfaas.fleet.block_hash import ContentKeys, PromptHashes, Tokens, Way
from prfaas.fleet.guessed_prefixes import GUESS_WAY, GuessedPrefixes
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.fleet.prompt_hasher import PromptHasher

INLINE_TOKENS = 1_024
"""Hashed at once in half a millisecond at most; another thread would take half as long to be asked."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Of one prompt.

    Attributes:
        hashes: of the prompt, for ``PrefixHits.sent``.
        tokens: engine -> prompt tokens that it would reuse, for those above 0.
    """

    hashes: PromptHashes
    tokens: Mapping[str, int]


class PrefixHits:
    """Belongs to the gateway's loop; long prompts are hashed on a thread of its own, one after the other.

    Attributes:
        index: what the engines tell.
    """

    def __init__(self, index: PrefixIndex, engines: Collection[str]) -> None:
        """``engines``: all of them."""
        self.index = index
        self._engines = engines
        self._guesses = GuessedPrefixes()
        self._short, self._long = PromptHasher(), PromptHasher()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prfaas-hash")

    def keep(self, engines: Collection[str], changed: Collection[str]) -> None:
        """There are these engines from now on; nothing is known any more of those that ``changed``."""
        for engine in {*changed, *self._engines} - (set(engines) - set(changed)):
            self.index.forget(engine)
            self._guesses.forget(engine)
        self._engines = engines

    async def of(self, tokens: Tokens, keys: ContentKeys) -> Hits:
        """Look a prompt up at every engine."""
        hashes = await self._hashed(tokens, keys, self._ways())
        found = self.index.hits(hashes)
        for engine in self._guessed():
            if hit := self._guesses.hits(engine, hashes):
                found[engine] = hit
        return Hits(hashes, found)

    def sent(self, engine: str, hits: Hits) -> None:
        """The prompt goes to this engine, and will be in its cache."""
        if self.index.state(engine).is_followed:
            self._guesses.forget(engine)  # older than what it tells; no guess for when its feed ends
        else:
            self._guesses.sent(engine, hits.hashes)

    def was_away(self, engine: str) -> None:
        """The engine comes back after it could not be reached or was not well: it may have begun anew, with nothing
        cached. What it tells itself ends with its feed."""
        self._guesses.forget(engine)

    def close(self) -> None:
        """Stop the thread; no prompt is being hashed any more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _hashed(self, tokens: Tokens, keys: ContentKeys, ways: tuple[Way, ...]) -> PromptHashes:
        if len(tokens) <= INLINE_TOKENS:
            return self._short.hash(tokens, keys, ways)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._long.hash, tokens, keys, ways)

    def _guessed(self) -> list[str]:
        return [engine for engine in self._engines if not self.index.state(engine).is_followed]

    def _ways(self) -> tuple[Way, ...]:
        return (*self.index.ways, GUESS_WAY) if self._guessed() else self.index.ways
