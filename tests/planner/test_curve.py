"""What lies between and beyond measured points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.curve import PiecewiseLinear, Quadratic, fit_error, least_squares

PAPER_TOKENS, PAPER_S = (1024, 8192, 32_000, 130_000), (0.44, 0.72, 1.84, 7.40)


def test_piecewise_is_straight_between_points() -> None:
    """Half way between two lengths it is half way between their seconds."""
    curve = PiecewiseLinear((1000, 2000, 4000), (1.0, 2.0, 6.0))
    assert curve.at(np.array([1000.0, 1500, 2000, 3000])).tolist() == [1.0, 1.5, 2.0, 4.0]


def test_piecewise_stays_below_and_goes_on_above() -> None:
    """A short prompt costs what the shortest measured one did; a long one goes on as between the last two points."""
    curve = PiecewiseLinear((1000, 2000, 4000), (1.0, 2.0, 6.0))
    assert curve.at(np.array([1.0, 6000, 8000])).tolist() == [1.0, 10.0, 14.0]


@pytest.mark.parametrize("curve", [PiecewiseLinear((1000, 4000), (1.0, 2.0)), Quadratic(0, 1, 0, 4000)])
def test_no_curve_answers_far_beyond_its_points(curve: PiecewiseLinear | Quadratic) -> None:
    """More than twice the longest measured prompt is an error that says how long that was."""
    with pytest.raises(ConfigError, match=r"8001 tokens: the profile ends at 4000"):
        curve.at(np.array([8001.0]))


def test_a_formula_has_no_end() -> None:
    """Nothing was measured that it could be too far from."""
    assert Quadratic(1.0, 2.0, 3.0).at(np.array([0.0, 1.0, 1e9])).tolist() == [1.0, 6.0, 1 + 2e9 + 3e18]


def test_least_squares_gives_the_papers_h200() -> None:
    """The four points of the case study, as the reference has them."""
    curve = least_squares(PAPER_TOKENS, PAPER_S)
    assert curve.fixed == pytest.approx(0.3834, rel=1e-3)
    assert curve.linear == pytest.approx(4.2545e-5, rel=1e-3)
    assert curve.quadratic == pytest.approx(8.793e-11, rel=1e-3)
    assert fit_error(curve, PAPER_TOKENS, PAPER_S) == pytest.approx(0.03, abs=0.01)


@given(st.floats(0, 2), st.floats(1e-6, 1e-3), st.floats(1e-12, 1e-8))
def test_least_squares_finds_an_exact_quadratic(fixed: float, linear: float, quadratic: float) -> None:
    """Points of a quadratic give it back."""
    tokens = np.array([100.0, 1000, 10_000, 50_000])
    values = fixed + linear * tokens + quadratic * tokens**2
    curve = least_squares(tokens.tolist(), values.tolist())
    assert curve.at(tokens) == pytest.approx(values, rel=1e-6)


@given(st.lists(st.floats(0.001, 10), min_size=2, max_size=8))
def test_least_squares_never_falls(steps: list[float]) -> None:
    """No part is negative, so a longer prompt never takes less, whatever the points."""
    tokens = [1000.0 * (index + 1) for index in range(len(steps))]
    curve = least_squares(tokens, np.cumsum(steps).tolist())
    assert min(curve.fixed, curve.linear, curve.quadratic) >= 0
    assert max(curve.fixed, curve.linear, curve.quadratic) > 0
