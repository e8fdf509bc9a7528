"""When links and queues move t away from the planned one."""

import dataclasses

import pytest

from prfaas.planner.controller.pressure import Pressure, pressure_of
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.controller.short_term import ShortTerm
from prfaas.planner.controller.stock import stock_of
from tests.planner.controller.fluid import fleet_of, link, local_engine, remote_engine

SETTINGS = ControllerSettings(queue_scale=2.0)
PREFILL_S = 1.0
"""A mean prefill: two seconds of waiting are a step."""


def used(share: float) -> Pressure:
    return Pressure(share, 0.0, 0.0, 0.0)


def waits(away_s: float, local_s: float, link_utilisation: float = 0.0) -> Pressure:
    return Pressure(link_utilisation, 0.0, away_s, local_s)


def steps(short: ShortTerm, pressure: Pressure, seconds: range) -> list[int]:
    return [short.step(float(second), pressure, PREFILL_S).steps for second in seconds]


def test_a_busy_link_raises_t_step_by_step() -> None:
    """Above 95 %, every ten seconds, up to the bound of eight."""
    found = steps(ShortTerm(SETTINGS), used(0.96), range(100))
    assert found == [min(1 + second // 10, SETTINGS.max_steps) for second in range(100)]


def test_a_moment_of_a_full_link_is_nothing() -> None:
    """One transfer fills it: a second in three makes a third of the link."""
    short = ShortTerm(SETTINGS)
    found = [short.step(float(second), used(float(second % 3 == 1)), PREFILL_S).steps for second in range(300)]
    assert set(found) == {0}


def test_between_the_levels_t_stays() -> None:
    """Hysteresis: 88 % is neither enough to rise nor little enough to fall."""
    short = ShortTerm(SETTINGS)
    assert steps(short, used(0.97), range(11))[-1] == 2
    assert set(steps(short, used(0.88), range(11, 600))) == {2}


def test_t_comes_back_slowly_and_not_below_the_plan() -> None:
    """A step every twenty seconds once the mean has fallen, and an idle link stops at the planned t."""
    short = ShortTerm(SETTINGS)
    steps(short, used(0.97), range(20))
    found = steps(short, used(0.1), range(20, 120))
    assert sorted(found, reverse=True) == found
    assert found[-1] == 0
    assert found.count(1) == 20


def test_a_link_is_not_spared_at_the_cost_of_longer_local_queues() -> None:
    """It may be full; local prefills wait longer all the same."""
    short = ShortTerm(ControllerSettings(queue_scale=1000.0))
    assert set(steps(short, waits(1.0, 5.0, link_utilisation=1.0), range(60))) == {0}


def test_a_link_that_only_works_off_its_queue_adds_no_steps() -> None:
    """It is full, but with what was sent before."""
    short = ShortTerm(ControllerSettings(queue_scale=1000.0))
    assert set(steps(short, Pressure(1.0, 30.0, 0.0, 0.0), range(60))) == {0}


def test_waiting_remote_prefills_raise_t_in_proportion() -> None:
    """Ten seconds longer than local ones are five steps at once; it vanishes with the queue."""
    short = ShortTerm(SETTINGS)
    assert steps(short, waits(11.0, 1.0), range(2)) == [5, 5]
    assert steps(short, waits(1.0, 1.0), range(2, 4)) == [0, 0]


def test_waiting_local_prefills_lower_t() -> None:
    """A burst of short prompts goes remote while there is nothing to wait for."""
    assert steps(ShortTerm(SETTINGS), waits(0.0, 6.5), range(1)) == [-3]


def test_queues_that_sway_by_a_step_move_nothing() -> None:
    """Hysteresis: up to two seconds either way."""
    short = ShortTerm(SETTINGS)
    found = [short.step(float(at), waits(2.0 * (at % 3), 2.0), PREFILL_S).steps for at in range(100)]
    assert set(found) == {0}


def test_a_plan_with_a_higher_t_takes_steps_back() -> None:
    """From 1,000 to 1,600 tokens are two steps of 1.25: t itself stays about where it was."""
    short = ShortTerm(SETTINGS)
    steps(short, used(0.96), range(25))
    assert short.steps == 3
    short.follow(1000, 1600)
    assert short.steps == 1
    short.follow(1600, 1000)
    short.follow(0, 1000)
    assert short.steps == 1


def test_every_move_is_explained_once() -> None:
    """With figures; nothing is said while nothing moves."""
    short = ShortTerm(SETTINGS)
    said = [short.step(float(second), used(0.97), PREFILL_S).reasons for second in range(11)]
    assert said[0] == said[10] == ("the links are used to 97%, at least 95%",)
    assert set(said[1:10]) == {()}
    assert "a remote prefill waits 9 s, a local one 1 s" in short.step(11.0, waits(9.0, 1.0), PREFILL_S).reasons[0]


def test_pressure_is_read_off_the_fleet() -> None:
    """Half of 2 GB/s used; 1 GB queued on it; 3,000 tokens an engine here and 10,000 there at 2e-4 and 1e-4 s."""
    fleet = fleet_of(
        [
            local_engine("p-0", "prefill", waiting_tokens=6000),
            local_engine("p-1", "prefill"),
            local_engine("d-0", "decode", waiting_tokens=500),
            remote_engine("cloud-0", waiting_tokens=10_000),
        ],
        [link(4e9, utilisation=0.25, queued_bytes=1e9)],
    )
    found = pressure_of(stock_of(fleet, {"cloud": 2e9}), 2e-4, 1e-4)
    assert dataclasses.astuple(found) == pytest.approx((0.5, 0.5, 1.0, 0.6))
    assert found.away_s == pytest.approx(1.0)


def test_nothing_presses_on_nothing() -> None:
    """No engines, no links, unknown speeds: no division by zero, no steps."""
    found = pressure_of(stock_of(fleet_of([]), {}), 0.0, 0.0)
    assert found == Pressure(0.0, 0.0, 0.0, 0.0)
    assert ShortTerm(SETTINGS).step(0.0, waits(100.0, 0.0), 0.0).steps == 0
