"""Prefix caches of all engines: blocks by their ids, the longest unused go first.

Attention's rule: any beginning of whole blocks is reusable. Recurrent state exists at few lengths only, so a hybrid
model's hits are fewer than these.
"""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 512
"""Of Mooncake's traces, and of the ids that the simulator makes up."""


class PrefixCaches:
    """Which engine has which blocks. Engines are numbers from 0 on; sets of them are integers, a bit an engine."""

    def __init__(self, capacities_tokens: Sequence[int]) -> None:
        self._capacities = [tokens // BLOCK_TOKENS for tokens in capacities_tokens]
        self._blocks: list[OrderedDict[int, None]] = [OrderedDict() for _ in capacities_tokens]
        self._holders: dict[int, int] = {}

    def hits(self, block_ids: Sequence[int]) -> dict[int, int]:
        """Engine -> tokens of the prompt that it would reuse; engines without any are left out."""
        found: dict[int, int] = {}
        holders, having = self._holders, -1
        for at, block in enumerate(block_ids):
            still = having & holders.get(block, 0)
            if still != having:
                if at:
                    _note(found, having & ~still, at * BLOCK_TOKENS)
                if not still:
                    return found
                having = still
        if block_ids:
            _note(found, having, len(block_ids) * BLOCK_TOKENS)
        return found

    def admit(self, engine: int, block_ids: Sequence[int]) -> None:
        """The engine has the whole prompt now."""
        capacity = self._capacities[engine]
        if not capacity:
            return
        blocks, bit = self._blocks[engine], 1 << engine
        # Backwards, so that ends are evicted before the beginnings they are useless without.
        for block in reversed(block_ids):
            if block in blocks:
                blocks.move_to_end(block)
            else:
                blocks[block] = None
                self._holders[block] = self._holders.get(block, 0) | bit
        while len(blocks) > capacity:
            self._drop(blocks.popitem(last=False)[0], bit)

    def clear(self, engine: int) -> None:
        """It has begun anew."""
        for block in self._blocks[engine]:
            self._drop(block, 1 << engine)
        self._blocks[engine].clear()

    def _drop(self, block: int, bit: int) -> None:
        left = self._holders[block] & ~bit
        if left:
            self._holders[block] = left
        else:
            del self._holders[block]


def _note(found: dict[int, int], engines: int, tokens: int) -> None:
    while engines > 0:
        lowest = engines & -engines
        found[lowest.bit_length() - 1] = tokens
        engines ^= lowest
