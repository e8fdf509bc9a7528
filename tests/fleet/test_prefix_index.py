"""Feeds of several engines become one answer."""

import numpy as np

from prfaas.fleet.block_hash import ContentKeys, PromptHashes
from prfaas.fleet.prefix_index import MAX_ENGINES, PrefixIndex, PrefixState
from prfaas.fleet.prompt_hasher import PromptHasher
from prfaas.prefix import CacheGroup, PrefixChange, PrefixGeometry, PrefixUpdate

GEOMETRY = PrefixGeometry(4, 4, bytes(32), (CacheGroup(0, "full", 4), CacheGroup(1, "recurrent", 4)))
TOKENS = np.arange(41, dtype=np.uint32)


def hashed(index: PrefixIndex) -> PromptHashes:
    return PromptHasher().hash(TOKENS, ContentKeys(), index.ways)


def first(geometry: PrefixGeometry = GEOMETRY, blocks: int = 100) -> PrefixUpdate:
    return PrefixUpdate(geometry, blocks, is_reset=True)


def stored(group: int, hashes: object, is_stored: bool = True) -> PrefixUpdate:
    return PrefixUpdate(changes=(PrefixChange(group, is_stored, [int(each) for each in hashes]),))  # type: ignore[attr-defined]  # an array


def test_hits_follow_what_is_stored_removed_and_reset() -> None:
    index = PrefixIndex()
    index.apply("a", first())
    index.apply("b", first())
    prompt = hashed(index)
    chain = prompt.chains[4, GEOMETRY.root]
    assert len(chain) == 10
    index.apply("a", stored(0, chain))
    index.apply("b", stored(0, chain))
    assert index.hits(prompt) == {}
    index.apply("a", stored(1, chain[[4]]))
    index.apply("b", stored(1, chain[[4, 9]]))
    assert index.hits(prompt) == {"a": 20, "b": 40}
    index.apply("b", stored(0, chain[[7]], is_stored=False))
    assert index.hits(prompt) == {"a": 20, "b": 20}
    index.apply("a", PrefixUpdate(is_reset=True, changes=stored(0, chain).changes))
    assert index.hits(prompt) == {"b": 20}


def test_groups_with_equal_hashes_are_kept_apart() -> None:
    index = PrefixIndex()
    index.apply("a", first())
    prompt = hashed(index)
    chain = prompt.chains[4, GEOMETRY.root]
    index.apply("a", stored(1, chain))
    assert index.hits(prompt) == {}


def test_an_engine_whose_feed_ended_is_forgotten_and_may_come_back_with_another_geometry() -> None:
    index = PrefixIndex()
    index.apply("a", first())
    chain = hashed(index).chains[4, GEOMETRY.root]
    index.apply("a", stored(0, chain))
    index.apply("a", stored(1, chain))
    assert index.state("a") == PrefixState(is_followed=True, is_exact=True)
    index.forget("a")
    assert (index.state("a"), index.ways) == (PrefixState(), ())
    other = PrefixGeometry(2, 2, b"r" * 32, (CacheGroup(0, "full", 2),))
    index.apply("a", first(other))
    prompt = hashed(index)
    assert index.hits(prompt) == {}
    index.apply("a", stored(0, prompt.chains[2, other.root]))
    assert index.hits(prompt) == {"a": 40}


def test_a_prompt_hashed_before_an_engine_came_is_a_miss_there() -> None:
    index = PrefixIndex()
    prompt = hashed(index)
    index.apply("a", first())
    assert index.hits(prompt) == {}


def test_more_engines_than_a_mask_has_bits() -> None:
    index = PrefixIndex()
    names = [f"e{n}" for n in range(MAX_ENGINES + 2)]
    for name in names:
        index.apply(name, first())
    prompt = hashed(index)
    chain = prompt.chains[4, GEOMETRY.root]
    for at, name in enumerate(names):
        index.apply(name, stored(0, chain[: at % 10 + 1]))
        index.apply(name, stored(1, chain))
    assert index.hits(prompt) == {name: 4 * (at % 10 + 1) for at, name in enumerate(names)}


def test_lost_events_show() -> None:
    index = PrefixIndex()
    index.apply("a", first())
    index.apply("a", PrefixUpdate(is_reset=True, is_exact=False))
    assert index.state("a") == PrefixState(is_followed=True, is_exact=False)


def test_salts_and_adapters_part_equal_prompts() -> None:
    ways = ((4, bytes(32)),)
    keys = [ContentKeys(), ContentKeys(salt="s"), ContentKeys(adapter=("a", "/a")), ContentKeys("s", ("a", "/a"))]
    chains = [PromptHasher().hash(TOKENS, key, ways).chains[ways[0]] for key in keys]
    links = [link for chain in chains for link in chain.tolist()]
    assert len(links) == 10 * len(keys) == len(set(links))
