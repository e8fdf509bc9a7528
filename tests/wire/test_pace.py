"""Sending no faster than a configured rate, on a clock moved by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.wire.pace import BURST_S, Pace

RATE = 1000_000.0


def test_without_a_rate_nothing_waits() -> None:
    """0 is no limit."""
    pace = Pace(0, 0.0)
    pace.spend(1 << 40)
    assert pace.wait_s(0.0) == 0


def test_a_frame_waits_until_the_debt_is_paid() -> None:
    """The wait is what the frames before have cost beyond the burst."""
    pace = Pace(RATE, 0.0)
    assert pace.wait_s(0.0) == 0
    pace.spend(round(RATE))
    wait_s = pace.wait_s(0.0)
    assert wait_s == pytest.approx(1 - BURST_S)
    assert pace.wait_s(wait_s / 2) == pytest.approx(wait_s / 2)
    assert pace.wait_s(wait_s + 1e-6) == 0


def test_a_long_rest_earns_no_more_than_a_burst() -> None:
    """What was not sent is lost: a router's queue would have to take it."""
    pace = Pace(RATE, 0.0)
    pace.wait_s(3600.0)
    pace.spend(round(RATE))
    assert pace.wait_s(3600.0) == pytest.approx(1 - BURST_S)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300_000), st.floats(0, 0.2)), min_size=1, max_size=100))
def test_the_rate_holds_over_any_sequence_of_frames(steps: list[tuple[int, float]]) -> None:
    """Sent bytes never exceed rate times time by more than a burst and the frame that is leaving."""
    pace, now_s, sent = Pace(RATE, 0.0), 0.0, 0
    for size, rest_s in steps:
        now_s += rest_s
        now_s += pace.wait_s(now_s)
        pace.spend(size)
        sent += size
        assert sent - size <= RATE * (now_s + BURST_S) * (1 + 1e-9) + 1
