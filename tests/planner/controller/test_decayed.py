"""Rates and means that forget."""

import pytest

from prfaas.planner.controller.decayed import DecayedMean, DecayedRate


def test_a_constant_rate_is_found_from_the_first_seconds_on() -> None:
    """Two events a second, with a half-life of five minutes, are two a second after ten seconds and after an hour."""
    rate = DecayedRate(300.0)
    rate.begin(0.0)
    for half_seconds in range(7200):
        rate.add(half_seconds / 2)
        if half_seconds in (20, 7199):
            assert rate.per_s(half_seconds / 2) == pytest.approx(2.0, rel=0.06)


def test_after_a_half_life_without_events_half_is_left() -> None:
    """Long after the beginning, where the correction for it no longer counts."""
    rate = DecayedRate(10.0)
    for second in range(1000):
        rate.add(second)
    assert rate.per_s(1010.0) == pytest.approx(rate.per_s(1000.0) / 2)


def test_no_event_is_a_rate_of_nothing() -> None:
    """Before the beginning, and after it."""
    rate = DecayedRate(10.0)
    assert rate.per_s(5.0) == 0.0
    rate.begin(5.0)
    assert rate.per_s(6.0) == 0.0


def test_many_events_at_one_moment_are_no_infinite_rate() -> None:
    """A hundred at the very beginning count as those of a second."""
    rate = DecayedRate(1000.0)
    for _ in range(100):
        rate.add(7.0)
    assert rate.per_s(7.0) == pytest.approx(100.0, rel=0.001)


def test_the_mean_prefers_what_is_new() -> None:
    """10 now and 40 a half-life ago: (10 + 40 / 2) / 1.5."""
    mean = DecayedMean(60.0)
    assert mean.mean() is None
    mean.add(0.0, 40)
    mean.add(60.0, 10)
    assert mean.mean() == pytest.approx(20.0)
    assert mean.count == 2
