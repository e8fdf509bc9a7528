"""Bytes of a model's cache, from its layers: what a prompt of some length must put on the wire.

Two kinds of layers, in bytes of all heads together. An attention layer keeps a row a token, of all tokens or of a
window's; a recurrent layer keeps one state, however long the prompt. ``families`` reads them from a configuration.
"""

import math
from dataclasses import dataclass

from prfaas.routing.figures import CacheSize


@dataclass(frozen=True, slots=True)
class AttentionCache:
    """Attention layers of one kind: K and V of each KV head, or an MLA latent.

    Attributes:
        layers: how many there are.
        row_bytes: of one token in one layer.
        window: tokens that a sliding window sees, None for full attention.
        shards: parts that a tensor-parallel engine can cut a row into (its KV heads; an MLA latent is one piece). More
            ranks than that hold copies.
    """

    layers: int
    row_bytes: int
    window: int | None = None
    shards: int = 1

    def bytes_at(self, tokens: int, block_tokens: int) -> int:
        """After so many tokens. A window's rows begin at a block, because whole blocks are handed over."""
        first = 0 if self.window is None else max(0, tokens - self.window + 1) // block_tokens * block_tokens
        return self.layers * self.row_bytes * (tokens - first)


@dataclass(frozen=True, slots=True)
class StateCache:
    """Recurrent layers of one kind.

    Attributes:
        layers: how many there are.
        state_bytes: of one layer: its recurrent state and what its convolution remembers.
        shards: as above: its heads.
    """

    layers: int
    state_bytes: int
    shards: int

    def bytes_at(self, tokens: int, block_tokens: int) -> int:
        """The same after any number of tokens."""
        return self.layers * self.state_bytes


@dataclass(frozen=True, slots=True)
class ModelCache:
    """All layers of a model that keep something."""

    kinds: tuple[AttentionCache | StateCache, ...]

    def bytes_at(self, tokens: int, *, block_tokens: int = 1, ranks: int = 1) -> int:
        """The cache after ``tokens`` tokens.

        Args:
            block_tokens: of the engine's blocks; they decide where a window's rows begin.
            ranks: of tensor parallelism, whose copies count as often as they are held.
        """
        return sum(kind.bytes_at(tokens, block_tokens) * max(1, ranks // kind.shards) for kind in self.kinds)

    def prompt_bytes(self, tokens: int, *, block_tokens: int = 1, ranks: int = 1) -> int:
        """On the wire for a prompt of ``tokens`` tokens, whose last one is computed where it is decoded."""
        return self.bytes_at(tokens - 1, block_tokens=block_tokens, ranks=ranks)

    def size(self) -> CacheSize:
        """The straight line that long prompts follow: what has an end counts as state."""
        growing = [kind for kind in self.kinds if isinstance(kind, AttentionCache) and kind.window is None]
        slope = sum(kind.layers * kind.row_bytes for kind in growing)
        return CacheSize(slope, self.bytes_at(self._settled()) - slope * self._settled())

    def describe(self) -> str:
        """In a line, for people: layers and bytes of each kind."""
        return ", ".join(map(_describe, self.kinds))

    def _settled(self) -> int:
        """A length from which on no window grows."""
        return max((kind.window for kind in self.kinds if isinstance(kind, AttentionCache) and kind.window), default=1)


def state_bytes(element_bytes: int, *shape: int) -> int:
    """Of a tensor."""
    return element_bytes * math.prod(shape)


def _describe(kind: AttentionCache | StateCache) -> str:
    if isinstance(kind, StateCache):
        return f"{kind.layers} recurrent layers of {kind.state_bytes:,} bytes"
    window = f", the last {kind.window} tokens" if kind.window else ""
    return f"{kind.layers} attention layers of {kind.row_bytes:,} bytes a token{window}"
