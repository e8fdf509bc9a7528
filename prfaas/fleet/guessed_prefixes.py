"""What engines probably have cached, for those that publish no events: what was sent to them lately.

A guess errs both ways: it knows neither of evictions nor of checkpoints of recurrent state, nor of what others send.
"""

from collections import OrderedDict

from prfaas.fleet.block_hash import PromptHashes

GUESS_TOKENS = 256
"""Of a block; what an engine's own block size is, is not known either."""
GUESS_WAY = (GUESS_TOKENS, bytes(32))
"""How prompts are hashed for this, see ``PromptHasher``."""
MAX_BLOCKS = 16_384
"""Remembered for each engine, 4 million tokens: about what an engine with one large GPU holds of a small cache."""


class GuessedPrefixes:
    """Belongs to one event loop."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._sent: dict[str, OrderedDict[int, None]] = {}

    def sent(self, engine: str, prompt: PromptHashes) -> None:
        """A prompt goes to the engine; the blocks that were sent least recently are forgotten."""
        blocks = self._sent.setdefault(engine, OrderedDict())
        # From the end, so that of one prompt the beginning is forgotten last, as engines do it.
        for link in reversed(self._links(prompt)):
            blocks[link] = None
            blocks.move_to_end(link)
        while len(blocks) > self._max_blocks:
            blocks.popitem(last=False)

    def forget(self, engine: str) -> None:
        """The engine is not what it was."""
        self._sent.pop(engine, None)

    def hits(self, engine: str, prompt: PromptHashes) -> int:
        """Tokens of the prompt that the engine would probably reuse."""
        blocks = self._sent.get(engine, ())
        count = 0
        for link in self._links(prompt):
            if link not in blocks:
                break
            count += 1
        return min(count, (prompt.count - 1) // GUESS_TOKENS) * GUESS_TOKENS

    @staticmethod
    def _links(prompt: PromptHashes) -> list[int]:
        chain = prompt.chains.get(GUESS_WAY)
        return [] if chain is None else chain.tolist()
