"""The small parts of a decision, each by its table: scarcity, ranking, predictions, sizes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.policy import Policy
from prfaas.routing.predict import first_token_s, path_of
from prfaas.routing.rank import best_first
from prfaas.routing.scarcity import Scarcity
from prfaas.routing.score import link_score, load_score
from tests.routing.fleets import CACHE, FAST, link, prefiller

SCARCITY = Scarcity(enter_utilisation=0.8, leave_utilisation=0.6)


@pytest.mark.parametrize(
    ("previous", "utilisation", "is_congested", "is_scarce"),
    [
        (False, 0.79, False, False),
        (False, 0.8, False, True),
        (False, 0.1, True, True),
        (True, 0.7, False, True),
        (True, 0.6, False, True),
        (True, 0.59, False, False),
        (True, 0.1, True, True),
        (False, 0.7, False, False),
    ],
)
def test_scarcity_has_two_thresholds(previous: bool, utilisation: float, is_congested: bool, is_scarce: bool) -> None:
    """A link becomes scarce above one utilisation and stops below another; a congested one is scarce."""
    assert SCARCITY.step(previous, utilisation, is_congested) is is_scarce


@given(st.lists(st.floats(0.61, 0.79)), st.booleans())
def test_scarcity_does_not_flap(utilisations: list[float], is_scarce: bool) -> None:
    """Between the thresholds a link stays what it was."""
    for utilisation in utilisations:
        assert SCARCITY.step(is_scarce, utilisation, False) is is_scarce


@pytest.mark.parametrize(("enter", "leave"), [(0.5, 0.6), (0.5, 0.0)])
def test_scarcity_must_end_somewhere(enter: float, leave: float) -> None:
    """Thresholds in the wrong order are refused."""
    with pytest.raises(ValueError, match="cannot end at"):
        Scarcity(enter, leave)


@pytest.mark.parametrize(
    ("costs", "turn", "count", "order"),
    [
        ([3, 1, 2], 0, 3, [1, 2, 0]),
        ([3, 1, 2], 5, 2, [1, 2]),
        ([1, 1, 2], 1, 2, [1, 0]),
        ([1, 1, 2], 2, 1, [0]),
        ([7], 3, 3, [0]),
    ],
)
def test_best_come_first(costs: list[float], turn: int, count: int, order: list[int]) -> None:
    """The lowest costs in order; equals take turns for the first place."""
    assert best_first(costs, turn, count) == order


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 100), st.integers(1, 5))
def test_ranking_agrees_with_sorting(costs: list[float], turn: int, count: int) -> None:
    """Without sorting them all the best costs are those that sorting would give."""
    order = best_first(costs, turn, count)
    assert [costs[at] for at in order] == sorted(costs)[:count]
    assert len(set(order)) == len(order)


@pytest.mark.parametrize(("tokens", "context", "seconds"), [(100, 0, 2.1), (100, 100, 4.1), (0, 500, 0.1)])
def test_attention_to_cached_tokens_takes_time(tokens: int, context: int, seconds: float) -> None:
    """The same tokens take longer after a long context; cached tokens themselves take none."""
    assert PrefillRate(0.1, 0.01, 1e-4).seconds(tokens, context) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 0.5 + 0.01 + 0.02),
        ({"rtt_s": 0.03}, 0.5 + 0.01 + 0.03 + 0.02),
        ({"queued_bytes": 1e8}, 1.0 + 0.04 + 0.01 + 0.02),
        ({"goodput_bytes_s": 5e6}, 0.8 + 0.2 + 0.02),
        ({"goodput_bytes_s": 1e7, "utilisation": 0.5}, 0.8 + 0.2 + 0.02),
        ({"utilisation": 1.0}, 0.5 + 0.1 + 0.02),
    ],
)
def test_transfer_is_pipelined_with_the_prefill(changes: dict[str, Any], seconds: float) -> None:
    """Of prefill (0.5 s) and rows (4 MB) the longer counts; the state (1 MB) follows both."""
    path = path_of(link(**changes), CACHE, 4_000, 0.02)
    assert first_token_s(prefiller(prefill=FAST), 4_000, 0, path) == pytest.approx(seconds)


def test_link_drains_while_the_engine_is_busy() -> None:
    """Bytes before ours leave while our prompt waits for the engine: the two queues do not add up."""
    engine = prefiller(prefill=FAST, waiting_tokens=9_000)
    path = path_of(link(queued_bytes=5e7), CACHE, 4_000, 0.0)
    assert first_token_s(engine, 4_000, 0, path) == pytest.approx(1.0 + 0.5 + 0.01)


def test_rows_leave_once_the_engine_has_begun() -> None:
    """A slow transfer starts when our prompt's turn comes, however idle the link is before."""
    engine = prefiller(prefill=FAST, waiting_tokens=9_000)
    path = path_of(link(goodput_bytes_s=5e6), CACHE, 4_000, 0.0)
    assert first_token_s(engine, 4_000, 0, path) == pytest.approx(1.0 + 0.8 + 0.2)


def test_without_a_rate_nothing_is_predicted() -> None:
    """An engine of unknown speed has no prediction, whatever is known of the link."""
    assert first_token_s(prefiller(), 4_000, 0, path_of(link(), CACHE, 4_000, 0.0)) is None


def test_cache_grows_with_tokens_only_in_its_rows() -> None:
    """The state is the same for every length."""
    assert CacheSize(100, 7).row_bytes(10) == 1_000


@pytest.mark.parametrize(
    ("fields", "score"),
    [({}, 1), ({"inflight": 3}, 0.25), ({"inflight": 3, "capacity": 4}, 0.25), ({"inflight": 9, "capacity": 4}, 0)],
)
def test_load_is_scored_against_the_capacity(fields: dict[str, Any], score: float) -> None:
    """Where the capacity is known; else every further request counts less."""
    assert load_score(prefiller(**fields)) == score


def test_scarce_links_score_at_most_a_half() -> None:
    """An idle link goes before a busy one, and any abundant one of the same load before a scarce one."""
    assert (link_score(link()), link_score(link(utilisation=0.4)), link_score(link(is_scarce=True))) == (1, 0.6, 0.5)


@pytest.mark.parametrize(
    ("own", "is_scarce", "threshold"), [(None, True, 512), (900, True, 900), (900, False, 512), (3, True, 512)]
)
def test_threshold_of_a_link(own: int | None, is_scarce: bool, threshold: int) -> None:
    """Scarcity raises it, or leaves it."""
    assert Policy(scarce_threshold_tokens=own).threshold_for(is_scarce=is_scarce) == threshold
