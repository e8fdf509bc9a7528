"""What an engine's prefix cache holds, rebuilt from its events."""

from collections.abc import Iterable

from prfaas.prefix import PrefixChange
from prfaas.wire.kv_events import AllBlocksCleared, BlockStored, KvEvent, hashes_of


class PrefixSet:
    """Blocks by group. They are counted: requests that compute the same prefix at the same time each store a block of
    their own, and the prefix stays reusable until the last of them is overwritten.

    Bounded by the number of blocks that the engine has.
    """

    def __init__(self, groups: Iterable[int]) -> None:
        """``groups``: indexes of those that take part in prefix caching; events of others are ignored."""
        self._counts: dict[int, dict[int, int]] = {group: {} for group in groups}

    def apply(self, event: KvEvent) -> PrefixChange | None:
        """Take one event; what it changes, or None when that is nothing. A cleared cache is the caller's ``clear``."""
        if isinstance(event, AllBlocksCleared):
            raise TypeError("a cleared cache changes everything: call clear")
        group = event.group_idx or 0
        counts = self._counts.get(group)
        if counts is None:
            return None
        take = self._store if isinstance(event, BlockStored) else self._remove
        changed = [each for each in hashes_of(event) if take(counts, each)]
        return PrefixChange(group, isinstance(event, BlockStored), changed) if changed else None

    def clear(self) -> None:
        """Forget all blocks."""
        for counts in self._counts.values():
            counts.clear()

    def snapshot(self) -> list[PrefixChange]:
        """All blocks as changes to nothing."""
        return [PrefixChange(group, True, list(counts)) for group, counts in self._counts.items() if counts]

    @staticmethod
    def _store(counts: dict[int, int], block: int) -> bool:
        counts[block] = count = counts.get(block, 0) + 1
        return count == 1

    @staticmethod
    def _remove(counts: dict[int, int], block: int) -> bool:
        left = counts.get(block, 0) - 1
        if left > 0:
            counts[block] = left
            return False
        return counts.pop(block, None) is not None
