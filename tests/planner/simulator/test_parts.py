"""The parts by themselves: curves, caches, links, histograms, the clock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.curve import Curve, PiecewiseLinear, Quadratic
from prfaas.planner.decode import DecodeProfile
from prfaas.planner.simulator.cache import BLOCK_TOKENS, PrefixCaches
from prfaas.planner.simulator.events import Events
from prfaas.planner.simulator.link import Link, Transfer
from prfaas.planner.simulator.outcome import Histogram
from prfaas.planner.simulator.request import Arrival, Request
from prfaas.planner.simulator.spec import LinkSpec
from prfaas.planner.simulator.speeds import prefill_seconds, scalar, step_table
from prfaas.routing.figures import PrefillRate
from prfaas.routing.placement import Placement

CURVES: list[Curve] = [PiecewiseLinear((100.0, 1000.0, 5000.0), (0.1, 0.5, 4.0)), Quadratic(0.3, 1e-4, 1e-9)]


@pytest.mark.parametrize("curve", CURVES)
@given(tokens=st.floats(1, 10_000))
def test_one_length_at_a_time_is_what_the_curve_says(curve: Curve, tokens: float) -> None:
    """The fast function and the array's agree, below, between and beyond the points."""
    assert scalar(curve)(tokens) == pytest.approx(float(curve.at(np.array([tokens]))[0]))


def test_a_length_too_far_beyond_is_refused() -> None:
    """As by the curve."""
    with pytest.raises(ConfigError, match="ends at 5000"):
        scalar(CURVES[0])(10_001)


@given(st.integers(1, 50_000), st.integers(0, 50_000))
def test_context_counts_as_for_the_router(tokens: int, context: int) -> None:
    """A quadratic's seconds after a cached beginning are those that placements are predicted with."""
    seconds = prefill_seconds(Quadratic(0.3, 1e-4, 1e-9))(tokens, context)
    assert seconds == pytest.approx(PrefillRate(0.3, 1e-4, 1e-9).seconds(tokens, context))


def test_steps_are_the_profile_and_no_larger_batch_is_assumed() -> None:
    """Between 2 and 4 requests straight, below 2 as with 2; 5 were not measured."""
    profile = DecodeProfile((2, 4), (0.01, 0.03))
    assert step_table(profile, 4) == pytest.approx([0, 0.01, 0.01, 0.02, 0.03])
    with pytest.raises(ConfigError, match="batch: 5"):
        step_table(profile, 5)


def test_each_engine_hits_as_far_as_its_blocks_go() -> None:
    """From the beginning on, and no further than the first that is missing."""
    caches = PrefixCaches([100 * BLOCK_TOKENS, 100 * BLOCK_TOKENS, 0])
    caches.admit(0, (1, 2, 3))
    caches.admit(1, (1, 5))
    caches.admit(2, (1, 2, 3))
    assert caches.hits((1, 2, 4)) == {0: 2 * BLOCK_TOKENS, 1: BLOCK_TOKENS}
    assert caches.hits((2, 3)) == {0: 2 * BLOCK_TOKENS}
    assert caches.hits(()) == {}


blocks = st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), blocks), max_size=30), blocks)
def test_caches_agree_with_a_list_of_blocks_each(admitted: list[tuple[int, list[int]]], asked: list[int]) -> None:
    """Against the plainest cache there is: a list an engine, the longest unused first."""
    caches, plain = PrefixCaches([3 * BLOCK_TOKENS] * 3), [list[int]() for _ in range(3)]
    for engine, block_ids in admitted:
        caches.admit(engine, block_ids)
        for block in reversed(block_ids):
            plain[engine] = [each for each in plain[engine] if each != block] + [block]
        plain[engine] = plain[engine][-3:]
    expected = {}
    for engine, held in enumerate(plain):
        count = next((at for at, block in enumerate(asked) if block not in held), len(asked))
        if count:
            expected[engine] = count * BLOCK_TOKENS
    assert caches.hits(asked) == expected


def test_what_a_slow_prefill_cannot_use_goes_to_the_other() -> None:
    """On 10 bytes/ms one makes 2 a ms and is given just that; the other, which has 8,000 bytes, takes a second."""
    events, arrived = Events(), list[float]()
    link = Link(LinkSpec("cloud", 10_000.0), events)
    link.arrived = lambda request: arrived.append(events.now_s)
    slow, ready = transfer(4.0, made_bytes=8000), transfer(1.0, cached_bytes=8000)
    for at_s, happens, to in ((0.0, link.begin, slow), (0.0, link.begin, ready), (0.0, link.prefilled, ready)):
        events.at(at_s, happens, to)
    events.at(4.0, link.prefilled, slow)
    events.run()
    assert arrived == pytest.approx([1.0, 4.0], abs=0.02)  # 64 bytes are 6 ms here
    assert link.delivered_bytes == pytest.approx(16_000, rel=0.02)


def test_a_backlog_leaves_before_the_link_follows_the_prefill() -> None:
    """5,000 bytes that were there and 1,000 a second: at 2,000 a second the backlog is gone after 5 s."""
    events = Events()
    link = Link(LinkSpec("cloud", 2000.0), events)
    one = transfer(10.0, made_bytes=10_000, cached_bytes=5000)
    events.at(0.0, link.begin, one)
    events.at(6.0, lambda _: None)
    events.run()
    assert link.queued_bytes == pytest.approx(0, abs=64)
    assert one.rate_bytes_s == 1000


def transfer(work_s: float, *, made_bytes: float = 0, cached_bytes: float = 0) -> Transfer:
    request = Request(Arrival(0.0, 1, 1), Placement("d", "p", ("because",)))
    request.work_s = work_s
    return Transfer(request, cached_bytes, made_bytes, 0.0)


def test_quantiles_are_known_to_a_bucket() -> None:
    """Of 1 to 1,000 ms."""
    histogram = Histogram()
    for at in range(1, 1001):
        histogram.add(at / 1000)
    assert histogram.mean_s == pytest.approx(0.5005)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert histogram.quantile(share) == pytest.approx(share, rel=0.05)
    assert histogram.quantile(1.0) == 1.0
    assert Histogram().quantile(0.5) == 0.0


def test_events_of_one_moment_come_in_the_order_in_which_they_were_made() -> None:
    """Which is what makes a run repeatable."""
    events, seen = Events(), list[str]()
    for name, at_s in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        events.at(at_s, seen.append, name)
    events.run()
    assert (seen, events.now_s, len(events)) == (["first", "second", "late"], 2.0, 0)
