"""What a division serves, against numbers worked out by hand and against the planner's search.

By hand, with the figures of ``tests.planner.cases``: three prompts of 1,000 tokens to one of 10,000, so p = 1/4 between
them. A local engine prefills a short one in 0.2 s and decodes 5 requests/s; a remote one prefills a long one in 1 s.
"""

import pytest
from hypothesis import given, settings

from prfaas.planner.controller.model import Counts, FleetModel
from prfaas.planner.hardware import Hardware
from prfaas.planner.search import evaluate, plan
from prfaas.planner.workload import Workload
from tests.planner import cases

GBIT_S = 1e9 / 8


def model(*sites: tuple[int, float], output_tokens: float = 100) -> FleetModel:
    return FleetModel(cases.LOCAL, cases.REMOTE, cases.workload(output_tokens), cases.SLO, sites)


def test_engines_that_only_do_one_thing_are_the_papers() -> None:
    """One each: remote prefill allows 1 / (1/4), local prefill 5 / (3/4), decode 5."""
    found = model((1, GBIT_S)).cut([5000, None]).division(Counts(1, 1), 0)
    assert found.requests_s == pytest.approx(4.0)
    assert found.binding == "remote prefill"
    assert found.limits_requests_s == pytest.approx((4.0, 50.0, 20 / 3, 5.0, 2 / 0.35))


def test_an_engine_that_does_both_divides_its_time() -> None:
    """3/4 of 0.2 s for prefill and 1/5 s for decode are 0.35 s a request: 2.86 requests/s; all local 0.65 + 0.2 s."""
    cuts = model((10, 10 * GBIT_S)).cut([5000, None])
    found = cuts.division(Counts(0, 0, shared=1), 0)
    assert found.requests_s == pytest.approx(1 / 0.35)
    assert found.binding == "local engines"
    assert cuts.division(Counts(0, 0, shared=1)).requests_s == pytest.approx(1 / 0.85)


def test_an_engine_that_does_both_helps_where_it_is_needed() -> None:
    """Beside one that only prefills, and much decode: it decodes all the time, 5 / 4 a second with four times the
    output, and the prefill engine alone prefills."""
    found = model((10, 10 * GBIT_S), output_tokens=400).cut([5000]).division(Counts(1, 0, shared=1))
    assert found.requests_s == pytest.approx(1.25)
    assert found.binding == "local decode"


def test_sites_add_up_each_with_its_own_link() -> None:
    """A site with 4 engines whose link carries half a long request/s, and one with one engine and a wide link: 1.5."""
    found = model((4, 5e6), (1, GBIT_S)).cut([5000]).division(Counts(9, 9))
    assert found.requests_s == pytest.approx(1.5 / 0.25)
    pooled = model((5, 5e6 + GBIT_S)).cut([5000]).division(Counts(9, 9))
    assert pooled.requests_s == pytest.approx(5 / 0.25)


def test_without_a_use_for_the_link_nothing_crosses_it() -> None:
    """A link of 2 MB/s takes a fifth of a long request a second: all local serves more."""
    found = model((1, 2e6)).cut([0, 5000, None]).best(Counts(1, 1))
    assert found.threshold_tokens is None
    assert found.requests_s == pytest.approx(1 / 0.65)
    assert not model((1, 0.0)).has_remote
    assert not FleetModel(cases.LOCAL, None, cases.workload(), cases.SLO, ((1, GBIT_S),)).has_remote


def test_a_fleet_without_decode_serves_nothing() -> None:
    """Its decode is what is missing."""
    found = model((1, GBIT_S)).cut([5000]).division(Counts(2, 0))
    assert found.requests_s == 0.0
    assert found.binding == "local decode"
    assert found.limit("local decode") == 0.0


@settings(max_examples=30, deadline=None)
@given(cases.hardwares, cases.workloads)
def test_it_agrees_with_the_search(hardware: Hardware, workload: Workload) -> None:
    """For one site and engines with one role each: the same figure for the plan's own division, and none better."""
    best = plan(hardware, workload, cases.SLO, averaging="each_length")
    assert hardware.remote is not None
    site = (hardware.remote_engines, hardware.egress_bytes_s)
    fleet = FleetModel(hardware.local, hardware.remote, workload, cases.SLO, (site,))
    counts = Counts(best.prefill_engines, best.decode_engines)
    found = fleet.cut([best.threshold_tokens]).division(counts)
    assert found.requests_s == pytest.approx(best.requests_s)
    assert found.remote_share == pytest.approx(best.remote_share)
    for threshold in (0, 1000, 30_000, None):
        other = evaluate(hardware, workload, cases.SLO, threshold, best.prefill_engines, averaging="each_length")
        here = fleet.cut([threshold]).division(counts)
        assert here.requests_s == pytest.approx(other.requests_s)
        assert here.requests_s <= found.requests_s * (1 + 1e-9)
