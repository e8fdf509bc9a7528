"""Predicted hits against a plain reading of vLLM's rules, engine by engine."""

from typing import get_args
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.fleet import hybrid_match
from prfaas.fleet.block_hash import Chain
from prfaas.fleet.block_log import Masks
from prfaas.fleet.hybrid_match import match
from prfaas.prefix import CacheGroup, GroupKind, PrefixGeometry

Held = dict[int, list[set[int]]]
"""Group -> for each engine the numbers of the links it has blocks for."""


def geometry_of(*groups: CacheGroup, hash_tokens: int = 4, align_tokens: int = 4) -> PrefixGeometry:
    return PrefixGeometry(hash_tokens, align_tokens, bytes(32), groups)


def predicted(geometry: PrefixGeometry, held: Held, links: int, limit: int, engines: int) -> dict[int, int]:
    def look(asked: Chain) -> Masks:
        def mask(group: int, link: int) -> int:
            return sum(1 << e for e in range(engines) if link in held[group][e])

        rows = [[mask(group.index, int(link)) for group in geometry.groups] for link in asked]
        return np.array(rows, np.uint64).reshape(len(asked), len(geometry.groups))

    return match(geometry, np.arange(links, dtype=np.uint64), limit, look)


def plain(geometry: PrefixGeometry, held: Held, links: int, limit: int, engine: int) -> int:
    """The longest boundary that every group accepts, looked for from the end."""
    for tokens in range(min(limit, links * geometry.hash_tokens), 0, -1):
        if tokens % geometry.align_tokens == 0 and all(
            accepts(group, geometry, held[group.index][engine], tokens) for group in geometry.groups
        ):
            return tokens
    return 0


def accepts(group: CacheGroup, geometry: PrefixGeometry, have: set[int], tokens: int) -> bool:
    step = group.block_tokens // geometry.hash_tokens
    ends = [step * (block + 1) - 1 for block in range(tokens // group.block_tokens)]
    if group.kind == "full":
        return set(ends) <= have
    if group.kind == "window":
        return set(ends[max(0, len(ends) - group.window_blocks) :]) <= have
    return tokens // geometry.hash_tokens - 1 in have


@st.composite
def cases(draw: st.DrawFn) -> tuple[PrefixGeometry, Held, int, int, int]:
    hash_tokens = draw(st.sampled_from([1, 4]))
    groups = []
    for index in range(draw(st.integers(1, 4))):
        kind: GroupKind = draw(st.sampled_from(get_args(GroupKind)))
        window = draw(st.integers(1, 5)) if kind == "window" else 0
        groups.append(CacheGroup(index, kind, hash_tokens * draw(st.sampled_from([1, 2, 3])), window))
    align = int(np.lcm.reduce([group.block_tokens for group in groups]))
    links, engines = draw(st.integers(0, 90)), draw(st.integers(1, 5))
    held: Held = {}
    for group in groups:
        # Mostly everything, so that something is hit at all.
        gaps = st.sets(st.integers(0, 90), max_size=4)
        until = st.integers(0, 90)
        held[group.index] = [set(range(draw(until))) - draw(gaps) for _ in range(engines)]
    limit = draw(st.integers(0, links * hash_tokens + 3))
    return geometry_of(*groups, hash_tokens=hash_tokens, align_tokens=align), held, links, limit, engines


@given(cases(), st.sampled_from([1, 4, 7, hybrid_match.STRIDE]))
@settings(max_examples=600, deadline=None)
def test_every_engine_gets_what_the_rules_say(case: tuple[PrefixGeometry, Held, int, int, int], stride: int) -> None:
    geometry, held, links, limit, engines = case
    expected = {e: plain(geometry, held, links, limit, e) for e in range(engines)}
    with patch.object(hybrid_match, "STRIDE", stride):
        assert predicted(geometry, held, links, limit, engines) == {e: n for e, n in expected.items() if n}


def test_attention_without_a_checkpoint_is_no_hit() -> None:
    geometry = geometry_of(CacheGroup(0, "full", 4), CacheGroup(1, "recurrent", 4))
    held: Held = {0: [set(range(10))] * 3, 1: [set(), {4}, {4, 7, 30}]}
    assert predicted(geometry, held, 12, 48, 3) == {1: 20, 2: 32}


@pytest.mark.parametrize(("limit", "hit"), [(40, 40), (39, 36), (3, 0)])
def test_the_last_token_is_never_reused(limit: int, hit: int) -> None:
    geometry = geometry_of(CacheGroup(0, "full", 4))
    assert predicted(geometry, {0: [set(range(10))]}, 10, limit, 1).get(0, 0) == hit


@pytest.mark.parametrize(("held", "hit"), [(0, 0), (64, 0), (100, 100), (199, 100), (300, 300)])
def test_boundaries_may_be_further_apart_than_what_is_looked_at_first(held: int, hit: int) -> None:
    geometry = geometry_of(CacheGroup(0, "full", 4), align_tokens=400)
    assert hybrid_match.STRIDE < 100
    assert predicted(geometry, {0: [set(range(held))]}, 300, 1200, 1).get(0, 0) == 4 * hit


def test_an_engine_without_prefix_caching_hits_nothing() -> None:
    assert predicted(geometry_of(), {}, 10, 40, 1) == {}
