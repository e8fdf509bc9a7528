"""Prompts that no cache knows: random token ids, the same for the same seed."""

import random
from dataclasses import dataclass

FIRST_ID = 32
"""Below it tokenizers keep special tokens and control characters."""
BYTE_IDS = 256
"""Every vocabulary has the bytes among its first ids, or something as harmless."""
ORDINARY_SHARE = 0.95
"""Of a vocabulary; at its end are special tokens, such as those that stand for an image."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Makes prompts.

    Attributes:
        seed: of all of them.
        vocabulary: ids that the model knows, None if that is not known.
        run: a text that differs from run to run; as the cache salt it keeps what an earlier run left from being hit.
    """

    seed: int
    vocabulary: int | None
    run: str

    def ids(self, length: int, index: object) -> list[int]:
        """A prompt of ``length`` tokens; another index gives another one."""
        end = max(FIRST_ID + 1, int((self.vocabulary or BYTE_IDS) * ORDINARY_SHARE))
        return random.Random(f"prompt {self.seed} {length} {index}").choices(range(FIRST_ID, end), k=length)

    def salt(self, index: object) -> str:
        """vLLM's ``cache_salt`` for the prompt with this index."""
        return f"{self.run}-{index}"
