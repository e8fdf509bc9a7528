"""Single requests, worked out by hand."""

import pytest

from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.spec import FleetSpec, LinkSpec
from tests.planner.simulator.fleets import HAND_OVER_S, STEP_S, engine, fleet, profile, scenario

LOCAL, REMOTE = Setting("local", None), Setting("remote", 0)


def test_a_local_hand_over_takes_prefill_hand_over_and_a_step() -> None:
    """1 s of prefill, the hand-over, then a step for each of 11 tokens."""
    outcome = simulate(scenario(fleet(), Arrival(5.0, 1000, 11)), LOCAL)
    assert outcome.first_token_mean_s == pytest.approx(1.0 + HAND_OVER_S + STEP_S)
    assert outcome.duration_s == pytest.approx(5.0 + 1.0 + HAND_OVER_S + 11 * STEP_S)
    assert outcome.token_mean_s == pytest.approx(STEP_S)


def test_one_engine_for_both_hands_nothing_over() -> None:
    """Its prefill makes the first token, ten steps the others."""
    alone = FleetSpec("edge", (engine("e", "both"),))
    outcome = simulate(scenario(alone, Arrival(0.0, 1000, 11)), LOCAL)
    assert outcome.first_token_mean_s == pytest.approx(1.0)
    assert outcome.duration_s == pytest.approx(1.0 + 10 * STEP_S)


def test_rows_cross_while_they_are_made() -> None:
    """1 MB of rows in 1 s on a link of 2 MB/s are gone with the prefill; 1 MB of state follows in half a second."""
    spec = fleet(0, 1, 1, bandwidth_bytes_s=2e6)
    outcome = simulate(scenario(spec, Arrival(0.0, 1000, 2)), REMOTE)
    assert outcome.remote == 1
    assert outcome.first_token_mean_s == pytest.approx(1.0 + 0.5 + HAND_OVER_S + STEP_S)


def test_a_narrow_link_is_what_a_remote_prefill_waits_for() -> None:
    """2 MB at 0.5 MB/s are 4 s from the beginning, and the round trip comes on top."""
    engines = (engine("r", "prefill", "cloud"), engine("d"))
    spec = FleetSpec("edge", engines, (LinkSpec("cloud", 5e5, rtt_s=0.1),))
    outcome = simulate(scenario(spec, Arrival(0.0, 1000, 2)), REMOTE)
    assert outcome.first_token_mean_s == pytest.approx(4.0 + 0.1 + HAND_OVER_S + STEP_S)


def test_two_transfers_share_a_link() -> None:
    """Both have 2 MB to send from the beginning on 1 MB/s: each is there after 4 s."""
    spec = fleet(0, 2, 2, bandwidth_bytes_s=1e6)
    outcome = simulate(scenario(spec, Arrival(0.0, 1000, 2), Arrival(0.0, 1000, 2)), REMOTE)
    assert outcome.first_token_mean_s == pytest.approx(4.0 + HAND_OVER_S + STEP_S)


def test_prefills_wait_for_each_other() -> None:
    """The second of two waits a second more."""
    outcome = simulate(scenario(fleet(1, 2), Arrival(0.0, 1000, 2), Arrival(0.0, 1000, 2)), LOCAL)
    assert outcome.first_token_mean_s == pytest.approx(1.5 + HAND_OVER_S + STEP_S)


def test_a_full_batch_makes_a_request_wait() -> None:
    """A batch of one: the second answer begins when the first has ended, 100 steps later."""
    spec = FleetSpec("edge", (engine("p", "prefill", profile=profile(1e-6)), engine("d", batch=1)))
    outcome = simulate(scenario(spec, Arrival(0.0, 1000, 100), Arrival(0.0, 1000, 100)), LOCAL)
    assert outcome.duration_s == pytest.approx(0.001 + HAND_OVER_S + 200 * STEP_S, abs=2e-3)


def test_a_prefill_slows_the_answers_beside_it() -> None:
    """Ten chunks of 100 tokens: each of ten steps takes 0.1 s more, so an answer of 21 tokens ends 1 s later, and the
    prefill itself ten steps later."""
    alone = FleetSpec("edge", (engine("e", "both", chunk_tokens=100),))
    early, late = Arrival(0.0, 1, 1001), Arrival(1.0, 1000, 1)
    outcome = simulate(scenario(alone, early, late), LOCAL)
    assert outcome.duration_s == pytest.approx(0.001 + 1000 * STEP_S + 1.0)
    assert outcome.first_token_mean_s == pytest.approx((0.001 + 1.0 + 10 * STEP_S) / 2)


def test_what_passes_by_a_step_costs_nothing() -> None:
    """With all of a decode step hidden in a chunk the prefill takes as long as alone."""
    alone = FleetSpec("edge", (engine("e", "both", chunk_tokens=100, overlap=1.0),))
    outcome = simulate(scenario(alone, Arrival(0.0, 1, 1001), Arrival(1.0, 1000, 1)), LOCAL)
    assert outcome.first_token_mean_s == pytest.approx((0.001 + 1.0) / 2)


def test_without_bandwidth_everything_is_local() -> None:
    """A link that carries nothing is none."""
    outcome = simulate(scenario(fleet(1, 1, 1, bandwidth_bytes_s=0.0), Arrival(0.0, 1000, 2)), REMOTE)
    assert (outcome.remote, outcome.answered) == (0, 1)


def test_no_arrivals_make_an_empty_outcome() -> None:
    """Nothing is divided by nothing."""
    outcome = simulate(scenario(fleet()), LOCAL)
    assert (outcome.arrived, outcome.goodput_requests_s, outcome.good_share) == (0, 0.0, 0.0)
