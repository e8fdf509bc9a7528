"""The paper's case study from the profiles that come with the package; `benchmarks/case_study.py` shows every cell."""

from importlib.resources import as_file, files

import pytest

from prfaas.planner.hardware import Hardware
from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.profile import EngineProfile
from prfaas.planner.profile_file import load_profile
from prfaas.planner.search import all_local, all_remote, plan
from prfaas.planner.workload import Slo, Workload

SLO = Slo(token_s=1 / 40)
WORKLOAD = Workload(LogNormalLengths(9.90, 1.00, 128, 128 << 10), output_tokens=1024)


def profile(name: str) -> EngineProfile:
    with as_file(files("prfaas.planner") / "data" / name) as path:
        return load_profile(path)


H200, H20 = profile("paper_h200.yaml"), profile("paper_h20.yaml")
HARDWARE = Hardware(H20, 8, H200, 4, 100e9 / 8)


def test_the_papers_division_is_the_optimum() -> None:
    """t = 19.4K and 3:5, whose figures are the table's within 4 %."""
    found = plan(HARDWARE, WORKLOAD, SLO)
    assert (found.threshold_tokens, found.prefill_engines, found.decode_engines) == (19_400, 3, 5)
    assert found.requests_s == pytest.approx(3.24, rel=0.04)
    assert [found.stages[at].requests_s for at in (0, 2, 3)] == pytest.approx([1.61, 1.64, 3.91], rel=0.04)
    assert (found.first_token_mean_s, found.first_token_p90_s) == pytest.approx((2.22, 3.51), rel=0.04)
    assert found.remote_share == pytest.approx(0.496, abs=0.001)
    assert found.egress_bytes_s * 8e-9 == pytest.approx(12.4, abs=0.05)
    assert any("circular" in each for each in found.caveats)


def test_the_papers_baselines() -> None:
    """12 H20 divided 9:3, and every prefill on the H200."""
    even = all_local(Hardware(H20, 12), WORKLOAD, SLO)
    assert (even.prefill_engines, even.decode_engines) == (9, 3)
    assert even.requests_s == pytest.approx(2.11, rel=0.04)
    assert (even.first_token_mean_s, even.first_token_p90_s) == pytest.approx((4.44, 9.73), rel=0.04)
    naive = all_remote(HARDWARE, WORKLOAD, SLO)
    assert (naive.threshold_tokens, naive.prefill_engines, naive.decode_engines) == (0, 0, 8)
    assert naive.requests_s == pytest.approx(2.45, rel=0.04)
    assert (naive.first_token_mean_s, naive.first_token_p90_s) == pytest.approx((1.74, 3.51), rel=0.04)


def test_a_narrow_link_moves_the_threshold_up() -> None:
    """At 5 Gbit/s less leaves than could be computed, and the link is what binds."""
    narrow = Hardware(H20, 8, H200, 4, 5e9 / 8)
    found, wide = plan(narrow, WORKLOAD, SLO), plan(HARDWARE, WORKLOAD, SLO)
    assert found.binding in ("link", "local prefill")
    assert found.stage("link").utilisation == pytest.approx(1.0, abs=0.01)
    assert found.threshold_tokens is not None
    assert wide.threshold_tokens is not None
    assert found.threshold_tokens > wide.threshold_tokens
    assert found.requests_s < wide.requests_s


@pytest.mark.parametrize(("local_engines", "remote_engines"), [(160, 200), (400, 200), (300, 100), (1000, 200)])
def test_large_fleets_are_searched_as_closely_as_small_ones(local_engines: int, remote_engines: int) -> None:
    """Coarsely first and then closely: no division within a coarse step of the plan's serves more."""
    fleet = Hardware(H20, local_engines, H200, remote_engines, 1e12)
    found = plan(fleet, WORKLOAD, SLO)
    around = range(max(found.prefill_engines - 12, 0), found.prefill_engines + 13)
    best = max(around, key=lambda each: plan(fleet, WORKLOAD, SLO, prefill_engines=each).requests_s)
    assert best == found.prefill_engines
