"""What is remembered never changes what is hashed."""

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.fleet.block_hash import ContentKeys, Tokens, hash_links, low_bits
from prfaas.fleet.prompt_hasher import PromptHasher

WAYS = ((4, bytes(32)), (6, b"r" * 32))
PROMPTS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=60), st.sampled_from([None, "a", "b"])), min_size=1, max_size=25
)


def tokens_of(tokens: list[int]) -> Tokens:
    return np.array(tokens, np.uint32)


@given(PROMPTS, st.integers(1, 200))
@settings(deadline=None)
def test_chains_are_those_of_a_fresh_start(prompts: list[tuple[list[int], str | None]], max_tokens: int) -> None:
    hasher = PromptHasher(max_tokens)
    for prompt, salt in prompts:
        tokens, keys = tokens_of([*([1] * 10), *prompt]), ContentKeys(salt)
        found = hasher.hash(tokens, keys, WAYS)
        assert found.count == len(tokens)
        for way in WAYS:
            assert found.chains[way].tolist() == low_bits(hash_links(tokens, way, keys)).tolist()
        assert hasher._tokens == sum(len(p.tokens) for s in hasher._siblings.values() for p in s) <= max_tokens


def test_only_what_is_new_in_a_conversation_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = cbor2.dumps

    def dumps(value: tuple[bytes, tuple[int, ...], object], *, canonical: bool) -> bytes:
        hashed.append(len(value[1]))
        encoded: bytes = real(value, canonical=canonical)
        return encoded

    monkeypatch.setattr(cbor2, "dumps", dumps)
    hasher, rng = PromptHasher(), np.random.default_rng(3)
    system = rng.integers(0, 1_000, 400, np.uint32)
    talks = [np.concatenate((system, rng.integers(0, 1_000, 100, np.uint32))) for _ in range(5)]
    way = ((4, bytes(32)),)
    for talk in talks:
        hasher.hash(talk, ContentKeys(), way)
    assert len(hashed) <= 125 + 4 * 26 + 5
    hashed.clear()
    for talk in talks:
        hasher.hash(np.concatenate((talk, talk[:40])), ContentKeys(), way)
    assert len(hashed) == 5 * (10 + 1)


@pytest.mark.parametrize("length", [0, 3])
def test_a_prompt_of_less_than_a_block_has_an_empty_chain(length: int) -> None:
    found = PromptHasher().hash(tokens_of([7] * length), ContentKeys(), WAYS)
    assert [len(chain) for chain in found.chains.values()] == [0, 0]
