"""Profiles from points: what is refused, and what the router gets of them."""

import numpy as np
import pytest

from prfaas.errors import ConfigError
from prfaas.planner.curve import PiecewiseLinear, Quadratic
from prfaas.planner.profile import EngineProfile, cache_curve, prefill_curve
from prfaas.routing.figures import CacheSize, PrefillRate


@pytest.mark.parametrize(
    ("tokens", "seconds", "message"),
    [
        ([1024], [0.4], r"prefill: 1 point: nothing says how it grows .* measure two lengths"),
        ([], [], "0 point"),
        ([1024, 8192], [0.4], "2 point"),
        ([1024, 8192], [0.7, 0.4], r"0.7 s at 1024 tokens and only 0.4 s at 8192.*measure again"),
        ([1024, 1024], [0.4, 0.4], "1024 tokens after 1024: points have to ascend"),
        ([8192, 1024], [0.4, 0.7], "points have to ascend"),
        ([1024, 130_000], [440, 7400], r"7400 s for 130000 tokens.*are these milliseconds"),
        ([1024, 4096], [440, 550], "are these milliseconds"),
        ([1, 128], [0.44, 7.4], "tokens in thousands"),
        ([1024, 8192], [0, 0.7], "above 0"),
        ([0, 8192], [0.1, 0.7], "above 0"),
        ([1024, 8192], [0.4, float("nan")], "above 0"),
        ([1024, float("inf")], [0.4, 0.5], "above 0"),
    ],
)
def test_wrong_prefill_points_are_named(tokens: list[float], seconds: list[float], message: str) -> None:
    """One point, falling latencies and mixed-up units say so and what to do."""
    with pytest.raises(ConfigError, match=message):
        prefill_curve(tokens, seconds)


def test_a_cache_in_mib_is_noticed() -> None:
    """190.8 bytes cannot hold 1,024 tokens."""
    with pytest.raises(ConfigError, match=r"190\.8 bytes for 1024 tokens.*MiB"):
        cache_curve([1024, 8192], [190.8, 308.9])


def test_a_fit_that_misses_its_points_is_refused() -> None:
    """A jump is no quadratic; straight lines follow it."""
    tokens, seconds = [1000, 2000, 3000, 4000], [0.1, 0.1, 5.0, 5.0]
    with pytest.raises(ConfigError, match=r"off by \d+%.*between: linear"):
        prefill_curve(tokens, seconds, "quadratic")
    assert isinstance(prefill_curve(tokens, seconds), PiecewiseLinear)


def test_the_router_gets_the_same_figures() -> None:
    """A formula as it is, points as their least squares."""
    exact = EngineProfile("exact", Quadratic(0.1, 2e-4, 3e-9), Quadratic(5e6, 1000.0))
    assert exact.prefill_rate() == PrefillRate(0.1, 2e-4, 3e-9)
    assert exact.cache_size() == CacheSize(1000.0, 5e6)
    tokens = [1000.0, 2000.0, 4000.0]
    at = np.asarray(tokens)
    measured = EngineProfile(
        "points", prefill_curve(tokens, exact.prefill.at(at).tolist()), cache_curve(tokens, exact.cache.at(at).tolist())
    )
    assert measured.prefill_rate().seconds(3000, 0) == pytest.approx(exact.prefill_rate().seconds(3000, 0))
    assert measured.cache_size().bytes_per_token == pytest.approx(1000.0)
    assert measured.cache_size().state_bytes == pytest.approx(5e6)
