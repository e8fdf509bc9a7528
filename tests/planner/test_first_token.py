"""The distribution of prefill seconds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.planner.first_token import prefill_seconds
from prfaas.planner.hardware import Hardware
from prfaas.planner.workload import Workload
from tests.planner import cases


def test_by_hand() -> None:
    """Three in four take 0.2 s locally; the fourth takes 1 s remotely, or 2 s locally."""
    found = prefill_seconds(cases.hardware(), cases.workload(), 5000)
    assert list(found.quantiles_s(np.array([0.0, 0.5, 0.75, 0.76, 1.0]))) == pytest.approx([0.2, 0.2, 0.2, 1.0, 1.0])
    assert found.mean_s == pytest.approx(0.4)
    assert prefill_seconds(cases.hardware(), cases.workload(), math.inf).quantile_s(0.9) == pytest.approx(2.0)


@settings(max_examples=30, deadline=None)
@given(cases.hardwares, cases.workloads, st.floats(0.0, 150_000.0))
def test_quantiles_rise_within_the_extremes(hardware: Hardware, workload: Workload, threshold: float) -> None:
    """And the mean lies between them."""
    found = prefill_seconds(hardware, workload, threshold)
    quantiles = found.quantiles_s(np.linspace(0, 1, 21))
    assert np.all(np.diff(quantiles) >= 0)
    assert quantiles[0] * (1 - 1e-9) <= found.mean_s <= quantiles[-1] * (1 + 1e-9)
