"""How much of a prompt each engine would reuse, by vLLM's rules for hybrid caches (``HybridKVCacheCoordinator``).

A boundary is a hit when every group accepts it: full attention needs all blocks before it, a window the last few before
it, recurrent layers the one block that ends at it, which holds their state there.
"""

from collections.abc import Callable

import numpy as np

from prfaas.fleet.block_hash import Chain
from prfaas.fleet.block_log import Masks
from prfaas.prefix import CacheGroup, PrefixGeometry

Look = Callable[[Chain], Masks]
"""Who has the blocks that end at these links: one row a link, one column a group of the geometry, in its order."""
STRIDE = 64
"""Links from one that is looked at first to the next. Most prompts miss early; what comes after a miss is no hit."""


def match(geometry: PrefixGeometry, chain: Chain, limit_tokens: int, look: Look) -> dict[int, int]:
    """Bit of an engine -> tokens that it would reuse, for those above 0.

    Args:
        chain: links of ``geometry.hash_tokens`` tokens each.
        limit_tokens: the most that may be reused: one less than the prompt, for its last token has to be computed.
    """
    links_of_boundary = geometry.align_tokens // geometry.hash_tokens
    links = min(limit_tokens // geometry.hash_tokens, len(chain)) // links_of_boundary * links_of_boundary
    if not links or not geometry.groups:
        return {}
    have = _look(geometry, chain[:links], look)
    accepted: Masks | None = None
    for column, group in enumerate(geometry.groups):
        accepts = {"full": _full, "window": _window, "recurrent": _recurrent}[group.kind]
        here = accepts(group, geometry, have[:, column])[: len(have) // links_of_boundary]
        accepted = here if accepted is None else accepted & here
    assert accepted is not None
    if not len(accepted):
        return {}
    return {engine: boundary * geometry.align_tokens for engine, boundary in _last(accepted).items()}


def _look(geometry: PrefixGeometry, chain: Chain, look: Look) -> Masks:
    """Who has which links, up to where a group of full attention shows that nobody can hit any more.

    Every ``STRIDE``-th of its blocks is looked at first: those that somebody hits have all been his up to there.
    """
    full = next((column for column, group in enumerate(geometry.groups) if group.kind == "full"), None)
    if full is None or len(chain) <= 2 * STRIDE:
        return look(chain)
    block = geometry.groups[full].block_tokens // geometry.hash_tokens
    stride = STRIDE // block * block or block
    hits = np.bitwise_and.accumulate(look(chain[stride - 1 :: stride])[:, full])
    return look(chain[: (np.count_nonzero(hits) + 1) * stride])


def _full(group: CacheGroup, geometry: PrefixGeometry, have: Masks) -> Masks:
    """Everybody who has all blocks up to each boundary."""
    return _at_boundaries(np.bitwise_and.accumulate(_at_blocks(group, geometry, have)), group, geometry)


def _window(group: CacheGroup, geometry: PrefixGeometry, have: Masks) -> Masks:
    """Everybody who has the blocks of the window before each boundary; near the beginning there are fewer."""
    have = _at_blocks(group, geometry, have)
    found = have.copy()
    for before in range(1, min(group.window_blocks, len(have))):
        found[before:] &= have[:-before]
    return _at_boundaries(found, group, geometry)


def _recurrent(group: CacheGroup, geometry: PrefixGeometry, have: Masks) -> Masks:
    """Everybody who has the state at each boundary."""
    step = geometry.align_tokens // geometry.hash_tokens
    return have[step - 1 :: step]


def _at_blocks(group: CacheGroup, geometry: PrefixGeometry, have: Masks) -> Masks:
    step = group.block_tokens // geometry.hash_tokens
    return have[step - 1 :: step]


def _at_boundaries(masks: Masks, group: CacheGroup, geometry: PrefixGeometry) -> Masks:
    step = geometry.align_tokens // group.block_tokens
    return masks[step - 1 :: step]


def _last(accepted: Masks) -> dict[int, int]:
    """Bit -> number of the last boundary that it accepts, counted from 1."""
    from_end = np.bitwise_or.accumulate(accepted[::-1])
    # There are at most 64 places where somebody joins.
    joins = [0, *(np.flatnonzero(from_end[1:] != from_end[:-1]) + 1).tolist()]
    last: dict[int, int] = {}
    before = 0
    for join, now in zip(joins, from_end[joins].tolist(), strict=True):
        new, before = now & ~before, now
        while new:
            bit = new & -new
            last[bit.bit_length() - 1] = len(accepted) - join
            new ^= bit
    return last
