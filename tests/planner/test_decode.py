"""The decode profile, and the batch that an objective allows."""

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.decode import DecodeProfile, OperatingPoint

PROFILE = DecodeProfile((1, 10, 20), (0.010, 0.019, 0.029))


def test_the_largest_batch_within_the_objective() -> None:
    """1 ms a request above the first: 24 ms allow 15, a generous objective no more than was measured."""
    assert PROFILE.operating_point(0.024).batch == 15
    assert PROFILE.operating_point(0.024).step_s == pytest.approx(0.024)
    assert PROFILE.operating_point(1.0).batch == 20
    assert PROFILE.operating_point(0.010) == OperatingPoint(1, 0.010)


def test_a_batch_that_decodes_less_is_not_taken() -> None:
    """The step doubles at 11 requests, so 10 give more tokens a second."""
    assert DecodeProfile((10, 11), (0.010, 0.020)).operating_point(0.025) == OperatingPoint(10, 0.010)


def test_an_impossible_objective_says_what_is_possible() -> None:
    """Even one request takes 10 ms a token."""
    with pytest.raises(ConfigError, match=r"0\.005 s a token: this engine's fastest step takes 0\.01 s"):
        PROFILE.operating_point(0.005)


def test_one_point_is_an_operating_point() -> None:
    """As in the paper: no larger batch is assumed, and no faster step."""
    profile = DecodeProfile((20,), (0.025,))
    assert profile.operating_point(0.025) == OperatingPoint(20, 0.025)
    assert profile.seconds(1) == 0.025
    with pytest.raises(ConfigError, match="fastest step"):
        profile.operating_point(0.024)


def test_seconds_are_interpolated_and_end_with_the_points() -> None:
    """Nobody knows whether a larger batch fits."""
    assert PROFILE.seconds(15) == pytest.approx(0.024)
    with pytest.raises(ConfigError, match="a batch of 21: measured is 20 at most"):
        PROFILE.seconds(21)


@pytest.mark.parametrize(
    ("batch", "step_s", "message"),
    [
        ((), (), "no points"),
        ((1, 2), (0.01,), "no points"),
        ((0, 2), (0.01, 0.02), "have to ascend"),
        ((2, 2), (0.01, 0.02), "have to ascend"),
        ((1, 100_000), (0.01, 0.02), "at most 65536"),
        ((1, 2), (0.0, 0.02), "above 0"),
        ((1, 2), (25.0, 30.0), "milliseconds"),
        ((1, 2), (0.01, float("nan")), "above 0"),
        ((1, 8), (0.03, 0.02), r"0.03 s with 1 requests and only 0.02 s with 8"),
    ],
)
def test_wrong_points_are_named(batch: tuple[int, ...], step_s: tuple[float, ...], message: str) -> None:
    """Each with what is wrong about it."""
    with pytest.raises(ConfigError, match=message):
        DecodeProfile(batch, step_s)
