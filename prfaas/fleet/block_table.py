"""Which of up to 64 engines have which blocks: a hash table over flat arrays, for millions of blocks.

A look-up of a long prompt asks for thousands of blocks at once, so it is vectorised, and most of it is reading a log
(``block_log``) along. A block has the same hash in every group of an engine's cache, so one key holds a mask for each
group. A dict of Python ints would take several times the memory, and one cache miss after the other.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prfaas.fleet.block_log import NOBODYS, BlockLog, Keys, Masks, view

Places = npt.NDArray[np.int64]
"""In the table or in the log; -1 for what is nowhere."""
WAYS = 4
"""Keys of a bucket, half a cache line. At most half of all are in use, so one bucket in twenty spills into the next."""
MAX_SPILLED = 0.25
"""A look-up goes on from marked bucket to marked bucket: so it looks at a third of a bucket more, and it ends."""
MIN_ROOM = 1 << 9
GROWTH = 1.25
"""More than an engine's share of a large fleet: so 64 engines that come one after the other are few rebuilds."""
RUN = 32
"""Of so many keys the first is looked for in the table, the others are expected behind it in the log. A step of an
engine brings some hundred blocks of 16 tokens; longer runs would be torn more often."""
FEW = 8 * RUN
"""So many keys are looked for one by one: to expect something of the log costs more than it saves."""
EMPTY = NOBODYS


