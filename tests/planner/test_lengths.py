"""Distributions of lengths: shares, means and quantiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.lengths import EmpiricalLengths, Lengths
from prfaas.planner.log_normal import LogNormalLengths
from tests.planner import cases

PAPER = LogNormalLengths(9.90, 1.00, 128, 128 << 10)


def test_the_papers_distribution() -> None:
    """Truncated as in the case study: mean, P90, and the split at 19,400 tokens."""
    split = PAPER.split(np.array([19_400.0]))
    assert PAPER.mean_tokens == pytest.approx(27_486, abs=1)
    assert PAPER.quantiles(np.array([0.9]))[0] == pytest.approx(62_410, abs=1)
    assert split.long_share[0] == pytest.approx(0.4957, abs=1e-4)
    assert split.short_tokens[0] == pytest.approx(10_223, abs=1)
    assert split.long_tokens[0] == pytest.approx(45_045, abs=1)


def test_an_empirical_split_by_hand() -> None:
    """Of 1, 2, 2 and 10 thousand, above 2,000 is a quarter; a threshold's own length is not above it."""
    lengths = EmpiricalLengths.of([2000, 1000, 10_000, 2000])
    split = lengths.split(np.array([0.0, 999, 1000, 2000, 9999, 10_000]))
    assert split.long_share.tolist() == [1.0, 1.0, 0.75, 0.25, 0.25, 0.0]
    assert split.long_tokens == pytest.approx([3750, 3750, 14_000 / 3, 10_000, 10_000, 10_000])
    assert split.short_tokens == pytest.approx([1000, 1000, 1000, 5000 / 3, 5000 / 3, 3750])
    assert lengths.mean_tokens == 3750


def test_empirical_quantiles_are_lengths_that_occurred() -> None:
    """The smallest that the share does not exceed."""
    lengths = EmpiricalLengths((1000, 2000, 10_000), (1, 2, 1))
    assert lengths.quantiles(np.array([0.0, 0.25, 0.26, 0.75, 0.9, 1.0])).tolist() == [
        1000,
        1000,
        2000,
        2000,
        10_000,
        10_000,
    ]


@settings(max_examples=60, deadline=None)
@given(cases.lengths, st.lists(st.floats(0, 200_000), min_size=1, max_size=20))
def test_the_parts_make_up_the_whole(lengths: Lengths, thresholds: list[float]) -> None:
    """p * l_long + (1 - p) * l_short is the mean, and each part's mean is on its side of the threshold."""
    t = np.sort(np.array(thresholds))
    split = lengths.split(t)
    whole = split.long_share * split.long_tokens + (1 - split.long_share) * split.short_tokens
    assert whole == pytest.approx(np.full(len(t), lengths.mean_tokens), rel=1e-6)
    assert ((split.long_share >= 0) & (split.long_share <= 1)).all()
    assert (np.diff(split.long_share) <= 1e-12).all()
    assert (split.long_tokens >= np.minimum(t, lengths.max_tokens) - 1e-6).all()
    assert (split.short_tokens <= np.maximum(t, lengths.min_tokens) + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(cases.lengths)
def test_atoms_are_the_distribution(lengths: Lengths) -> None:
    """Their weights add up to 1, their mean is the mean, and they ascend within the bounds."""
    atoms = lengths.atoms
    assert atoms.weights.sum() == pytest.approx(1.0)
    assert atoms.tokens @ atoms.weights == pytest.approx(lengths.mean_tokens, rel=1e-6)
    assert (np.diff(atoms.tokens) >= 0).all()
    assert lengths.min_tokens <= atoms.tokens[0] <= atoms.tokens[-1] <= lengths.max_tokens


@settings(max_examples=30, deadline=None)
@given(cases.lengths, st.floats(0.01, 0.99))
def test_quantiles_undo_shares(lengths: Lengths, share: float) -> None:
    """At most 1 - share of the requests are longer than the quantile."""
    quantile = lengths.quantiles(np.array([share]))
    assert lengths.split(quantile).long_share[0] <= 1 - share + 1e-6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((9.9, 0.0, 128, 131_072), "have to be above 0"),
        ((9.9, 1.0, 0, 131_072), "have to be above 0"),
        ((9.9, 1.0, 131_072, 128), "bounds to ascend"),
        ((9.9, float("nan"), 128, 131_072), "have to be above 0"),
        ((float("nan"), 1.0, 128, 131_072), "have to be above 0"),
        ((19_930.0, 1.0, 128, 131_072), "natural logarithm of the median"),
        ((9.9, 1.0, 128, float("inf")), "have to be above 0"),
    ],
)
def test_wrong_log_normals_are_refused(parameters: tuple[float, float, float, float], message: str) -> None:
    """Also a median in place of its logarithm."""
    with pytest.raises(ConfigError, match=message):
        LogNormalLengths(*parameters)


def test_no_lengths_and_wrong_lengths_are_refused() -> None:
    """An empty list has no mean, and a prompt has a token."""
    with pytest.raises(ConfigError, match="there are none"):
        EmpiricalLengths.of([])
    with pytest.raises(ConfigError, match="0 tokens"):
        EmpiricalLengths.of([5, 0])
