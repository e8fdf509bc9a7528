"""What is known of each block, in the order in which the blocks came.

A prompt's blocks come together, when an engine has computed them, and are asked for together, in the next turn of the
conversation. So where one of them lies, the next ones most likely follow: a look-up reads on instead of going to a
random place for each.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Masks = npt.NDArray[np.uint64]
NOBODYS = 0
"""Marks a place without a block. No block has this key; one whose hash it is gets 1."""
SEGMENT = 1 << 12
"""Places that are swept at once: a fraction of a millisecond, and few runs of blocks are torn."""
SLACK = 1.5
"""Places over blocks: so in a full log a third of the places are free, in the segment that is swept a third or more."""


class BlockLog:
    """Segments of places, each place with a key and for each group a mask of engines. Its owner finds a key's place.

    Blocks are written one after the other into the open segment; another is free, the spare. When the open one is full
    the spare is opened, and the segment with the fewest blocks left is swept: they are written again, in their order,
    and it becomes the spare. So the order of arrival outlasts any number of evictions, and no step takes long.

    Attributes:
        room: the most blocks it may hold at once.
        keys: of each place, ``NOBODYS`` where no block is.
        masks: one row a place, one column a group.
        key_view: ``keys``, for single elements.
        mask_view: ``masks`` row after row, for single elements.
    """

    def __init__(self, groups: int, room: int) -> None:
        self.room = room
        segments = int(room * SLACK) // SEGMENT + 3
        self.keys: Keys = np.zeros(segments * SEGMENT, np.uint64)
        self.masks: Masks = np.zeros((segments * SEGMENT, groups), np.uint64)
        self.key_view, self.mask_view = view(self.keys), view(self.masks.reshape(-1))
        self._left = np.zeros(segments, np.int64)
        """Blocks in each segment, the open one counted as full."""
        self._left_view = view(self._left)
        self._open(0)
        self._spare = 1

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.keys.nbytes + self.masks.nbytes

    @property
    def is_due(self) -> bool:
        """``sweep`` has to come before the next block."""
        return self._next == self._end

    def append(self, key: int) -> int:
        """The place of a new block, which nobody has yet."""
        place = self._next
        self.key_view[place] = key
        self._next += 1
        return place

    def remove(self, place: int) -> None:
        """Nobody has this block any more; its masks are 0."""
        self.key_view[place] = NOBODYS
        self._left_view[place // SEGMENT] -= 1

    def discard_all(self, mask: int) -> Keys:
        """These engines have nothing any more; the keys of those blocks that nobody has now."""
        self.masks &= np.uint64(~mask & (1 << 64) - 1)
        places = np.flatnonzero(self.keys)
        places = places[~self.masks[places].any(axis=1)]
        gone = self.keys[places]
        self.keys[places] = NOBODYS
        self._left -= np.bincount(places // SEGMENT, minlength=len(self._left))
        return gone

    def live(self) -> tuple[Keys, Masks]:
        """All blocks, for ``extend``."""
        places = np.flatnonzero(self.keys)
        return self.keys[places], self.masks[places]

    def extend(self, keys: Keys, masks: Masks) -> None:
        """Write so many blocks at once into an empty log, at the first places."""
        self.keys[: len(keys)], self.masks[: len(keys)] = keys, masks
        full = len(keys) // SEGMENT
        self._left[:full] = SEGMENT
        self._open(full)
        self._next = len(keys)
        self._spare = full + 1

    def sweep(self) -> tuple[Keys, int]:
        """Make room for the next block. What was moved for it: the keys, and where the first one is now."""
        self._open(self._spare)
        swept = int(self._left.argmin())
        places = swept * SEGMENT + np.flatnonzero(self.keys[swept * SEGMENT : (swept + 1) * SEGMENT])
        keys, first = self.keys[places], self._next
        self.keys[first : first + len(keys)], self.masks[first : first + len(keys)] = keys, self.masks[places]
        self.keys[places], self.masks[places] = NOBODYS, 0
        self._next += len(keys)
        self._left[swept] = 0
        self._spare = swept
        return keys, first

    def _open(self, segment: int) -> None:
        self._next, self._end = segment * SEGMENT, (segment + 1) * SEGMENT
        self._left[segment] = SEGMENT


def view(array: Any) -> "memoryview[int]":
    """Of a flat array: an element costs a third of what it costs there."""
    return memoryview(array)  # to the type checker arrays are buffers from Python 3.12 on only
