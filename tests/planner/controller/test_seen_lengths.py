"""The distribution of the lengths that arrived lately."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.planner.controller.seen_lengths import MAX_TOKENS, SeenLengths, edges_tokens


def seen(*tokens: int, half_life_s: float = 1e9) -> SeenLengths:
    lengths = SeenLengths(half_life_s)
    for each in tokens:
        lengths.add(0.0, each)
    return lengths


def test_nothing_seen_is_no_distribution() -> None:
    """Rather than an empty one, which nobody can plan for."""
    assert SeenLengths(60.0).lengths() is None


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=200))
def test_mean_and_shares_are_those_of_what_was_seen(tokens: list[int]) -> None:
    """The mean to the token, and the share above every edge exactly, because edges are where bins part."""
    lengths = seen(*tokens).lengths()
    assert lengths is not None
    assert lengths.mean_tokens == pytest.approx(np.mean(tokens), rel=1e-3, abs=0.6)
    edges = edges_tokens(lengths.atoms.tokens)
    found = lengths.split(np.array(edges, np.float64)).long_share
    expected = [np.mean([each > edge for each in tokens]) for edge in edges]
    assert found == pytest.approx(expected, abs=1e-4)


def test_older_lengths_count_less() -> None:
    """One of 100 tokens a half-life before one of 1,000: a third and two thirds."""
    lengths = SeenLengths(60.0)
    lengths.add(0.0, 100)
    lengths.add(60.0, 1000)
    found = lengths.lengths()
    assert found is not None
    assert found.tokens == (100, 1000)
    assert found.atoms.weights == pytest.approx([1 / 3, 2 / 3], abs=1e-5)


def test_weights_never_end() -> None:
    """After ten thousand half-lives the newest lengths are still there, alone."""
    lengths = SeenLengths(1.0)
    for second in range(0, 10_000, 50):
        lengths.add(float(second), 1000 if second < 9000 else 2000)
    found = lengths.lengths()
    assert found is not None
    assert found.tokens == (2000,)


def test_what_is_no_length_counts_as_the_nearest_one() -> None:
    """Nothing uncached is one token; what no model takes is the longest; a profile's reach bounds, too."""
    found = seen(0, -5, 10**12).lengths()
    assert found is not None
    assert (found.min_tokens, found.max_tokens) == (1, MAX_TOKENS)
    cut = seen(5, 10**12).lengths(longest_tokens=262_144.0)
    assert cut is not None
    assert cut.tokens == (5, 262_144)
