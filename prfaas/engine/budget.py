"""How many of the engine's blocks remote loads may hold while they wait for another site.

vLLM stops its whole waiting queue at the first request whose blocks it cannot allocate, and a load holds its blocks
without computing anything. So a load is presented to the scheduler only when its blocks are surely there and when all
loads together stay below a share of the cache: the rest always belongs to local requests.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GroupShape:
    """What a cache group allocates for a request: blocks of ``block_tokens``.

    Attributes:
        max_blocks: most of them that are live once the tokens are there, None for all.
        max_prefill_blocks: most that are live while the tokens are being computed, as vLLM reserves them; None for all.
    """

    block_tokens: int
    max_blocks: int | None = None
    max_prefill_blocks: int | None = None

    def blocks_for(self, num_tokens: int) -> int:
        """Upper bound of the blocks that ``num_tokens`` need."""
        return _capped(-(-num_tokens // self.block_tokens), self.max_blocks)

    def growth(self, total: int, computed: int) -> int:
        """Blocks that a prefill of ``total`` tokens may still take when ``computed`` of them are done."""
        done = _capped(-(-computed // self.block_tokens), self.max_prefill_blocks)
        # A group that has stopped growing still takes a block for the next chunk before it gives one back.
        spare = self.max_prefill_blocks is not None
        return max(0, _capped(-(-total // self.block_tokens), self.max_prefill_blocks) - done) + spare


def _capped(blocks: int, most: int | None) -> int:
    return blocks if most is None else min(blocks, most)


@dataclass
class LoadBudget:
    """Blocks promised to loads; owned by the scheduler side of the connector, one thread.

    Attributes:
        groups: shapes of all cache groups of the engine.
        limit_blocks: most blocks that all loads may hold at once.
        held_blocks: blocks promised at present.
    """

    groups: tuple[GroupShape, ...]
    limit_blocks: int
    held_blocks: int = 0
    _held: dict[str, int] = field(default_factory=dict)

    def blocks_for(self, num_tokens: int) -> int:
        """Upper bound of the blocks a request of ``num_tokens`` needs over all groups."""
        return sum(group.blocks_for(num_tokens) for group in self.groups)

    def fits_ever(self, num_tokens: int) -> bool:
        """Whether a load of this size can be admitted at all."""
        return self.blocks_for(num_tokens) <= self.limit_blocks

    def fits_share(self, num_tokens: int) -> bool:
        """Whether a load of this size keeps within the loads' share, beside those that hold some of it."""
        return self.held_blocks + self.blocks_for(num_tokens) <= self.limit_blocks

    def reserve(self, unfinished_prefills: Iterable[tuple[int, int]]) -> int:
        """Blocks that no load may have, because running prefills will need them.

        Args:
            unfinished_prefills: (all tokens, computed tokens) of running requests whose prompt is still being
                computed; vLLM keeps the blocks they still need out of reach of a load.
        """
        return sum(group.growth(*prefill) for prefill in unfinished_prefills for group in self.groups)

    def hold(self, request_id: str, num_tokens: int) -> None:
        """Promise the blocks of a load; a second promise for the same request replaces the first."""
        self.release(request_id)
        self._held[request_id] = self.blocks_for(num_tokens)
        self.held_blocks += self._held[request_id]

    def release(self, request_id: str) -> None:
        """The load has ended, however; unknown ids are ignored."""
        self.held_blocks -= self._held.pop(request_id, 0)

    def snapshot(self) -> Mapping[str, int]:
        """Blocks promised by request."""
        return dict(self._held)
