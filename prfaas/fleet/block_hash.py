"""The chain of hashes by which vLLM names the blocks of a prompt (``sha256_cbor``), computed without vLLM.

Link i is the hash of link i-1, the tokens of block i and what else decides its content; the first one's parent is the
engine's root. So a link stands for the whole prefix that ends with its block.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import cbor2
import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint32]
Links = npt.NDArray[np.uint8]
"""Whole links, 32 bytes a row."""
Chain = npt.NDArray[np.uint64]
"""The low 64 bits of each link, in order, which is what cache events name blocks by."""
Way = tuple[int, bytes]
"""How a prompt is hashed: tokens of a block, and the root."""
LINK_BYTES = 32


@dataclass(frozen=True, slots=True)
class ContentKeys:
    """What decides the content of a prompt's blocks beside its tokens.

    Attributes:
        salt: keeps apart equal prefixes of those who must not learn of each other.
        adapter: name and path of the LoRA adapter, as the engine knows them.
    """

    salt: str | None = None
    adapter: tuple[str, str] | None = None

    def of_block(self, index: int) -> tuple[tuple[str, ...], ...] | None:
        """vLLM's extra keys: the adapter is in every block, the salt in the first one alone; None without any."""
        keys: list[tuple[str, ...]] = [("lora", *self.adapter)] if self.adapter else []
        if index == 0 and self.salt:
            keys.append(("cache_salt", self.salt))
        return tuple(keys) or None


def hash_links(tokens: Tokens, way: Way, keys: ContentKeys, known: Links | None = None) -> Links:
    """The links of all whole blocks. Of those that are ``known``, the first ones, none is computed again."""
    hash_tokens, parent = way
    count = len(tokens) // hash_tokens
    links = np.empty((count, LINK_BYTES), np.uint8)
    done = 0 if known is None else min(len(known), count)
    if known is not None and done:
        links[:done] = known[:done]
        parent = links[done - 1].tobytes()
    blocks = tokens[done * hash_tokens : count * hash_tokens].reshape(-1, hash_tokens).tolist()
    later = keys.of_block(1)
    for index, block in enumerate(blocks, done):
        extra = keys.of_block(0) if index == 0 else later
        parent = hashlib.sha256(cbor2.dumps((parent, tuple(block), extra), canonical=True)).digest()
        links[index] = memoryview(parent)
    return links


def low_bits(links: Links) -> Chain:
    """The chain of these links."""
    return np.ascontiguousarray(links[:, -8:]).view(">u8").ravel().astype(np.uint64)


@dataclass(frozen=True)
class PromptHashes:
    """The chains of one prompt, one for each way in which the engines cut and root them.

    Attributes:
        count: the prompt's tokens.
        chains: an engine whose way is not among them appeared after the prompt was hashed.
    """

    count: int
    chains: Mapping[Way, Chain]
