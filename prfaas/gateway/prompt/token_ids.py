"""Token ids in the two forms in which they leave: packed for hashing, as JSON for the engines."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

BYTES_PER_ID = 4


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids of a prompt or of a part of one, immutable.

    A hundred thousand ids as a Python list take 4 MB and milliseconds at every step; these are made once and joined and
    sent by copying bytes.

    Attributes:
        packed: the ids as unsigned 32-bit integers in the machine's order: ``numpy.frombuffer(ids.packed, "uint32")``.
        digits: the ids in decimal, separated by commas: JSON's array without its brackets.
    """

    packed: bytes
    digits: bytes

    @classmethod
    def of(cls, ids: Sequence[int]) -> Self:
        """From plain numbers. Raises OverflowError when one of them is no unsigned 32-bit integer."""
        return cls(array("I", ids).tobytes(), msgspec.json.encode(ids)[1:-1])

    @classmethod
    def from_packed(cls, packed: bytes) -> Self:
        """From the packed form."""
        return cls(packed, msgspec.json.encode(array("I", packed).tolist())[1:-1])

    @classmethod
    def joined(cls, parts: Iterable["TokenIds"]) -> Self:
        """The ids of all parts in order."""
        filled = [part for part in parts if part.packed]
        return cls(b"".join([part.packed for part in filled]), b",".join([part.digits for part in filled]))

    @property
    def json(self) -> msgspec.Raw:
        """The ids as a JSON array, for a body that is encoded with msgspec."""
        return msgspec.Raw(b"[%b]" % self.digits)

    @property
    def size_bytes(self) -> int:
        """The memory that the ids take."""
        return len(self.packed) + len(self.digits)

    def to_list(self) -> list[int]:
        """The ids as plain numbers."""
        return array("I", self.packed).tolist()

    def __len__(self) -> int:
        return len(self.packed) // BYTES_PER_ID
