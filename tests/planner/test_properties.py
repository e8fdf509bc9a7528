"""What holds of every plan, whatever the fleet."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner import throughput
from prfaas.planner.balance import balanced_prefill_engines, balanced_threshold_tokens
from prfaas.planner.hardware import Hardware
from prfaas.planner.search import evaluate, plan, threshold_step_tokens
from prfaas.planner.workload import Workload
from tests.planner import cases
from tests.planner.cases import SLO

several = settings(max_examples=30, deadline=None)
few = settings(max_examples=15, deadline=None)
averagings = st.sampled_from(["mean_length", "each_length"])


@several
@given(cases.hardwares, cases.workloads, averagings)
def test_more_of_anything_never_serves_less(hardware: Hardware, workload: Workload, averaging: str) -> None:
    """More bandwidth, another remote engine, another local one."""
    now = plan(hardware, workload, SLO, averaging=averaging)  # type: ignore[arg-type]
    for more in (
        replace(hardware, egress_bytes_s=hardware.egress_bytes_s + 1e9),
        replace(hardware, remote_engines=hardware.remote_engines + 1),
        replace(hardware, local_engines=hardware.local_engines + 1),
    ):
        then = plan(more, workload, SLO, averaging=averaging)  # type: ignore[arg-type]
        assert then.requests_s >= now.requests_s * (1 - 1e-9)


@several
@given(cases.hardwares, cases.workloads)
def test_every_figure_of_a_plan_makes_sense(hardware: Hardware, workload: Workload) -> None:
    """Finite, positive, nothing above its limit, and something at it."""
    found = plan(hardware, workload, SLO)
    assert 0 < found.requests_s < math.inf
    assert max(each.utilisation for each in found.stages) == pytest.approx(1.0)
    assert all(0 <= each.utilisation <= 1 + 1e-9 and math.isfinite(each.requests_s) for each in found.stages)
    assert 0 < found.first_token_mean_s < math.inf
    assert 0 < found.first_token_p90_s < math.inf
    assert 0 <= found.egress_bytes_s <= hardware.egress_bytes_s * (1 + 1e-9)
    assert found.prefill_engines + found.decode_engines == hardware.local_engines
    assert (found.threshold_tokens is None) == (found.remote_share == 0)


@several
@given(cases.hardwares, cases.workloads, st.integers(0, 150_000), st.integers(0, 9))
def test_lambda_is_the_minimum_of_three(hardware: Hardware, workload: Workload, threshold: int, engines: int) -> None:
    """Any division, recomputed from its stages alone."""
    engines = min(engines, hardware.local_engines)
    found = evaluate(hardware, workload, SLO, threshold, engines)
    remote, link, local, decode = (each.requests_s for each in found.stages)
    share = found.remote_share
    assert found.requests_s == pytest.approx(throughput.served_requests_s(min(remote, link), local, decode, share))


@several
@given(cases.hardwares, cases.workloads, st.data())
def test_no_division_of_the_grid_beats_the_plan(hardware: Hardware, workload: Workload, data: st.DataObject) -> None:
    """The search is exhaustive."""
    best = plan(hardware, workload, SLO)
    step = threshold_step_tokens(workload.lengths.max_tokens)
    threshold = step * data.draw(st.integers(0, int(workload.lengths.max_tokens) // step))
    engines = data.draw(st.integers(0, hardware.local_engines - 1))
    assert evaluate(hardware, workload, SLO, threshold, engines).requests_s <= best.requests_s * (1 + 1e-9)


@few
@given(cases.hardwares, cases.smooth_workloads, st.integers(1, 8))
def test_equation_7_is_the_grids_optimum(hardware: Hardware, workload: Workload, engines: int) -> None:
    """For each number of prefill engines both find the same threshold, within a step of the grid and of the lengths."""
    assume(hardware.has_remote)
    engines = min(engines, hardware.local_engines - 1)
    exact = balanced_threshold_tokens(hardware, workload, SLO, engines, averaging="each_length")
    found = plan(hardware, workload, SLO, prefill_engines=engines, averaging="each_length")
    threshold = workload.lengths.max_tokens if found.threshold_tokens is None else found.threshold_tokens
    step = threshold_step_tokens(workload.lengths.max_tokens)
    assert threshold == pytest.approx(exact, rel=0.002, abs=step)


@few
@given(cases.hardwares, cases.smooth_workloads)
def test_equation_8_is_the_grids_optimum(hardware: Hardware, workload: Workload) -> None:
    """The best whole number of prefill engines is next to the one at which prefill and decode are equally narrow."""
    assume(hardware.has_remote)

    def is_enough(engines: int) -> bool:
        threshold = balanced_threshold_tokens(hardware, workload, SLO, engines, averaging="each_length")
        return balanced_prefill_engines(hardware, workload, SLO, threshold, averaging="each_length") <= engines

    choices = range(hardware.local_engines)
    first = next((each for each in choices if is_enough(each)), hardware.local_engines)
    around = [each for each in (first - 1, first) if each in choices]
    found = plan(hardware, workload, SLO, averaging="each_length").requests_s
    best = max(
        plan(hardware, workload, SLO, prefill_engines=each, averaging="each_length").requests_s for each in around
    )
    assert best == pytest.approx(found, rel=0.002)


def test_nothing_is_balanced_without_a_remote_site() -> None:
    """Both closed forms say so."""
    for closed_form in (balanced_threshold_tokens, balanced_prefill_engines):
        with pytest.raises(ConfigError, match="nothing to balance"):
            closed_form(cases.hardware(remote_engines=0), cases.workload(), SLO, 1)
