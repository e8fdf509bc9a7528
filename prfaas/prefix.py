"""Frozen values about prefix caches: how an engine names its blocks, when a prefix hits, and what changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

GroupKind = Literal["full", "window", "recurrent"]
"""What a group needs for a hit at a boundary: every block before it, the last blocks before it, the block at it."""


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """The layers of an engine that share one list of cache blocks.

    Attributes:
        index: vLLM's index of the group; names the group in events.
        block_tokens: tokens of a block, a multiple of ``PrefixGeometry.hash_tokens``.
        window_blocks: how many blocks before a boundary a ``window`` group needs, at least 1; 0 for others.
    """

    index: int
    kind: GroupKind
    block_tokens: int
    window_blocks: int = 0


@dataclass(frozen=True, slots=True)
class PrefixGeometry:
    """What vLLM 0.32 makes of a prompt's prefix. Engines with equal geometry find the same hashes and hits.

    Attributes:
        hash_tokens: tokens per link of the chain of hashes.
        align_tokens: hits are multiples of it.
        root: the parent of every first block, 32 bytes.
        groups: those that take part in prefix caching; none when it is switched off.
    """

    hash_tokens: int
    align_tokens: int
    root: bytes
    groups: tuple[CacheGroup, ...]


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """Blocks that became known to an engine's prefix cache, or were forgotten.

    Attributes:
        group: the index of their group.
        hashes: the low 64 bits of each block's hash.
    """

    group: int
    is_stored: bool
    hashes: Sequence[int]


KNOWLEDGE = ("exact", "partial", "guessed")
"""What an engine has cached is known; is known but for what was cached before events were lost; or is guessed from what
was sent to it."""


@dataclass(frozen=True, slots=True)
class FeedCounts:
    """What was not as it should be with an engine's cache events, since its mover began.

    Attributes:
        gaps: times that a batch was missing; most are healed by a replay.
        garbage: messages that were no batch, or none that could be read.
        losses: times that something could not be had any more: what was cached before is not known.
    """

    gaps: int = 0
    garbage: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class PrefixUpdate:
    """One message of an engine's feed, in order. The first one of a feed carries the geometry and is a reset.

    Attributes:
        geometry: the engine's, in the first message only.
        is_reset: forget everything that was known of the engine; the changes begin from nothing.
        is_exact: no event has been lost, so what is known is what the engine has.
        blocks: how many blocks the engine's cache has; with the geometry.
        counts: in the first message and whenever they have changed, else None.
    """

    geometry: PrefixGeometry | None = None
    blocks: int = 0
    is_reset: bool = False
    is_exact: bool = True
    changes: tuple[PrefixChange, ...] = ()
    counts: FeedCounts | None = None