class BlockTable:
    """Keys -> for each group a mask of engines, bit e for engine e. A key that nobody has is as good as absent.

    Deletion leaves the bucket's mark of having spilled, which costs later look-ups one more bucket. When more than
    ``MAX_SPILLED`` of the buckets have one, the table is built anew.
    """

    def __init__(self, groups: int) -> None:
        """``groups``: how many masks a key has."""
        self._groups = groups
        self._allocate(BlockLog(groups, MIN_ROOM))

    def __len__(self) -> int:
        """Keys that any engine has in any group."""
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._keys.nbytes + self._places.nbytes + self._spilled.nbytes + self._log.nbytes

    def reserve(self, keys: int) -> None:
        """Make room for so many at once: growing step by step would copy them again and again."""
        if keys > self._log.room:
            self._rebuild(max(keys, int(self._log.room * GROWTH)))

    def add(self, keys: Sequence[int], group: int, mask: int) -> None:
        """These engines have these blocks in this group now."""
        groups = self._groups
        for key in keys:
            key = key or 1
            slot = self._slot_of(key)
            place = self._place_view[slot] if slot >= 0 else self._insert(key)
            self._log.mask_view[place * groups + group] |= mask

    def discard(self, keys: Sequence[int], group: int, mask: int) -> None:
        """These engines do not have these blocks in this group any more."""
        groups, keep, log = self._groups, ~mask, self._log
        for key in keys:
            slot = self._slot_of(key or 1)
            if slot >= 0:
                place = self._place_view[slot]
                log.mask_view[place * groups + group] &= keep
                if not any(log.mask_view[place * groups : (place + 1) * groups].tolist()):
                    self._key_view[slot] = EMPTY
                    log.remove(place)
                    self._count -= 1

    def discard_all(self, mask: int) -> None:
        """These engines have nothing any more."""
        gone = self._log.discard_all(mask)
        self._keys[self._slots(gone)] = EMPTY
        self._count -= len(gone)

    def masks(self, keys: Keys) -> Masks:
        """Who has each of these blocks: one row a key, one column a group. Fast where they came in this order."""
        keys = np.maximum(keys, np.uint64(1))
        places = self._places_in_order(keys) if len(keys) > FEW else self._places_of(keys)
        found = self._log.masks.take(places, axis=0, mode="clip")
        found[places < 0] = 0
        return found

    def _places_in_order(self, keys: Keys) -> Places:
        """Where in the log these keys are, expecting each behind the one before it."""
        places = (self._places_of(keys[::RUN])[:, None] + np.arange(RUN)).ravel()[: len(keys)]
        elsewhere = np.flatnonzero(self._log.keys.take(places, mode="clip") != keys)
        if len(elsewhere):
            places[elsewhere] = self._places_of(keys[elsewhere])
        return places

    def _places_of(self, keys: Keys) -> Places:
        """Where in the log these keys are."""
        slots = self._slots(keys)
        places = self._places.take(slots, mode="clip").astype(np.int64)
        places[slots < 0] = -1
        return places

    def _slots(self, keys: Keys) -> Places:
        """Where in the table these keys are."""
        bucket = (keys & self._bucket_mask).view(np.int64)
        slots = self._slots_in(keys, bucket)
        missing = np.flatnonzero(slots < 0)
        missing = missing[self._spilled[bucket[missing]]]
        while len(missing):
            bucket[missing] = (bucket[missing] + 1) & (self._buckets - 1)
            slots[missing] = self._slots_in(keys[missing], bucket[missing])
            missing = missing[(slots[missing] < 0) & self._spilled[bucket[missing]]]
        return slots

    def _slots_in(self, keys: Keys, buckets: Places) -> Places:
        """Where the keys are in these buckets, -1 for those that are elsewhere or nowhere."""
        rows = self._keys.reshape(-1, WAYS).take(buckets, axis=0, mode="clip")
        # The four answers of a row as one number with a byte for each way; below its only bit there are 8 for each way
        # before it, 32 if there is none. Several times faster than argmax.
        hit = (rows.ravel() == np.repeat(keys, WAYS)).view(np.uint32)
        way = np.bitwise_count(hit - np.uint32(1)) >> 3
        slots: Places = buckets * WAYS + way
        slots[way == WAYS] = -1
        return slots

    def _slot_of(self, key: int) -> int:
        """The slot of one key, -1 without one."""
        bucket = key & self._buckets - 1
        while True:
            first = bucket * WAYS
            row = self._key_view[first : first + WAYS].tolist()
            if key in row:
                return first + row.index(key)
            if not self._spill_view[bucket]:
                return -1
            bucket = bucket + 1 & self._buckets - 1

    def _insert(self, key: int) -> int:
        """A place in the log for a key that has none."""
        if self._count == self._log.room:
            self._rebuild(2 * self._count)
        elif self._marks > MAX_SPILLED * self._buckets:
            self._rebuild(self._log.room)
        if self._log.is_due:
            self._sweep()
        place = self._log.append(key)
        self._link(key, place)
        return place

    def _link(self, key: int, place: int) -> None:
        """Note the place of a key that the table does not have."""
        bucket = key & self._buckets - 1
        while EMPTY not in (row := self._key_view[bucket * WAYS : (bucket + 1) * WAYS].tolist()):
            self._marks += not self._spill_view[bucket]
            self._spill_view[bucket] = 1
            bucket = bucket + 1 & self._buckets - 1
        slot: int = bucket * WAYS + row.index(EMPTY)
        self._key_view[slot], self._place_view[slot] = key, place
        self._count += 1

    def _sweep(self) -> None:
        """Let the log go on, and note what it moved."""
        keys, first = self._log.sweep()
        self._places[self._slots(keys)] = np.arange(first, first + len(keys))

    def _allocate(self, log: BlockLog) -> None:
        """An empty table over this log, at most half of which will be in use."""
        self._log = log
        self._buckets = 1 << max(0, (2 * log.room - 1) // WAYS).bit_length()
        self._count = self._marks = 0
        self._bucket_mask = np.uint64(self._buckets - 1)
        self._keys: Keys = np.zeros(self._buckets * WAYS, np.uint64)
        self._places: npt.NDArray[np.uint32] = np.zeros(self._buckets * WAYS, np.uint32)
        self._spilled: npt.NDArray[np.bool_] = np.zeros(self._buckets, np.bool_)
        self._key_view, self._place_view = view(self._keys), view(self._places)
        self._spill_view = view(self._spilled.view(np.uint8))

    def _rebuild(self, room: int) -> None:
        """Move everything to another table: all that fit into their own bucket at once, the others one by one."""
        keys, masks = self._log.live()
        self._allocate(BlockLog(self._groups, room))
        self._log.extend(keys, masks)
        home = (keys & self._bucket_mask).view(np.int64)
        order = np.argsort(home, kind="stable")
        home = home[order]
        is_first = np.r_[True, home[1:] != home[:-1]] if len(home) else np.zeros(0, np.bool_)
        at = np.arange(len(home))
        way = at - np.maximum.accumulate(np.where(is_first, at, 0))
        fits = way < WAYS
        slots = home[fits] * WAYS + way[fits]
        self._keys[slots], self._places[slots] = keys[order[fits]], order[fits]
        self._count = len(slots)
        for one in order[~fits].tolist():
            self._link(int(keys[one]), one)
