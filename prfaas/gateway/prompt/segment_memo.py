"""The ids of segments that were tokenised before: what makes the next turn of a conversation cheap."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from prfaas.gateway.prompt.token_ids import TokenIds

MEMO_BYTES = 128 * 1024 * 1024
"""Ten bytes a token: a hundred conversations of 100,000 tokens, more than the caches of a site's engines hold."""
ENTRY_BYTES = 400
"""What an entry takes beside its ids, so that very many short ones are bounded, too."""


class SegmentMemo:
    """Maps a segment *and all that precedes it* to the segment's ids; forgets the longest unused. For one thread.

    A hit costs less time than a miss, which a client can measure. So a segment is found only behind the same beginning
    and with the same ``cache_salt``: what can be learnt from it is what an engine's own prefix cache tells anyway.
    The text itself is not kept, only a hash of it with a key of this process, for which nobody can look for collisions.
    """

    def __init__(self, limit_bytes: int = MEMO_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[bytes, TokenIds] = OrderedDict()
        self._key = secrets.token_bytes(32)

    @property
    def size_bytes(self) -> int:
        """What the memo holds now."""
        return self._size_bytes

    def keys(self, segments: Sequence[str], salt: str | None) -> Iterator[bytes]:
        """The key of each segment, in order."""
        digest = hashlib.blake2b(digest_size=16, key=self._key)
        salted = b"" if salt is None else b"salt" + salt.encode("utf-8", "surrogatepass")
        digest.update(len(salted).to_bytes(8, "little") + salted)
        for segment in segments:
            part = segment.encode("utf-8", "surrogatepass")
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
            yield digest.digest()

    def get(self, key: bytes) -> TokenIds | None:
        """The ids of a segment, which by that is the one used last; None when it is not known."""
        ids = self._entries.get(key)
        if ids is not None:
            self._entries.move_to_end(key)
        return ids

    def put(self, key: bytes, ids: TokenIds) -> None:
        """Remember a segment that ``get`` does not know; what alone exceeds the bound is not kept."""
        self._entries[key] = ids
        self._size_bytes += ids.size_bytes + ENTRY_BYTES
        while self._size_bytes > self._limit_bytes:
            _, forgotten = self._entries.popitem(last=False)
            self._size_bytes -= forgotten.size_bytes + ENTRY_BYTES
