"""Equations 1 to 8 against numbers worked out by hand."""

import math

import numpy as np
import pytest

from prfaas.planner import throughput


def test_equation_1_and_2_are_bytes_a_second() -> None:
    """500 MB made in 2 s are 250 MB/s, and of 8 engines 2 GB/s."""
    assert throughput.production_bytes_s(500e6, 2.0) == 250e6
    assert throughput.egress_needed_bytes_s(8, 250e6) == 2e9


def test_equation_3_is_the_narrower_of_compute_and_link() -> None:
    """4 engines at 2 s are 2 requests/s; a link for 1.5 of them is the narrower one, one for 3 is not."""
    assert throughput.remote_prefill_requests_s(4, 2.0, 1.5e9, 1e9) == 1.5
    assert throughput.remote_prefill_requests_s(4, 2.0, 3e9, 1e9) == 2.0
    assert throughput.remote_prefill_requests_s(4, 2.0, 0.0, 1e9) == 0.0


def test_equations_4_and_5_are_rates_of_the_local_engines() -> None:
    """3 engines at 1.5 s prefill 2 requests/s; 5 with 20 requests at 25 ms decode 3.90625 of 1,024 tokens."""
    assert throughput.local_prefill_requests_s(3, 1.5) == 2.0
    assert throughput.decode_requests_s(5, 20, 0.025, 1024) == 3.90625


def test_equation_6_is_the_minimum_of_three() -> None:
    """Each of the three stages can be the narrowest: with p = 0.5, 2 and 3 prefill 4 and 6."""
    assert throughput.served_requests_s(2.0, 3.0, 5.0, 0.5) == 4.0
    assert throughput.served_requests_s(4.0, 3.0, 7.0, 0.5) == 6.0
    assert throughput.served_requests_s(4.0, 4.0, 5.0, 0.5) == 5.0


def test_a_stage_that_no_request_passes_limits_nothing() -> None:
    """p = 0 takes the remote site out, p = 1 the local prefill, even where they have no engine at all."""
    assert throughput.served_requests_s(0.0, 3.0, 5.0, 0.0) == 3.0
    assert throughput.served_requests_s(2.0, 0.0, 5.0, 1.0) == 2.0
    assert throughput.limit_requests_s(0.0, 0.0) == math.inf
    assert throughput.limit_requests_s(0.0, 0.5) == 0.0


def test_equation_7_is_zero_where_both_prefills_are_equally_narrow() -> None:
    """2 / 0.5 = 2 / 0.5; a slower remote site wants a higher threshold, a faster one a lower."""
    assert throughput.threshold_imbalance(2.0, 2.0, 0.5) == 0.0
    assert float(throughput.threshold_imbalance(1.0, 2.0, 0.5)) < 0
    assert float(throughput.threshold_imbalance(3.0, 2.0, 0.5)) > 0


def test_equation_8_solves_for_the_prefill_engines() -> None:
    """Of 8 engines, each 1 request/s of decode or of prefill, with 2 from remote, 3 prefill and 5 decode."""
    assert throughput.balanced_prefill_engines(8, 2.0, 1.0, 1.0) == 3.0


@pytest.mark.parametrize(("remote", "expected"), [(100.0, 0.0), (0.0, 4.0)])
def test_equation_8_stays_within_the_engines_there_are(remote: float, expected: float) -> None:
    """More remote prefill than all local engines can decode leaves none to prefill."""
    assert throughput.balanced_prefill_engines(8, remote, 1.0, 1.0) == expected


def test_equations_take_arrays() -> None:
    """Every element is what it would be alone."""
    share = np.array([0.0, 0.5, 1.0])
    found = throughput.served_requests_s(np.array([2.0, 2.0, 2.0]), 3.0, 5.0, share)
    assert np.asarray(found).tolist() == [3.0, 4.0, 2.0]
