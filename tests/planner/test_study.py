"""The plan in its surroundings: enough bandwidth, purchases, and lines along which one thing changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from prfaas.planner.hardware import Hardware
from prfaas.planner.search import plan
from prfaas.planner.study import Question, study
from prfaas.planner.sweep import by_egress, by_local_engines, by_remote_engines, grid_by_division, limits_by_threshold
from prfaas.planner.workload import Workload
from tests.planner import cases
from tests.planner.cases import SLO

several = settings(max_examples=20, deadline=None)


def question(**changes: object) -> Question:
    return Question(cases.hardware(**changes), cases.workload(), SLO)  # type: ignore[arg-type]


def test_a_study_by_hand() -> None:
    """4 requests/s, one in four with 10 MB: 10 MB/s; without the remote engine 1 / 0.65, all through it 1 / 0.325."""
    found = study(question())
    assert found.plan.requests_s == pytest.approx(4.0)
    assert found.enough_egress_bytes_s == pytest.approx(10e6)
    assert found.all_local is not None
    assert found.all_local.requests_s == pytest.approx(1 / 0.65)
    assert found.all_remote is not None
    assert found.all_remote.requests_s == pytest.approx(1 / 0.325)
    assert found.next_purchase is not None
    assert found.next_purchase.what == "1 more remote engine"


def test_what_cannot_be_is_left_out() -> None:
    """One local engine cannot do all, and nothing goes where there is no link."""
    assert study(question(local_engines=1)).all_local is None
    assert study(question(egress_bytes_s=0.0)).all_remote is None
    assert study(Question(replace(cases.hardware(), remote=None, remote_engines=0), cases.workload(), SLO)).plan


def test_where_two_stages_bind_no_single_thing_brings_more() -> None:
    """All remote, the link stops at 13 / 3.25 = 4 requests/s, and so do both decode engines with 2 each."""
    found = study(Question(cases.hardware(egress_bytes_s=13e6, remote_engines=2), cases.workload(250), SLO))
    assert found.plan.requests_s == pytest.approx(4.0)
    assert len(found.purchases) == 3
    assert found.next_purchase is None


@several
@given(cases.hardwares, cases.workloads)
def test_a_plan_never_says_more_than_a_stage_can(hardware: Hardware, workload: Workload) -> None:
    """Of the plan, of what it is compared with and of every purchase: share x Lambda_max <= Theta, for each stage."""
    found = study(Question(hardware, workload, SLO))
    plans = [found.plan, found.all_local, found.all_remote, *(each.plan for each in found.purchases)]
    for each in filter(None, plans):
        for stage in each.stages:
            assert each.requests_s * stage.share <= stage.requests_s * (1 + 1e-9)


@several
@given(cases.hardwares, cases.workloads)
def test_enough_bandwidth_is_enough(hardware: Hardware, workload: Workload) -> None:
    """With it the fleet serves what it serves with an unlimited link."""
    found = study(Question(hardware, workload, SLO))
    enough = max(found.enough_egress_bytes_s, 125_000.0)
    most = plan(replace(hardware, egress_bytes_s=1e15), workload, SLO).requests_s
    assert plan(replace(hardware, egress_bytes_s=enough), workload, SLO).requests_s == pytest.approx(most)
    is_held_back = found.enough_egress_bytes_s > hardware.egress_bytes_s * (1 + 1e-9)
    assert not is_held_back or found.plan.requests_s < most


def test_limits_meet_at_the_best_threshold() -> None:
    """By hand between the two lengths: 1 / 0.25 remote, 12.5 / 0.25 link, 5 / 0.75 local, 5 decode."""
    limits = limits_by_threshold(question(), 1)
    at = int(np.searchsorted(limits.thresholds_tokens, 5000))
    parts = (limits.remote_prefill, limits.link, limits.local_prefill, limits.local_decode, limits.served)
    assert [float(each[at]) for each in parts] == pytest.approx([4.0, 50.0, 5 / 0.75, 5.0, 4.0])
    assert limits.is_allowed.all()
    assert float(limits.served.max()) == pytest.approx(4.0)


@several
@given(cases.hardwares, cases.workloads)
def test_served_is_the_least_of_the_limits(hardware: Hardware, workload: Workload) -> None:
    """At every threshold."""
    limits = limits_by_threshold(Question(hardware, workload, SLO), 1)
    parts = [limits.local_prefill, limits.local_decode, limits.remote_prefill, limits.link]
    assert np.allclose(np.min(parts, axis=0), limits.served)


def test_the_grid_has_the_plans_cell() -> None:
    """Also of a fleet whose divisions are sampled."""
    for engines in (2, 999):
        asked = question(local_engines=engines, remote_engines=engines // 2)
        found = asked.best()
        grid = grid_by_division(asked, found.prefill_engines)
        assert found.prefill_engines in grid.prefill_engines
        assert float(grid.served.max()) == pytest.approx(found.requests_s)
        assert grid.served.shape[1] <= 121


def test_lines_pass_through_what_there_is_and_never_fall() -> None:
    """The present fleet is a point of each, whose value is the plan's."""
    asked = question()
    found = study(asked)
    for line, now in (
        (by_egress(asked, found), 125e6),
        (by_remote_engines(asked), 1),
        (by_local_engines(asked), 2),
    ):
        at = list(line.amounts).index(now)
        assert line.plans[at].requests_s == found.plan.requests_s
        assert np.all(np.diff(line.amounts) > 0)
        assert np.all(np.diff(line.served) >= -1e-9)
        assert len(line.amounts) <= 27


def test_a_large_fleets_lines_are_sampled() -> None:
    """And what there is stays a point of them."""
    line = by_local_engines(question(local_engines=5003))
    assert len(line.amounts) <= 25
    assert 5003 in line.amounts


def test_an_objective_takes_thresholds_out() -> None:
    """1.5 s for nine in ten: 10,000 tokens take 2 s locally, so only thresholds that send them are left."""
    asked = Question(cases.hardware(), cases.workload(), replace(SLO, first_token_p90_s=1.5))
    limits = limits_by_threshold(asked, 1)
    assert limits.thresholds_tokens[limits.is_allowed].max() < 10_000
    assert not limits.is_allowed[-1]
