"""What repeated samples come to."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.measure.samples import Point, interleaved, never_falling, points, weighted_median


def test_median_and_the_middle_half() -> None:
    """Of 1 to 5 the median is 3 and the middle half 2 wide; an outlier moves neither."""
    assert points({8: [1, 2, 3, 4, 500], 4: [7.0], 2: []}) == (Point(4, 7.0, 0.0), Point(8, 3.0, 2.0))


def test_points_that_rise_stay() -> None:
    """Nothing is evened out and nothing is said."""
    rising = (Point(1, 1.0, 0.1), Point(2, 1.0, 0.1), Point(4, 2.0, 0.1))
    assert never_falling(rising, "tokens") == (rising, (), ())


def test_noise_is_evened_out_and_told() -> None:
    """A fall within the spread gives both points their mean, and the note both figures."""
    evened, noise, falls = never_falling((Point(1, 1.0, 0.3), Point(2, 0.8, 0.3), Point(4, 2.0, 0.1)), "tokens")
    assert [point.seconds for point in evened] == pytest.approx([0.9, 0.9, 2.0])
    assert len(noise) == 1
    assert "1 s at 1, 0.8 s at 2 tokens: taken as 0.9 s" in noise[0]
    assert not falls


def test_a_clear_fall_is_told_apart() -> None:
    """A fall that the spread does not explain is evened out, too, but is no noise."""
    evened, noise, falls = never_falling((Point(1, 1.0, 0.01), Point(2, 0.8, 0.01)), "requests")
    assert [point.seconds for point in evened] == pytest.approx([0.9, 0.9])
    assert not noise
    assert len(falls) == 1


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=12))
def test_never_falling_and_as_much_in_all(seconds: list[float]) -> None:
    """Whatever was measured: the result never falls and its sum is that of the measurement."""
    evened, noise, falls = never_falling([Point(at + 1, value, 0.0) for at, value in enumerate(seconds)], "tokens")
    values = [point.seconds for point in evened]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(values))
    assert sum(values) == pytest.approx(sum(seconds))
    assert bool(noise or falls) == (sorted(seconds) != seconds)


def test_weighted_median() -> None:
    """A value that counts five times outweighs two others."""
    assert weighted_median([(1.0, 1), (9.0, 5), (2.0, 1)]) == 9.0
    with pytest.raises(ValueError, match="nothing"):
        weighted_median([])


def test_every_size_once_a_round_in_an_order_of_the_seed() -> None:
    """Rounds are complete and shuffled, the same for the same seed whatever else draws random numbers."""
    random.seed(5)
    order = list(interleaved((64, 8, 16, 32), 3, seed=1))
    random.seed(6)
    assert order == list(interleaved((8, 16, 32, 64), 3, seed=1))
    assert order != list(interleaved((8, 16, 32, 64), 3, seed=2))
    for at in range(3):
        assert sorted(size for each, size in order if each == at) == [8, 16, 32, 64]
