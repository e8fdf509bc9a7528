"""What the engine's prefix cache holds, for everybody who follows it: a snapshot, then every change."""

import asyncio
from collections.abc import AsyncIterator

from prfaas.errors import RemoteProtocolError
from prfaas.prefix import FeedCounts, PrefixChange, PrefixGeometry, PrefixUpdate
from prfaas.wire.kv_events import AllBlocksCleared, KvEvent
from prfaas.wire.prefix_set import PrefixSet
from prfaas.wire.prefixes import MAX_HASHES, in_parts

MAX_FOLLOWERS = 64
"""Gateways and their worker processes; each may have ``MAX_PENDING`` hashes waiting."""
MAX_PENDING = 128 * MAX_HASHES
"""Hashes that wait for one follower, some MiB; one that is further behind gets a new snapshot instead."""


class _Follower:
    """One feed: what has changed since its last message."""

    def __init__(self) -> None:
        self.counts: FeedCounts | None = None
        self.changes: list[PrefixChange] = []
        self.pending = 0
        self.wants_snapshot = True
        self.changed = asyncio.Event()

    def add(self, changes: list[PrefixChange]) -> None:
        self.changed.set()
        if self.wants_snapshot:
            return
        self.changes += changes
        self.pending += sum(len(change.hashes) for change in changes)
        if self.pending > MAX_PENDING:
            self.restart()

    def restart(self) -> None:
        self.changes, self.pending, self.wants_snapshot = [], 0, True
        self.changed.set()


class PrefixFeed:
    """Belongs to the mover's loop.

    Attributes:
        is_exact: no event has been lost since the engine began.
        counts: what went wrong on the way of the events.
    """

    def __init__(self, geometry: PrefixGeometry, blocks: int) -> None:
        self._geometry = geometry
        self._blocks = blocks
        self._set = PrefixSet(group.index for group in geometry.groups)
        self._followers: set[_Follower] = set()
        self.is_exact = True
        self.counts = FeedCounts()

    def count(self, *, gaps: int = 0, garbage: int = 0, losses: int = 0) -> None:
        """Something went wrong so often; followers are told."""
        now = self.counts
        self.counts = FeedCounts(now.gaps + gaps, now.garbage + garbage, now.losses + losses)
        for follower in self._followers:
            follower.changed.set()

    def apply(self, events: list[KvEvent]) -> None:
        """Take the events of one batch, in order."""
        changes: list[PrefixChange] = []
        for event in events:
            if isinstance(event, AllBlocksCleared):
                self._reset(is_exact=True)
                changes.clear()
            elif change := self._set.apply(event):
                changes.append(change)
        if changes:
            for follower in self._followers:
                follower.add(changes)

    def lose(self) -> None:
        """Events are gone for good: what the engine had stored before is not known any more."""
        self._reset(is_exact=False)

    def _reset(self, *, is_exact: bool) -> None:
        self._set.clear()
        self.is_exact = is_exact
        for follower in self._followers:
            follower.restart()

    async def follow(self) -> AsyncIterator[PrefixUpdate]:
        """Everything from now on, until the caller stops.

        Raises:
            RemoteProtocolError: too many follow already.
        """
        if len(self._followers) >= MAX_FOLLOWERS:
            raise RemoteProtocolError(f"{MAX_FOLLOWERS} already follow this engine's prefix cache")
        follower = _Follower()
        self._followers.add(follower)
        try:
            geometry: PrefixGeometry | None = self._geometry
            while True:
                for part in in_parts(self._next_update(follower, geometry)):
                    yield part
                geometry = None
                await follower.changed.wait()
        finally:
            self._followers.discard(follower)

    def _next_update(self, follower: _Follower, geometry: PrefixGeometry | None) -> PrefixUpdate:
        """All that a follower does not know yet; the next changes wait for the message after it."""
        is_reset = follower.wants_snapshot
        changes = self._set.snapshot() if is_reset else follower.changes
        follower.changes, follower.pending, follower.wants_snapshot = [], 0, False
        follower.changed.clear()
        blocks = self._blocks if geometry else 0
        counts = self.counts if self.counts != follower.counts else None
        follower.counts = self.counts
        return PrefixUpdate(geometry, blocks, is_reset, self.is_exact, tuple(changes), counts)
